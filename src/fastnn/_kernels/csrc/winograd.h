/* The transforms of Winograd's F(4 x 4, 3 x 3), a 4 x 4 tile of outputs from 36 products where the direct sum
 * takes 144, and of F(2 x 2, 3 x 3), 4 outputs from 16 products for 36 (Lavin and Gray, "Fast algorithms for
 * convolutional neural networks", 2015).
 *
 *     Y = A^T [ (G g G^T) * (B^T d B) ] A      d: SIZE x SIZE inputs, g: 3 x 3 filter, Y: the tile of outputs
 *
 * SIZE is 6 or 4, a constant wherever it counts. Vectors run along channels: each transform is a few additions
 * of whole pixels. The products are matrix products on the register tile, over the tiles of a block and the
 * channels (winograd.pyx).
 */

/* B^T d in place, numbers `step` apart; interpolation points 0, 1, -1, (2, -2) and infinity. */
INLINE void NAME(winograd_bt)(int size, vec *d, int step) {
    const vec d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    if (size == 4) {
        d[0] -= d2;
        d[step] = d1 + d2;
        d[2 * step] = d2 - d1;
        d[3 * step] = d1 - d3;
        return;
    }
    const vec d4 = d[4 * step], d5 = d[5 * step];
    const vec even1 = d4 - 4 * d2, odd1 = d3 - 4 * d1;
    const vec even2 = d4 - d2, odd2 = 2 * (d3 - d1);
    d[0] = 4 * d[0] - 5 * d2 + d4;
    d[step] = even1 + odd1;
    d[2 * step] = even1 - odd1;
    d[3 * step] = even2 + odd2;
    d[4 * step] = even2 - odd2;
    d[5 * step] = 4 * d1 - 5 * d3 + d5;
}

/* A^T m: SIZE numbers, `step` apart, to SIZE - 2. */
INLINE void NAME(winograd_at)(int size, const vec *m, int step, vec *y) {
    const vec sum1 = m[step] + m[2 * step], dif1 = m[step] - m[2 * step];
    if (size == 4) {
        y[0] = m[0] + sum1;
        y[1] = dif1 - m[3 * step];
        return;
    }
    const vec sum2 = m[3 * step] + m[4 * step], dif2 = m[3 * step] - m[4 * step];
    y[0] = m[0] + sum1 + sum2;
    y[1] = dif1 + 2 * dif2;
    y[2] = sum1 + 4 * sum2;
    y[3] = dif1 + 8 * dif2 + m[5 * step];
}

/* G g: three numbers to SIZE. */
INLINE void NAME(winograd_g)(int size, vec a, vec b, vec c, vec *u, int step) {
    if (size == 4) {
        const vec even = (a + c) * (real)0.5, odd = b * (real)0.5;
        u[0] = a;
        u[step] = even + odd;
        u[2 * step] = even - odd;
        u[3 * step] = c;
        return;
    }
    const vec near = (a + c) * (real)(-1.0 / 6), far = (a + 4 * c) * (real)(1.0 / 24);
    const vec odd1 = b * (real)(1.0 / 6), odd2 = b * (real)(1.0 / 12);
    u[0] = a * (real)0.25;
    u[step] = near - odd1;
    u[2 * step] = near + odd1;
    u[3 * step] = far + odd2;
    u[4 * step] = far - odd2;
    u[5 * step] = c;
}

INLINE void NAME(winograd_input_lane)(int size, const void *const *pixels, ptrdiff_t c, ptrdiff_t n, real *v,
                                      ptrdiff_t stride) {
    vec d[36];
#pragma GCC unroll 36
    for (int i = 0; i < size * size; i++) {
        const real *x = (const real *)pixels[i] + c;
        d[i] = n >= VLEN ? load(x) : load_part(x, n);
    }
#pragma GCC unroll 6
    for (int j = 0; j < size; j++) NAME(winograd_bt)(size, d + j, size);
#pragma GCC unroll 6
    for (int i = 0; i < size; i++) NAME(winograd_bt)(size, d + i * size, 1);
#pragma GCC unroll 36
    for (int i = 0; i < size * size; i++)
        n >= VLEN ? store(v + i * stride + c, d[i]) : store_part(v + i * stride + c, d[i], n);
}

INLINE void NAME(winograd_input_tile)(int size, const void *const *pixels, ptrdiff_t channels, void *v,
                                      ptrdiff_t stride) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= channels; c += VLEN)
        NAME(winograd_input_lane)(size, pixels, c, VLEN, v, stride);
    if (c < channels) NAME(winograd_input_lane)(size, pixels, c, channels - c, v, stride);
}

