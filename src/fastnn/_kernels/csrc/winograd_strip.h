/* Winograd's tiles of 4 x 4 outputs (winograd.h) of images of three channels: four rows of outputs at a time.
 *
 * Sums of three terms are too short for V, M and y to pass through memory: of the 432 multiply-adds that a tile of
 * direct sums takes, 108 are left, and the transforms of outputs are 80 instructions. So V of some tiles, which lie
 * evenly, is all there is in L1, beside what A^T has made of the columns of M, for two vectors of filters:
 *
 *     V = B^T d B               down the columns of the image, whole vectors of its rows; then along the rows, as if a
 *                               tile began at every number: no vector is cut, and three quarters are not used
 *     for two vectors of filters
 *         for each vector, for each column j
 *             U[:][j] stays in 18 registers while the tiles pass
 *             Z[j] = A^T (V[:][j] U[:][j])
 *         y = f(Z A)            the bias is in M[1][1], which A^T and A add to every output
 *
 * One thread, 3 x 224 x 224 -> 64, direct sums and strips of one vector: Zen 5 an image .74 -> .47 ms (AVX2 1.32 ->
 * .92), 16 images 13.0 -> 9.3 (22.1 -> 16.3). Outputs are 5 to 20 times as many bytes as inputs, so stores decide. Two
 * neighbouring lines of each pixel at once, and pixels fetched just before they are stored, in the order of the stores,
 * take .8 of the time of one line at a time, fetched while products are made (Sapphire Rapids, AVX2 .7; four images,
 * whose outputs are written past the caches, .65). Eight tiles take 1.15 times as long as four: Z then leaves L1.
 */
#define STRIP_PIXEL FNN_STRIP_CHANNELS
#define STRIP_TILE (4 * STRIP_PIXEL) /* numbers from one tile's inputs to the next's */
#define STRIP_ROW (FNN_STRIP_TILES * STRIP_TILE)
#define STRIP_SUMS (FNN_STRIP_TILES * 24) /* vectors of Z, of one vector of filters */

/* V[j][i][t * STRIP_TILE + c], of all tiles. */
INLINE void NAME(strip_inputs)(const fnn_strip *s, const real *x, real *v) {
    real rows[6][STRIP_ROW + FNN_STRIP_BEYOND];
    vec in[6], out[6];
    for (ptrdiff_t k = 0; k < STRIP_ROW + FNN_STRIP_BEYOND; k += VLEN) {
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) in[i] = load(x + i * s->x_row + k);
        NAME(winograd_bt)(6, in, out, 1);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) store(rows[i] + k, out[i]);
    }
    for (int i = 0; i < 6; i++)
        for (ptrdiff_t k = 0; k < STRIP_ROW; k += VLEN) {
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) in[j] = load(rows[i] + k + j * STRIP_PIXEL);
            NAME(winograd_bt)(6, in, out, 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) store(v + (6 * j + i) * STRIP_ROW + k, out[j]);
        }
}

/* Z[t][a][j] of a vector of filters: `u` points at these in the first matrix. */
INLINE void NAME(strip_products)(const fnn_strip *s, ptrdiff_t tiles, const real *v, const real *u, vec bias,
                                 vec *z) {
    for (int j = 0; j < 6; j++, u += s->factor, v += 6 * STRIP_ROW) {
        const vec first = j == 1 ? bias : (vec){0};
        vec factors[6 * STRIP_PIXEL], m[6];
#pragma GCC unroll 18
        for (int i = 0; i < 6 * STRIP_PIXEL; i++)
            factors[i] = load(u + i / STRIP_PIXEL * 6 * s->factor + i % STRIP_PIXEL * NR);
#pragma GCC unroll 1
        for (ptrdiff_t t = 0; t < tiles; t++) {
            const real *x = v + t * STRIP_TILE;
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) {
                m[i] = x[i * STRIP_ROW] * factors[i * STRIP_PIXEL];
                if (i == 1) m[i] += first;
#pragma GCC unroll 3
                for (int c = 1; c < STRIP_PIXEL; c++) m[i] += x[i * STRIP_ROW + c] * factors[i * STRIP_PIXEL + c];
            }
            NAME(winograd_at)(6, m, z + 24 * t + j, 6);
        }
    }
}

