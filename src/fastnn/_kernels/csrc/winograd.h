/* The transforms of Winograd's F(4 x 4, 3 x 3): a 4 x 4 tile of outputs from 36 products where the
 * direct sum takes 144 (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015).
 *
 *     Y = A^T [ (G g G^T) * (B^T d B) ] A      d: 6 x 6 inputs, g: 3 x 3 filter, Y: 4 x 4 outputs
 *
 * Vectors run along channels: each transform is a few additions of whole pixels. The 36 products are
 * matrix products on the register tile, over the tiles of a block and the channels (winograd.pyx).
 */

/* B^T d, the six numbers in place; interpolation points 0, 1, -1, 2, -2 and infinity. */
INLINE void NAME(winograd_bt)(vec *d0, vec *d1, vec *d2, vec *d3, vec *d4, vec *d5) {
    const vec even1 = *d4 - 4 * *d2, odd1 = *d3 - 4 * *d1;
    const vec even2 = *d4 - *d2, odd2 = 2 * (*d3 - *d1);
    const vec first = 4 * *d0 - 5 * *d2 + *d4, last = 4 * *d1 - 5 * *d3 + *d5;
    *d0 = first;
    *d1 = even1 + odd1;
    *d2 = even1 - odd1;
    *d3 = even2 + odd2;
    *d4 = even2 - odd2;
    *d5 = last;
}

/* A^T m: six numbers to four. */
INLINE void NAME(winograd_at)(const vec *m, int step, vec y[4]) {
    const vec sum1 = m[step] + m[2 * step], dif1 = m[step] - m[2 * step];
    const vec sum2 = m[3 * step] + m[4 * step], dif2 = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum1 + sum2;
    y[1] = dif1 + 2 * dif2;
    y[2] = sum1 + 4 * sum2;
    y[3] = dif1 + 8 * dif2 + m[5 * step];
}

/* G g: three numbers to six. */
INLINE void NAME(winograd_g)(vec a, vec b, vec c, vec *u, int step) {
    const vec near = (a + c) * (real)(-1.0 / 6), far = (a + 4 * c) * (real)(1.0 / 24);
    const vec odd1 = b * (real)(1.0 / 6), odd2 = b * (real)(1.0 / 12);
    u[0] = a * (real)0.25;
    u[step] = near - odd1;
    u[2 * step] = near + odd1;
    u[3 * step] = far + odd2;
    u[4 * step] = far - odd2;
    u[5 * step] = c;
}

INLINE void NAME(winograd_input_lane)(const void *const *pixels, ptrdiff_t c, ptrdiff_t n, real *v,
                                      ptrdiff_t stride) {
    vec d[36];
#pragma GCC unroll 36
    for (int i = 0; i < 36; i++) {
        const real *x = (const real *)pixels[i] + c;
        d[i] = n >= VLEN ? load(x) : load_part(x, n);
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++)
        NAME(winograd_bt)(d + j, d + 6 + j, d + 12 + j, d + 18 + j, d + 24 + j, d + 30 + j);
#pragma GCC unroll 6
    for (int i = 0; i < 36; i += 6)
        NAME(winograd_bt)(d + i, d + i + 1, d + i + 2, d + i + 3, d + i + 4, d + i + 5);
#pragma GCC unroll 36
    for (int i = 0; i < 36; i++)
        n >= VLEN ? store(v + i * stride + c, d[i]) : store_part(v + i * stride + c, d[i], n);
}

/* v[i * stride + c] = (B^T d B)_i of channel c, i < 36; `pixels` points at the 36 pixels of one tile. */
static void NAME(winograd_input)(const void *const *pixels, ptrdiff_t channels, void *v,
                                 ptrdiff_t stride) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= channels; c += VLEN)
        NAME(winograd_input_lane)(pixels, c, VLEN, v, stride);
    if (c < channels) NAME(winograd_input_lane)(pixels, c, channels - c, v, stride);
}

INLINE void NAME(winograd_output_lane)(const real *m, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t n,
                                       vec bias, int accumulate, int relu, void *const *pixels) {
    vec d[36], t[24], y[4];
#pragma GCC unroll 36
    for (int i = 0; i < 36; i++)
        d[i] = n >= VLEN ? load(m + i * stride + k) : load_part(m + i * stride + k, n);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        NAME(winograd_at)(d + j, 6, y);
        for (int i = 0; i < 4; i++) t[i * 6 + j] = y[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        NAME(winograd_at)(t + i * 6, 1, y);
        for (int j = 0; j < 4; j++) {
            real *to = pixels[i * 4 + j];
            if (!to) continue;
            vec out = y[j] + bias;
            if (accumulate) out += NAME(load_first)(to + k, n);
            NAME(store_first)(to + k, NAME(rectify)(out, relu), n);
        }
    }
}

