/* The transforms of Winograd's algorithm for 3 x 3 filters (Lavin and Gray, "Fast algorithms for convolutional
 * neural networks", 2015):
 *
 *     Y = A^T [ (G g G^T) * (B^T d B) ] A      d: SIZE x SIZE inputs, g: 3 x 3 filter, Y: the tile of outputs
 *
 *     SIZE   stride   outputs   products   of the direct sum
 *       6       1      4 x 4       36            144
 *       4       1      2 x 2       16             36   no gradient of filters
 *       9       2      4 x 4       81            144
 *       5       2      2 x 2       25             36
 *
 * With stride 2, y[i] = (g[0] d[2i] + g[2] d[2i + 2]) + g[1] d[2i + 1]: a filter of two taps on the even inputs,
 * of which M outputs take M + 1 products, and one of a single tap on the odd ones, M products. The even ones come
 * first. All products of odd inputs have the same factor g[1], so that G g has M + 2 numbers, as with stride 1.
 *
 * SIZE is a constant wherever it counts. Vectors run along channels: each transform is a few additions of whole
 * pixels. The products are matrix products on the register tile, over the tiles of a block and the channels
 * (winograd.pyx).
 */

/* B^T d: SIZE numbers to as many, `step` apart; interpolation points 0, 1, -1, (2, -2) and infinity; of the even inputs
 * with stride 2 0, 1, (-1, 2) and infinity. */
INLINE void NAME(winograd_bt)(int size, const vec *d, vec *v, int step) {
    const vec d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3];
    if (size == 4) {
        v[0] = d0 - d2;
        v[step] = d1 + d2;
        v[2 * step] = d2 - d1;
        v[3 * step] = d1 - d3;
        return;
    }
    const vec d4 = d[4];
    if (size == 5) {
        v[0] = d0 - d2;
        v[step] = d2;
        v[2 * step] = d4 - d2;
        v[3 * step] = d1;
        v[4 * step] = d3;
        return;
    }
    const vec d5 = d[5];
    if (size == 6) {
        const vec even1 = d4 - 4 * d2, odd1 = d3 - 4 * d1;
        const vec even2 = d4 - d2, odd2 = 2 * (d3 - d1);
        v[0] = 4 * d0 - 5 * d2 + d4;
        v[step] = even1 + odd1;
        v[2 * step] = even1 - odd1;
        v[3 * step] = even2 + odd2;
        v[4 * step] = even2 - odd2;
        v[5 * step] = 4 * d1 - 5 * d3 + d5;
        return;
    }
    const vec d6 = d[6], near = d6 - d4, far = d6 - d2;
    v[0] = 2 * (d0 - d4) + far;
    v[step] = near - 2 * d2;
    v[2 * step] = near - 2 * (d4 - d2);
    v[3 * step] = far;
    v[4 * step] = d[8] - d4 - 2 * far;
    v[5 * step] = d1;
    v[6 * step] = d3;
    v[7 * step] = d5;
    v[8 * step] = d[7];
}

/* A^T m: SIZE numbers to those of outputs, `step` apart. */
INLINE void NAME(winograd_at)(int size, const vec *m, vec *y, int step) {
    if (size == 5) {
        y[0] = m[0] + m[1] + m[3];
        y[step] = m[1] + m[2] + m[4];
        return;
    }
    const vec sum1 = m[1] + m[2], dif1 = m[1] - m[2];
    if (size == 4) {
        y[0] = m[0] + sum1;
        y[step] = dif1 - m[3];
        return;
    }
    if (size == 6) {
        const vec sum2 = m[3] + m[4], dif2 = m[3] - m[4];
        y[0] = m[0] + sum1 + sum2;
        y[step] = dif1 + 2 * dif2;
        y[2 * step] = sum1 + 4 * sum2;
        y[3 * step] = dif1 + 8 * dif2 + m[5];
        return;
    }
    y[0] = m[0] + sum1 + m[3] + m[5];
    y[step] = dif1 + 2 * m[3] + m[6];
    y[2 * step] = sum1 + 4 * m[3] + m[7];
    y[3 * step] = dif1 + 8 * m[3] + m[4] + m[8];
}