/* v[i * stride + c] = (B^T d B)_i of channel c; `pixels` points at the SIZE x SIZE pixels of one tile. */
static void NAME(winograd_input)(int size, const void *const *pixels, ptrdiff_t channels, void *v,
                                 ptrdiff_t stride) {
    if (size == 4)
        NAME(winograd_input_tile)(4, pixels, channels, v, stride);
    else
        NAME(winograd_input_tile)(6, pixels, channels, v, stride);
}

INLINE void NAME(winograd_output_lane)(int size, const real *m, ptrdiff_t stride, ptrdiff_t k, ptrdiff_t n,
                                       vec bias, int accumulate, int relu, void *const *pixels) {
    const int outputs = size - 2;
    vec d[36], t[24], y[4];
#pragma GCC unroll 36
    for (int i = 0; i < size * size; i++)
        d[i] = n >= VLEN ? load(m + i * stride + k) : load_part(m + i * stride + k, n);
#pragma GCC unroll 6
    for (int j = 0; j < size; j++) {
        NAME(winograd_at)(size, d + j, size, y);
        for (int i = 0; i < outputs; i++) t[i * size + j] = y[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < outputs; i++) {
        NAME(winograd_at)(size, t + i * size, 1, y);
        for (int j = 0; j < outputs; j++) {
            real *to = pixels[i * outputs + j];
            if (!to) continue;
            vec out = y[j] + bias;
            if (accumulate) out += NAME(load_first)(to + k, n);
            NAME(store_first)(to + k, NAME(rectify)(out, relu), n);
        }
    }
}

INLINE void NAME(winograd_output_tile)(int size, const void *m, ptrdiff_t stride, ptrdiff_t filters,
                                       const real *bias, int accumulate, int relu, void *const *pixels) {
    ptrdiff_t k = 0;
    for (; k + VLEN <= filters; k += VLEN)
        NAME(winograd_output_lane)(size, m, stride, k, VLEN, bias ? load(bias + k) : (vec){0}, accumulate, relu,
                                   pixels);
    if (k < filters)
        NAME(winograd_output_lane)(size, m, stride, k, filters - k,
                                   bias ? load_part(bias + k, filters - k) : (vec){0}, accumulate, relu,
                                   pixels);
}

/* The pixels of one tile from its products m[i * stride + k]; a pixel outside the image is NULL. */
static void NAME(winograd_output)(int size, const void *m, ptrdiff_t stride, ptrdiff_t filters, const void *bias,
                                  int accumulate, int relu, void *const *pixels) {
    if (size == 4)
        NAME(winograd_output_tile)(4, m, stride, filters, bias, accumulate, relu, pixels);
    else
        NAME(winograd_output_tile)(6, m, stride, filters, bias, accumulate, relu, pixels);
}

INLINE void NAME(winograd_filter_lane)(int size, const real *g, ptrdiff_t tap, real *u, ptrdiff_t stride) {
    vec t[18];
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++)
        NAME(winograd_g)(size, load(g + i * tap), load(g + (3 + i) * tap), load(g + (6 + i) * tap), t + i, 3);
#pragma GCC unroll 6
    for (int i = 0; i < size; i++) {
        vec row[6];
        NAME(winograd_g)(size, t[3 * i], t[3 * i + 1], t[3 * i + 2], row, 1);
#pragma GCC unroll 6
        for (int k = 0; k < size; k++) store(u + (size * i + k) * stride, row[k]);
    }
}

/* u[i * stride + j] = (G g G^T)_i of the filters j < n; tap t of filter j is g[t * tap + j]. The run is
 * whole panels, so n is a multiple of VLEN. */
static void NAME(winograd_filter)(int size, const void *g, ptrdiff_t tap, ptrdiff_t n, void *u, ptrdiff_t stride) {
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        if (size == 4)
            NAME(winograd_filter_lane)(4, (const real *)g + j, tap, (real *)u + j, stride);
        else
            NAME(winograd_filter_lane)(6, (const real *)g + j, tap, (real *)u + j, stride);
    }
}

