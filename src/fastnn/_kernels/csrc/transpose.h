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

/* dst[to[j] + i] = src[from[i] + j], i < VLEN, j < n, of which VLEN at most are taken. The rounds are written out: in a
 * loop GCC makes the tables of lanes anew each time (AVX2, a weight of 400 x 120 packed: 65 us, so 13). */
INLINE void NAME(transpose_block)(ptrdiff_t n, const real *src, const ptrdiff_t *from, real *dst, const ptrdiff_t *to) {
    vec row[VLEN];
#pragma GCC unroll 16
    for (int i = 0; i < VLEN; i++) row[i] = NAME(load_first)(src + from[i], n);
    if (VLEN > 8) NAME(exchange)(row, 8);
    if (VLEN > 4) NAME(exchange)(row, 4);
    if (VLEN > 2) NAME(exchange)(row, 2);
    NAME(exchange)(row, 1);
#pragma GCC unroll 16
    for (int j = 0; j < VLEN; j++)
        if (j < n) store(dst + to[j], row[j]);
}

static NOINLINE void NAME(transpose_whole)(const real *src, const ptrdiff_t *from, real *dst, const ptrdiff_t *to) {
    NAME(transpose_block)(VLEN, src, from, dst, to);
}

/* The same for i < m, j < n, of which VLEN at most are taken. */
static NOINLINE void NAME(transpose_part)(ptrdiff_t m, ptrdiff_t n, const real *src, const ptrdiff_t *from, real *dst,
                                          const ptrdiff_t *to) {
    real whole[VLEN * VLEN], turned[VLEN * VLEN];
    ptrdiff_t rows[VLEN];
    if (m == 1 || n == 1) { /* the ninth tap of a filter of 3 x 3 */
        for (int j = 0; j < VLEN && j < n; j++)
            for (int i = 0; i < VLEN && i < m; i++) dst[to[j] + i] = src[from[i] + j];
        return;
    }
    if (VLEN > 8 && m >= VLEN) { /* nine taps of 16 filters; of 8 lanes eight taps are a whole block */
        NAME(transpose_block)(n, src, from, dst, to);
        return;
    }
    for (int i = 0; i < VLEN; i++) {
        rows[i] = i * VLEN;
        store(whole + i * VLEN, i < m ? NAME(load_first)(src + from[i], n) : (vec){0});
    }
    NAME(transpose_whole)(whole, rows, turned, rows);
    for (int j = 0; j < VLEN && j < n; j++) NAME(store_first)(dst + to[j], load(turned + j * VLEN), m);
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

/* dst[to[j] + i] = src[from[i] + j], i < m, j < n; without a table rows are a stride apart. The blocks of a cache line
 * of dst, or two, come one after the other. */
static void NAME(transpose_rows)(ptrdiff_t m, ptrdiff_t n, const void *src_, ptrdiff_t src_stride,
                                 const ptrdiff_t *from, void *dst_, ptrdiff_t dst_stride, const ptrdiff_t *to) {
    const ptrdiff_t lines = 16;
    ptrdiff_t sources[VLEN], targets[VLEN];
    for (int i = 0; i < VLEN; i++) {
        sources[i] = i * src_stride;
        targets[i] = i * dst_stride;
    }
    for (ptrdiff_t first = 0; first < m; first += lines)
        for (ptrdiff_t j = 0; j < n; j += VLEN)
            for (ptrdiff_t i = first; i < m && i < first + lines; i += VLEN) {
                const real *src = (const real *)src_ + (from ? 0 : i * src_stride) + j;
                real *dst = (real *)dst_ + (to ? 0 : j * dst_stride) + i;
                const ptrdiff_t *rows = from ? from + i : sources, *columns = to ? to + j : targets;
                if (m - i >= VLEN && n - j >= VLEN)
                    NAME(transpose_whole)(src, rows, dst, columns);
                else
                    NAME(transpose_part)(m - i, n - j, src, rows, dst, columns);
            }
}

/* dst[j * dst_stride + i] = src[i * src_stride + j], i < m, j < n. */
static void NAME(transpose)(ptrdiff_t m, ptrdiff_t n, const void *src_, ptrdiff_t src_stride, void *dst_,
                            ptrdiff_t dst_stride) {
    switch (dst_stride == m ? m : 0) {
    case 2: NAME(interleave)(2, n, src_, src_stride, dst_); return;
    case 3: NAME(interleave)(3, n, src_, src_stride, dst_); return;
    case 4: NAME(interleave)(4, n, src_, src_stride, dst_); return;
    }
    NAME(transpose_rows)(m, n, src_, src_stride, NULL, dst_, dst_stride, NULL);
}