/* G g: three numbers to the factors of the products, `step` apart. */
INLINE void NAME(winograd_g)(int size, const vec *g, vec *u, int step) {
    const vec a = g[0], b = g[1], c = g[2];
    if (size == 4) {
        const vec even = (a + c) * (real)0.5, odd = b * (real)0.5;
        u[0] = a;
        u[step] = even + odd;
        u[2 * step] = even - odd;
        u[3 * step] = c;
    } else if (size == 5) {
        u[0] = a;
        u[step] = a + c;
        u[2 * step] = c;
        u[3 * step] = b;
    } else if (size == 6) {
        const vec near = (a + c) * (real)(-1.0 / 6), far = (a + 4 * c) * (real)(1.0 / 24);
        const vec odd1 = b * (real)(1.0 / 6), odd2 = b * (real)(1.0 / 12);
        u[0] = a * (real)0.25;
        u[step] = near - odd1;
        u[2 * step] = near + odd1;
        u[3 * step] = far + odd2;
        u[4 * step] = far - odd2;
        u[5 * step] = c;
    } else {
        u[0] = a * (real)0.5;
        u[step] = (a + c) * (real)-0.5;
        u[2 * step] = (c - a) * (real)(1.0 / 6);
        u[3 * step] = (a + 2 * c) * (real)(1.0 / 6);
        u[4 * step] = c;
        u[5 * step] = b;
    }
}

INLINE void NAME(winograd_input_lane)(int size, const void *const *pixels, ptrdiff_t n, ptrdiff_t c,
                                      void *const *v) {
    vec t[FNN_TILE_SIZE * FNN_TILE_SIZE], line[FNN_TILE_SIZE];
    for (int j = 0; j < size; j++) {
#pragma GCC unroll 9
        for (int i = 0; i < size; i++) line[i] = NAME(load_first)((const real *)pixels[i * size + j] + c, n);
        NAME(winograd_bt)(size, line, t + j, size);
    }
    for (int i = 0; i < size; i++) {
        NAME(winograd_bt)(size, t + i * size, line, 1);
#pragma GCC unroll 9
        for (int j = 0; j < size; j++) NAME(store_first)((real *)v[i * size + j] + c, line[j], n);
    }
}

INLINE void NAME(winograd_input_tile)(int size, const void *const *pixels, ptrdiff_t channels, void *const *v) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= channels; c += VLEN)
        NAME(winograd_input_lane)(size, pixels, VLEN, c, v);
    if (c < channels) NAME(winograd_input_lane)(size, pixels, channels - c, c, v);
}

/* v[i][c] = (B^T d B)_i of channel c; `pixels` points at the SIZE x SIZE pixels of one tile. */
static void NAME(winograd_input)(int size, const void *const *pixels, ptrdiff_t channels, void *const *v) {
    switch (size) {
    case 4: NAME(winograd_input_tile)(4, pixels, channels, v); break;
    case 5: NAME(winograd_input_tile)(5, pixels, channels, v); break;
    case 6: NAME(winograd_input_tile)(6, pixels, channels, v); break;
    default: NAME(winograd_input_tile)(9, pixels, channels, v);
    }
}

INLINE void NAME(winograd_output_lane)(int size, const void *const *m, ptrdiff_t k, ptrdiff_t n, vec bias,
                                       int accumulate, int relu, void *const *pixels) {
    const int outputs = fnn_tile_outputs(size);
    vec t[FNN_TILE_OUTPUTS * FNN_TILE_SIZE], line[FNN_TILE_SIZE], y[FNN_TILE_OUTPUTS];
    for (int j = 0; j < size; j++) {
#pragma GCC unroll 9
        for (int i = 0; i < size; i++) line[i] = NAME(load_first)((const real *)m[i * size + j] + k, n);
        NAME(winograd_at)(size, line, t + j, size);
    }
    for (int i = 0; i < outputs; i++) {
        NAME(winograd_at)(size, t + i * size, y, 1);
#pragma GCC unroll 4
        for (int j = 0; j < outputs; j++) {
            real *to = pixels[i * outputs + j];
            if (!to) continue;
            vec out = y[j] + bias;
            if (accumulate) out += NAME(load_first)(to + k, n);
            NAME(store_first)(to + k, NAME(rectify)(out, relu), n);
        }
    }
}