/* A y: SIZE - 2 numbers to SIZE, the transpose of winograd_at; y and z are `y_step` and `step` apart. */
INLINE void NAME(winograd_a)(int size, const vec *y, int y_step, vec *z, int step) {
    const vec y0 = y[0], y1 = y[y_step];
    z[0] = y0;
    if (size == 4) {
        z[step] = y0 + y1;
        z[2 * step] = y0 - y1;
        z[3 * step] = -y1;
        return;
    }
    const vec y2 = y[2 * y_step], y3 = y[3 * y_step];
    const vec even1 = y0 + y2, odd1 = y1 + y3, even2 = y0 + 4 * y2, odd2 = 2 * y1 + 8 * y3;
    z[step] = even1 + odd1;
    z[2 * step] = even1 - odd1;
    z[3 * step] = even2 + odd2;
    z[4 * step] = even2 - odd2;
    z[5 * step] = y3;
}

INLINE void NAME(winograd_gradient_lane)(int size, const void *const *pixels, ptrdiff_t k, ptrdiff_t n, real *z,
                                         ptrdiff_t stride) {
    const int outputs = size - 2;
    vec y[16], t[24], row[6];
    for (int i = 0; i < outputs * outputs; i++)
        y[i] = pixels[i] ? NAME(load_first)((const real *)pixels[i] + k, n) : (vec){0};
#pragma GCC unroll 4
    for (int j = 0; j < outputs; j++) NAME(winograd_a)(size, y + j, outputs, t + j, outputs);
#pragma GCC unroll 6
    for (int i = 0; i < size; i++) {
        NAME(winograd_a)(size, t + i * outputs, 1, row, 1);
#pragma GCC unroll 6
        for (int j = 0; j < size; j++) store(z + (size * i + j) * stride, row[j]);
    }
}

/* z = A dY A^T of one tile of the output's gradient, into panels: filter k of product i goes to
 * z[i * stride + k / NR * panel + k % NR]. A pixel outside the image is NULL. */
static void NAME(winograd_gradient)(int size, const void *const *pixels, ptrdiff_t filters, void *z_,
                                    ptrdiff_t panel, ptrdiff_t stride) {
    for (ptrdiff_t k = 0; k < filters; k += VLEN) {
        real *z = (real *)z_ + k / NR * panel + k % NR;
        if (size == 4)
            NAME(winograd_gradient_lane)(4, pixels, k, filters - k, z, stride);
        else
            NAME(winograd_gradient_lane)(6, pixels, k, filters - k, z, stride);
    }
}

/* G^T s: SIZE numbers, `step` apart, to three: the transpose of winograd_g. */
INLINE void NAME(winograd_gt)(int size, const vec *s, int step, vec *g, int g_step) {
    const vec s1 = s[step], s2 = s[2 * step], s3 = s[3 * step];
    if (size == 4) {
        const vec half = (s1 + s2) * (real)0.5;
        g[0] = s[0] + half;
        g[g_step] = (s1 - s2) * (real)0.5;
        g[2 * g_step] = half + s3;
        return;
    }
    const vec s4 = s[4 * step];
    const vec near = (s1 + s2) * (real)(-1.0 / 6), far = (s3 + s4) * (real)(1.0 / 24);
    g[0] = s[0] * (real)0.25 + near + far;
    g[g_step] = (s2 - s1) * (real)(1.0 / 6) + (s3 - s4) * (real)(1.0 / 12);
    g[2 * g_step] = near + 4 * far + s[5 * step];
}

INLINE void NAME(winograd_filter_gradient_lane)(int size, const real *from, ptrdiff_t stride, ptrdiff_t left,
                                                real *to, ptrdiff_t n) {
    vec s[36], t[18], g[9];
    for (int i = 0; i < size * size; i++) s[i] = NAME(load_first)(from + i * stride, left);
#pragma GCC unroll 6
    for (int i = 0; i < size; i++) NAME(winograd_gt)(size, s + i, size, t + i, size);
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) NAME(winograd_gt)(size, t + size * i, 1, g + 3 * i, 1);
    for (int i = 0; i < 9; i++) NAME(store_first)(to + i * n, g[i], left);
}

/* g[t * n + j] = (G^T S G)_t of the sums s[i * stride + j], j < n: the gradient of the filters. */
static void NAME(winograd_filter_gradient)(int size, const void *s, ptrdiff_t stride, ptrdiff_t n, void *g) {
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        if (size == 4)
            NAME(winograd_filter_gradient_lane)(4, (const real *)s + j, stride, n - j, (real *)g + j, n);
        else
            NAME(winograd_filter_gradient_lane)(6, (const real *)s + j, stride, n - j, (real *)g + j, n);
    }
}
