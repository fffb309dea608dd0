/* Transposition of a matrix, VLEN x VLEN at a time in registers. */

/* Exchange the off-diagonal quarters of every 2 s x 2 s block of rows i and i + s: with s = VLEN / 2, ..., 2, 1
 * in turn, rows become columns. */
INLINE void NAME(exchange)(vec *row, int s) {
    mask low, high;
#pragma GCC unroll 16
    for (int lane = 0; lane < VLEN; lane++) {
        low[lane] = lane & s ? VLEN + lane - s : lane;
        high[lane] = lane & s ? VLEN + lane : lane + s;
    }
#pragma GCC unroll 16
    for (int i = 0; i < VLEN; i++) {
        if (i & s) continue;
        const vec a = row[i], b = row[i + s];
        row[i] = permute2(a, b, low);
        row[i + s] = permute2(a, b, high);
    }
}

/* dst[j * dst_stride + i] = src[i * src_stride + j], i < VLEN, j < VLEN. The rounds are written out: in a loop GCC
 * makes the tables of lanes anew each time (AVX2, a weight of 400 x 120 packed: 65 us, so 13). */
static NOINLINE void NAME(transpose_whole)(const real *src, ptrdiff_t src_stride, real *dst, ptrdiff_t dst_stride) {
    vec row[VLEN];
#pragma GCC unroll 16
    for (int i = 0; i < VLEN; i++) row[i] = load(src + i * src_stride);
    if (VLEN > 8) NAME(exchange)(row, 8);
    if (VLEN > 4) NAME(exchange)(row, 4);
    if (VLEN > 2) NAME(exchange)(row, 2);
    NAME(exchange)(row, 1);
#pragma GCC unroll 16
    for (int j = 0; j < VLEN; j++) store(dst + j * dst_stride, row[j]);
}

/* The same for i < m, j < n, of which VLEN at most are taken. */
static NOINLINE void NAME(transpose_part)(ptrdiff_t m, ptrdiff_t n, const real *src, ptrdiff_t src_stride, real *dst,
                                          ptrdiff_t dst_stride) {
    real from[VLEN * VLEN], to[VLEN * VLEN];
    for (int i = 0; i < VLEN; i++) store(from + i * VLEN, i < m ? NAME(load_first)(src + i * src_stride, n) : (vec){0});
    NAME(transpose_whole)(from, VLEN, to, VLEN);
    for (int j = 0; j < VLEN && j < n; j++) NAME(store_first)(dst + j * dst_stride, load(to + j * VLEN), m);
}

/* dst[j * m + i] = src[i * src_stride + j] for VLEN of j: the pixels of m planes, m 2, 3 or 4. Each vector of
 * pixels takes the lanes of one plane after the other. */
INLINE void NAME(interleave_block)(int m, const real *src, ptrdiff_t src_stride, real *dst) {
#pragma GCC unroll 4
    for (int v = 0; v < m; v++) {
        vec pixels = load(src);
#pragma GCC unroll 4
        for (int i = 1; i < m; i++) {
            mask from;
            for (int lane = 0; lane < VLEN; lane++) {
                const int place = v * VLEN + lane, plane = place % m, pixel = place / m;
                from[lane] = plane == i ? VLEN + pixel : i == 1 ? pixel : lane;
            }
            pixels = permute2(pixels, load(src + i * src_stride), from);
        }
        store(dst + v * VLEN, pixels);
    }
}

INLINE void NAME(interleave)(int m, ptrdiff_t n, const real *src, ptrdiff_t src_stride, real *dst) {
    ptrdiff_t j = 0;
    for (; j + VLEN <= n; j += VLEN) NAME(interleave_block)(m, src + j, src_stride, dst + j * m);
    for (; j < n; j++)
        for (int i = 0; i < m; i++) dst[j * m + i] = src[i * src_stride + j];
}

/* dst[j * dst_stride + i] = src[i * src_stride + j], i < m, j < n. */
static void NAME(transpose)(ptrdiff_t m, ptrdiff_t n, const void *src_, ptrdiff_t src_stride, void *dst_,
                            ptrdiff_t dst_stride) {
    switch (dst_stride == m ? m : 0) {
    case 2: NAME(interleave)(2, n, src_, src_stride, dst_); return;
    case 3: NAME(interleave)(3, n, src_, src_stride, dst_); return;
    case 4: NAME(interleave)(4, n, src_, src_stride, dst_); return;
    }
    for (ptrdiff_t i = 0; i < m; i += VLEN)
        for (ptrdiff_t j = 0; j < n; j += VLEN) {
            const real *block = (const real *)src_ + i * src_stride + j;
            real *to = (real *)dst_ + j * dst_stride + i;
            if (m - i >= VLEN && n - j >= VLEN)
                NAME(transpose_whole)(block, src_stride, to, dst_stride);
            else
                NAME(transpose_part)(m - i, n - j, block, src_stride, to, dst_stride);
        }
}