INLINE void NAME(winograd_output_tile)(int size, const void *const *m, ptrdiff_t filters, const real *bias,
                                       int accumulate, int relu, void *const *pixels) {
    ptrdiff_t k = 0;
    for (; k + VLEN <= filters; k += VLEN)
        NAME(winograd_output_lane)(size, m, k, VLEN, bias ? load(bias + k) : (vec){0}, accumulate, relu, pixels);
    if (k < filters)
        NAME(winograd_output_lane)(size, m, k, filters - k,
                                   bias ? load_part(bias + k, filters - k) : (vec){0}, accumulate, relu,
                                   pixels);
}

/* The pixels of one tile from its products m[i][k]; a pixel outside the image is NULL. */
static void NAME(winograd_output)(int size, const void *const *m, ptrdiff_t filters, const void *bias,
                                  int accumulate, int relu, void *const *pixels) {
    switch (size) {
    case 4: NAME(winograd_output_tile)(4, m, filters, bias, accumulate, relu, pixels); break;
    case 5: NAME(winograd_output_tile)(5, m, filters, bias, accumulate, relu, pixels); break;
    case 6: NAME(winograd_output_tile)(6, m, filters, bias, accumulate, relu, pixels); break;
    default: NAME(winograd_output_tile)(9, m, filters, bias, accumulate, relu, pixels);
    }
}

INLINE void NAME(winograd_filter_lane)(int size, const real *g, ptrdiff_t tap, real *u, ptrdiff_t stride) {
    const int factors = fnn_tile_factors(size);
    vec t[3 * FNN_TILE_FACTORS], line[FNN_TILE_FACTORS];
    for (int j = 0; j < 3; j++) {
        for (int i = 0; i < 3; i++) line[i] = load(g + (3 * i + j) * tap);
        NAME(winograd_g)(size, line, t + j, 3);
    }
    for (int i = 0; i < factors; i++) {
        NAME(winograd_g)(size, t + 3 * i, line, 1);
#pragma GCC unroll 6
        for (int j = 0; j < factors; j++) store(u + (factors * i + j) * stride, line[j]);
    }
}

/* u[i * stride + j] = (G g G^T)_i of the filters j < n; tap t of filter j is g[t * tap + j]. The run is
 * whole panels, so n is a multiple of VLEN. */
static void NAME(winograd_filter)(int size, const void *g_, ptrdiff_t tap, ptrdiff_t n, void *u_, ptrdiff_t stride) {
    const real *g = g_;
    real *u = u_;
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        switch (size) {
        case 4: NAME(winograd_filter_lane)(4, g + j, tap, u + j, stride); break;
        case 5: NAME(winograd_filter_lane)(5, g + j, tap, u + j, stride); break;
        case 6: NAME(winograd_filter_lane)(6, g + j, tap, u + j, stride); break;
        default: NAME(winograd_filter_lane)(9, g + j, tap, u + j, stride);
        }
    }
}

/* A y: the outputs to SIZE numbers, the transpose of winograd_at. */
INLINE void NAME(winograd_a)(int size, const vec *y, vec *z, int step) {
    const vec y0 = y[0], y1 = y[1];
    z[0] = y0;
    if (size == 5) {
        z[step] = y0 + y1;
        z[2 * step] = y1;
        z[3 * step] = y0;
        z[4 * step] = y1;
        return;
    }
    const vec y2 = y[2], y3 = y[3], even1 = y0 + y2, odd1 = y1 + y3, even2 = y0 + 4 * y2, odd2 = 2 * y1 + 8 * y3;
    z[step] = even1 + odd1;
    z[2 * step] = even1 - odd1;
    z[3 * step] = even2 + odd2;
    if (size == 6) {
        z[4 * step] = even2 - odd2;
        z[5 * step] = y3;
        return;
    }
    z[4 * step] = y3;
    z[5 * step] = y0;
    z[6 * step] = y1;
    z[7 * step] = y2;
    z[8 * step] = y3;
}