/* The 16 pixels of one tile from its 36 products m[i * stride + k]; a pixel outside the image is NULL. */
static void NAME(winograd_output)(const void *m, ptrdiff_t stride, ptrdiff_t filters, const void *bias_,
                                  int accumulate, int relu, void *const *pixels) {
    const real *bias = bias_;
    ptrdiff_t k = 0;
    for (; k + VLEN <= filters; k += VLEN)
        NAME(winograd_output_lane)(m, stride, k, VLEN, bias ? load(bias + k) : (vec){0}, accumulate, relu, pixels);
    if (k < filters)
        NAME(winograd_output_lane)(m, stride, k, filters - k,
                                   bias ? load_part(bias + k, filters - k) : (vec){0}, accumulate, relu,
                                   pixels);
}

/* u[i * stride + j] = (G g G^T)_i of the filters j < n; tap t of filter j is g[t * tap + j]. The run is
 * whole panels, so n is a multiple of VLEN. */
static void NAME(winograd_filter)(const void *g_, ptrdiff_t tap, ptrdiff_t n, void *u_, ptrdiff_t stride) {
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        const real *g = (const real *)g_ + j;
        real *u = (real *)u_ + j;
        vec t[18];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            NAME(winograd_g)(load(g + i * tap), load(g + (3 + i) * tap), load(g + (6 + i) * tap), t + i, 3);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            vec row[6];
            NAME(winograd_g)(t[3 * i], t[3 * i + 1], t[3 * i + 2], row, 1);
#pragma GCC unroll 6
            for (int k = 0; k < 6; k++) store(u + (6 * i + k) * stride, row[k]);
        }
    }
}

/* A y: four numbers to six, the transpose of winograd_at. */
INLINE void NAME(winograd_a)(vec y0, vec y1, vec y2, vec y3, vec *z, int step) {
    const vec even1 = y0 + y2, odd1 = y1 + y3, even2 = y0 + 4 * y2, odd2 = 2 * y1 + 8 * y3;
    z[0] = y0;
    z[step] = even1 + odd1;
    z[2 * step] = even1 - odd1;
    z[3 * step] = even2 + odd2;
    z[4 * step] = even2 - odd2;
    z[5 * step] = y3;
}

/* z = A dY A^T of one tile of the output's gradient, into panels: filter k of product i goes to
 * z[i * stride + k / NR * panel + k % NR]. A pixel outside the image is NULL. */
static void NAME(winograd_gradient)(const void *const *pixels, ptrdiff_t filters, void *z_,
                                    ptrdiff_t panel, ptrdiff_t stride) {
    for (ptrdiff_t k = 0; k < filters; k += VLEN) {
        real *z = (real *)z_ + k / NR * panel + k % NR;
        vec y[16], t[24], row[6];
        for (int i = 0; i < 16; i++) {
            const real *x = (const real *)pixels[i] + k;
            y[i] = !pixels[i] ? (vec){0} : filters - k >= VLEN ? load(x) : load_part(x, filters - k);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) NAME(winograd_a)(y[j], y[4 + j], y[8 + j], y[12 + j], t + j, 4);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            NAME(winograd_a)(t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3], row, 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) store(z + (6 * i + j) * stride, row[j]);
        }
    }
}

/* G^T s: six numbers to three, the transpose of winograd_g. */
INLINE void NAME(winograd_gt)(vec s0, vec s1, vec s2, vec s3, vec s4, vec s5, vec *g, int step) {
    const vec near = (s1 + s2) * (real)(-1.0 / 6), far = (s3 + s4) * (real)(1.0 / 24);
    g[0] = s0 * (real)0.25 + near + far;
    g[step] = (s2 - s1) * (real)(1.0 / 6) + (s3 - s4) * (real)(1.0 / 12);
    g[2 * step] = near + 4 * far + s5;
}

/* g[t * n + j] = (G^T S G)_t of the sums s[i * stride + j], j < n: the gradient of the filters. */
static void NAME(winograd_filter_gradient)(const void *s_, ptrdiff_t stride, ptrdiff_t n, void *g_) {
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        const ptrdiff_t left = n - j;
        vec s[36], t[18], g[9];
        for (int i = 0; i < 36; i++) {
            const real *x = (const real *)s_ + i * stride + j;
            s[i] = left >= VLEN ? load(x) : load_part(x, left);
        }
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            NAME(winograd_gt)(s[i], s[6 + i], s[12 + i], s[18 + i], s[24 + i], s[30 + i], t + i, 6);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            NAME(winograd_gt)(t[6 * i], t[6 * i + 1], t[6 * i + 2], t[6 * i + 3], t[6 * i + 4],
                              t[6 * i + 5], g + 3 * i, 1);
        for (int i = 0; i < 9; i++) {
            real *to = (real *)g_ + i * n + j;
            left >= VLEN ? store(to, g[i]) : store_part(to, g[i], left);
        }
    }
}
