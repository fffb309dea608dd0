/* Winograd's tiles of 4 x 4 outputs (winograd.h) of images of three channels: four rows of outputs at a time.
 *
 * Sums of three terms are too short for V, M and y to pass through memory: of the 432 multiply-adds that a tile of
 * direct sums takes, 108 are left, and the transforms of outputs are 80 instructions. So V of some tiles, which lie
 * evenly, is all there is in L1, beside what A^T has made of the columns of M, for one vector of filters:
 *
 *     V = B^T d B               down the columns of the image, whole vectors of its rows; then along the rows, as if a
 *                               tile began at every number: no vector is cut, and three quarters are not used
 *     for each vector of filters
 *         for each column j     U[:][j] stays in 18 registers while the tiles pass
 *             Z[j] = A^T (V[:][j] U[:][j])
 *         y = f(Z A + bias)
 *
 * Zen 5, one thread, 3 x 224 x 224 -> 64, direct sums and strips: an image .74 -> .47 ms (AVX2 1.32 -> .92), 16 images
 * 13.0 -> 9.3 (22.1 -> 16.3). Outputs are fetched while their products are made, those of 16 images else 1.4 times as
 * long; where they would fill the caches, and a vector is a line, they are written past them, .77 of the time.
 */
#define STRIP_PIXEL FNN_STRIP_CHANNELS
#define STRIP_TILE (4 * STRIP_PIXEL) /* numbers from one tile's inputs to the next's */
#define STRIP_ROW (FNN_STRIP_TILES * STRIP_TILE)

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

/* Z[t][a][j] of a vector of filters: `u` points at these in the first matrix. Outputs are fetched meanwhile. */
INLINE void NAME(strip_products)(const fnn_strip *s, ptrdiff_t tiles, const real *v, const real *u, const real *y,
                                 vec *z) {
    for (int j = 0; j < 6; j++, u += s->factor, v += 6 * STRIP_ROW) {
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
#pragma GCC unroll 3
                for (int c = 1; c < STRIP_PIXEL; c++) m[i] += x[i * STRIP_ROW + c] * factors[i * STRIP_PIXEL + c];
            }
            NAME(winograd_at)(6, m, z + 24 * t + j, 6);
            if (j < 4 && !s->past)
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++) __builtin_prefetch(y + j * s->y_row + (4 * t + b) * s->y_pixel, 1);
        }
    }
}

/* The outputs of `tiles` tiles, `inside` of each row of them inside the image; `left` filters from these on. `plain`:
 * all are to be stored, as they are. */
INLINE void NAME(strip_outputs)(const fnn_strip *s, int plain, ptrdiff_t tiles, ptrdiff_t inside, const vec *z,
                                vec bias, ptrdiff_t left, real *y) {
    const ptrdiff_t pixel = s->y_pixel;
    const int rows = plain ? 4 : s->rows, relu = s->relu, past = VBYTES == 64 && s->past;
#pragma GCC unroll 1
    for (ptrdiff_t t = 0; t < tiles; t++, z += 24, y += 4 * pixel, inside -= 4) {
        real *to = y;
#pragma GCC unroll 1
        for (int a = 0; a < rows; a++, to += s->y_row) {
            vec out[4];
            NAME(winograd_at)(6, z + 6 * a, out, 1);
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) out[b] += bias;
            if (!plain && s->accumulate)
                for (int b = 0; b < 4 && b < inside; b++) out[b] += NAME(load_first)(to + b * pixel, left);
            if (relu)
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++) out[b] = NAME(rectify)(out[b], relu);
            if (plain && past)
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++) NAME(store_past)(to + b * pixel, out[b]);
            else if (plain)
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++) store(to + b * pixel, out[b]);
            else
                for (int b = 0; b < 4 && b < inside; b++) NAME(store_first)(to + b * pixel, out[b], left);
        }
    }
}

static void NAME(winograd_strip)(const fnn_strip *strip) {
    const fnn_strip s = *strip; /* a copy, which no store to y can change */
    real v[36 * STRIP_ROW];
    vec z[24 * FNN_STRIP_TILES];
    for (ptrdiff_t q = 0; q < s.q; q += 4 * FNN_STRIP_TILES) {
        const ptrdiff_t inside = s.q - q < 4 * FNN_STRIP_TILES ? s.q - q : 4 * FNN_STRIP_TILES;
        const ptrdiff_t tiles = (inside + 3) / 4;
        NAME(strip_inputs)(&s, (const real *)s.x + q * STRIP_PIXEL, v);
        for (ptrdiff_t k = 0; k < s.filters; k += VLEN) {
            const ptrdiff_t left = s.filters - k;
            const vec bias = s.bias ? NAME(load_first)((const real *)s.bias + k, left) : (vec){0};
            real *y = (real *)s.y + q * s.y_pixel + k;
            NAME(strip_products)(&s, tiles, v, (const real *)s.u + k / NR * NR * STRIP_PIXEL + k % NR, y, z);
            if (s.rows == 4 && inside % 4 == 0 && left >= VLEN && !s.accumulate)
                NAME(strip_outputs)(&s, 1, tiles, inside, z, bias, left, y);
            else
                NAME(strip_outputs)(&s, 0, tiles, inside, z, bias, left, y);
        }
    }
    if (s.past) NAME(stored_past)();
}
#undef STRIP_PIXEL
#undef STRIP_TILE
#undef STRIP_ROW