INLINE void NAME(winograd_gradient_lane)(int size, const void *const *pixels, ptrdiff_t k, ptrdiff_t n, real *z,
                                         ptrdiff_t stride) {
    const int outputs = fnn_tile_outputs(size);
    vec t[FNN_TILE_SIZE * FNN_TILE_OUTPUTS], line[FNN_TILE_SIZE];
    for (int j = 0; j < outputs; j++) {
#pragma GCC unroll 4
        for (int i = 0; i < outputs; i++) {
            const real *from = pixels[i * outputs + j];
            line[i] = from ? NAME(load_first)(from + k, n) : (vec){0};
        }
        NAME(winograd_a)(size, line, t + j, outputs);
    }
    for (int i = 0; i < size; i++) {
        NAME(winograd_a)(size, t + i * outputs, line, 1);
#pragma GCC unroll 9
        for (int j = 0; j < size; j++) store(z + (size * i + j) * stride, line[j]);
    }
}

/* z = A dY A^T of one tile of the output's gradient, into panels: filter k of product i goes to
 * z[i * stride + k / NR * panel + k % NR]. A pixel outside the image is NULL. */
static void NAME(winograd_gradient)(int size, const void *const *pixels, ptrdiff_t filters, void *z_,
                                    ptrdiff_t panel, ptrdiff_t stride) {
    for (ptrdiff_t k = 0; k < filters; k += VLEN) {
        real *z = (real *)z_ + k / NR * panel + k % NR;
        switch (size) {
        case 5: NAME(winograd_gradient_lane)(5, pixels, k, filters - k, z, stride); break;
        case 6: NAME(winograd_gradient_lane)(6, pixels, k, filters - k, z, stride); break;
        case 9: NAME(winograd_gradient_lane)(9, pixels, k, filters - k, z, stride);
        }
    }
}

/* G^T s: the sums of each factor to three numbers, the transpose of winograd_g. */
INLINE void NAME(winograd_gt)(int size, const vec *s, vec *g, int step) {
    const vec s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
    if (size == 5) {
        g[0] = s0 + s1;
        g[step] = s3;
        g[2 * step] = s1 + s2;
    } else if (size == 6) {
        const vec near = (s1 + s2) * (real)(-1.0 / 6), far = (s3 + s[4]) * (real)(1.0 / 24);
        g[0] = s0 * (real)0.25 + near + far;
        g[step] = (s2 - s1) * (real)(1.0 / 6) + (s3 - s[4]) * (real)(1.0 / 12);
        g[2 * step] = near + 4 * far + s[5];
    } else {
        g[0] = (s0 - s1) * (real)0.5 + (s3 - s2) * (real)(1.0 / 6);
        g[step] = s[5];
        g[2 * step] = s1 * (real)-0.5 + (s2 + 2 * s3) * (real)(1.0 / 6) + s[4];
    }
}

INLINE void NAME(winograd_filter_gradient_lane)(int size, const real *from, ptrdiff_t stride, ptrdiff_t left,
                                                real *to, ptrdiff_t n) {
    const int factors = fnn_tile_factors(size);
    vec t[3 * FNN_TILE_FACTORS], line[FNN_TILE_FACTORS];
    for (int j = 0; j < factors; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < factors; i++) line[i] = load(from + (factors * i + j) * stride);
        NAME(winograd_gt)(size, line, t + j, factors);
    }
    for (int i = 0; i < 3; i++) {
        NAME(winograd_gt)(size, t + factors * i, line, 1);
        for (int j = 0; j < 3; j++) NAME(store_first)(to + (3 * i + j) * n, line[j], left);
    }
}

/* g[t * n + j] = (G^T S G)_t of the sums s[i * stride + j], j < n: the gradient of the filters. Sums are read by whole
 * vectors, beyond n. */
static void NAME(winograd_filter_gradient)(int size, const void *s_, ptrdiff_t stride, ptrdiff_t n, void *g_) {
    const real *s = s_;
    real *g = g_;
    for (ptrdiff_t j = 0; j < n; j += VLEN) {
        switch (size) {
        case 5: NAME(winograd_filter_gradient_lane)(5, s + j, stride, n - j, g + j, n); break;
        case 6: NAME(winograd_filter_gradient_lane)(6, s + j, stride, n - j, g + j, n); break;
        case 9: NAME(winograd_filter_gradient_lane)(9, s + j, stride, n - j, g + j, n);
        }
    }
}