/* Four outputs of a row, of a vector of filters: `inside` of them are in the image, and so are `left` filters.
 * `plain`: all are to be stored, as they are. */
INLINE void NAME(strip_pixels)(const fnn_strip *s, int plain, ptrdiff_t inside, ptrdiff_t left, const vec *z, real *y) {
    const ptrdiff_t pixel = s->y_pixel;
    const int past = VBYTES == 64 && s->past;
    vec out[4];
    NAME(winograd_at)(6, z, out, 1);
    if (!past)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) __builtin_prefetch(y + (4 + b) * pixel, 1);
    if (!plain && s->accumulate)
        for (int b = 0; b < 4 && b < inside; b++) out[b] += NAME(load_first)(y + b * pixel, left);
    if (s->relu)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) out[b] = NAME(rectify)(out[b], s->relu);
    if (plain)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) NAME(put)(past, y + b * pixel, out[b]);
    else
        for (int b = 0; b < 4 && b < inside; b++) NAME(store_first)(y + b * pixel, out[b], left);
}

/* The outputs of `tiles` tiles, `inside` of each row of them in the image; `left` filters from these on. */
INLINE void NAME(strip_outputs)(const fnn_strip *s, int plain, ptrdiff_t tiles, ptrdiff_t inside, ptrdiff_t left,
                                const vec *z, real *y) {
    const int rows = plain ? 4 : s->rows;
#pragma GCC unroll 1
    for (ptrdiff_t t = 0; t < tiles; t++, z += 24, y += 4 * s->y_pixel, inside -= 4)
#pragma GCC unroll 1
        for (int a = 0; a < rows; a++) {
            NAME(strip_pixels)(s, plain, inside, left, z + 6 * a, y + a * s->y_row);
            if (left > VLEN)
                NAME(strip_pixels)(s, plain, inside, left - VLEN, z + STRIP_SUMS + 6 * a,
                                   y + a * s->y_row + VLEN);
        }
}

static void NAME(winograd_strip)(const fnn_strip *strip) {
    const fnn_strip s = *strip; /* a copy, which no store to y can change */
    real v[36 * STRIP_ROW];
    vec z[2 * STRIP_SUMS];
    for (ptrdiff_t q = 0; q < s.q; q += 4 * FNN_STRIP_TILES) {
        const ptrdiff_t inside = s.q - q < 4 * FNN_STRIP_TILES ? s.q - q : 4 * FNN_STRIP_TILES;
        const ptrdiff_t tiles = (inside + 3) / 4;
        NAME(strip_inputs)(&s, (const real *)s.x + q * STRIP_PIXEL, v);
        for (ptrdiff_t k = 0; k < s.filters; k += 2 * VLEN) {
            const ptrdiff_t left = s.filters - k;
            real *y = (real *)s.y + q * s.y_pixel + k;
            for (ptrdiff_t i = 0, f = k; i < 2 && f < s.filters; i++, f += VLEN) {
                const vec bias = s.bias ? NAME(load_first)((const real *)s.bias + f, s.filters - f) : (vec){0};
                NAME(strip_products)(&s, tiles, v, (const real *)s.u + f / NR * NR * STRIP_PIXEL + f % NR, bias,
                                     z + i * STRIP_SUMS);
            }
            if (s.rows == 4 && inside % 4 == 0 && (left == VLEN || left >= 2 * VLEN) && !s.accumulate)
                NAME(strip_outputs)(&s, 1, tiles, inside, left, z, y);
            else
                NAME(strip_outputs)(&s, 0, tiles, inside, left, z, y);
        }
    }
}
#undef STRIP_PIXEL
#undef STRIP_TILE
#undef STRIP_ROW
#undef STRIP_SUMS
