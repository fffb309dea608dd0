/* A B whose rows are contiguous: packed, or, for a product of few rows, multiplied as it lies. */

/* panels[(j / NR) * panel + i * NR + j % NR] = b[i * stride + j], i < rows, j < n; zeros up to whole panels. Some rows
 * at a time, so that both sides are run through in runs of some lines. */
INLINE void NAME(pack_some)(int rows, ptrdiff_t n, const real *b, ptrdiff_t stride, ptrdiff_t panel, real *to) {
    for (ptrdiff_t j = 0; j < n; j += NR, to += panel)
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++)
                store(to + i * NR + v * VLEN,
                      n - j >= NR ? load(b + i * stride + j + v * VLEN)
                                  : NAME(load_first)(b + i * stride + j + v * VLEN, n - j - v * VLEN));
}
static void NAME(pack_rows)(ptrdiff_t rows, ptrdiff_t n, const void *b_, ptrdiff_t stride, ptrdiff_t panel,
                            void *panels) {
    const real *b = b_;
    real *to = panels;
    for (; rows >= 4; rows -= 4, b += 4 * stride, to += 4 * NR) NAME(pack_some)(4, n, b, stride, panel, to);
    for (; rows > 0; rows--, b += stride, to += NR) NAME(pack_some)(1, n, b, stride, panel, to);
}

/* c[i, j] += x[i][0] b[0, j] + x[i][1] b[1, j] ..., in this order, for one vector of j or, of the last one, n. Nothing
 * branches before all sums are there: GCC else takes a product out of its multiply-add, and rounds twice. */
INLINE void NAME(add_vector)(int rows, int steps, int whole, ptrdiff_t n, const vec *x, const real *b,
                             ptrdiff_t b_stride, real *c, ptrdiff_t c_stride) {
    vec y[4], sum[2];
#pragma GCC unroll 4
    for (int s = 0; s < steps; s++) y[s] = whole ? load(b + s * b_stride) : load_part(b + s * b_stride, n);
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) {
        sum[i] = whole ? load(c + i * c_stride) : load_part(c + i * c_stride, n);
#pragma GCC unroll 4
        for (int s = 0; s < steps; s++) sum[i] += x[i * steps + s] * y[s];
    }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
        if (whole)
            store(c + i * c_stride, sum[i]);
        else
            store_part(c + i * c_stride, sum[i], n);
}
INLINE void NAME(add_steps)(int rows, int steps, ptrdiff_t n, const real *a, ptrdiff_t a_stride, const real *b,
                            ptrdiff_t b_stride, real *c, ptrdiff_t c_stride) {
    vec x[2 * 4];
    ptrdiff_t j = 0;
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int s = 0; s < steps; s++) x[i * steps + s] = splat(a[i * a_stride + s]);
    for (; j + VLEN <= n; j += VLEN) NAME(add_vector)(rows, steps, 1, VLEN, x, b + j, b_stride, c + j, c_stride);
    if (j < n) NAME(add_vector)(rows, steps, 0, n - j, x, b + j, b_stride, c + j, c_stride);
}

/* C += A B, four rows of B at a time: they come from memory once, and lie in L1 for all pairs of rows of A. Sums are in
 * gemm_tile.h's order. */
INLINE void NAME(add_to_rows)(int steps, ptrdiff_t rows, ptrdiff_t n, const real *a, ptrdiff_t a_stride, const real *b,
                              ptrdiff_t b_stride, real *c, ptrdiff_t c_stride) {
    for (; rows >= 2; rows -= 2, a += 2 * a_stride, c += 2 * c_stride)
        NAME(add_steps)(2, steps, n, a, a_stride, b, b_stride, c, c_stride);
    if (rows) NAME(add_steps)(1, steps, n, a, a_stride, b, b_stride, c, c_stride);
}
static void NAME(few_rows)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t n, const void *a_, ptrdiff_t a_stride,
                           const void *b_, ptrdiff_t b_stride, void *c, ptrdiff_t c_stride) {
    const real *a = a_, *b = b_;
    for (; depth >= 4; depth -= 4, a += 4, b += 4 * b_stride)
        NAME(add_to_rows)(4, rows, n, a, a_stride, b, b_stride, c, c_stride);
    for (; depth > 0; depth--, a++, b += b_stride)
        NAME(add_to_rows)(1, rows, n, a, a_stride, b, b_stride, c, c_stride);
}
