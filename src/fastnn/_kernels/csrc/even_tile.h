/* The register tile where pixels lie evenly: a row of them times filters.
 *
 *     y[q, k] = f( bias[k] + sum_{r, j} x_r[q step + j] filters[k / NR][r, j, k % NR] )     j < run
 *
 * So lie the rows of a matrix, the pixels of a 1 x 1 filter, and those of an image of few channels, where a filter's
 * row is one run of numbers. It is gemm_tile.h's product with sums so short that the tables of rows would take as
 * long as they: here the distance from pixel to pixel is all there is to know. The pixels are taken MR at a time, or
 * more while many are left, if one vector of filters leaves registers; where these do not divide Q, the last tile
 * begins with outputs that are there already. A sum runs in gemm_tile.h's order.
 *
 * Where they are far, those `elements_ahead` are fetched meanwhile, lest they come from memory only when they are
 * wanted: 16 x 96 x 56 x 56 -> 24, 1 x 1 3.9 -> 2.8 ms. Where several panels write outputs, and so none of them line
 * after line, these are fetched four tiles on, in a loop: written out it would take registers from the sums (Zen 5,
 * AVX-512, 16 x 16 x 112 x 112 -> 96 3.8 -> 3.3 ms).
 *
 * `past`: outputs are written past the caches, but those of a panel of one vector, which gain nothing. On a Sapphire
 * Rapids 16 x 16 x 112 x 112 -> 96, 1 x 1, takes .6 of the time, 16 x 3 x 224 x 224 -> 32, 3 x 3 with stride 2, .8 to
 * .9, 16 x 24 x 56 x 56 -> 144 .86 to .98; on a Zen the products hide that a line is read before it is written.
 *
 * AVX2 on Zen 3, one thread, before and after, us: 32 x 1 x 28 x 28 -> 32, 3 x 3 423 -> 284; one image -> 6, 5 x 5
 * 11.5 -> 7.2; 3 x 224 x 224 -> 32, 3 x 3 with stride 2 499 -> 281; -> 64, 3 x 3 2495 -> 2050; -> 64, 7 x 7 with
 * stride 2 2540 -> 2510. Two steps at a turn are 44 instructions, one was 24. Neither bias nor bound is held in
 * registers from tile to tile: GCC would spill a sum for it, which costs 9 % of MobileNetV2. Sums that begin by the
 * loop of tile_start, unrolled over the vectors, cost 4 % of short 1 x 1 convolutions beside the one below. A tile of
 * short sums is as much about addresses: those of the outputs are found anew when the sums are there, for GCC would
 * keep a dozen of them in memory meanwhile, and a line is asked for once (32 x 1 x 28 x 28 -> 32 .87 of the time, 3 ->
 * 64 .94, nine such shapes .95).
 */
#define TALL (MR < 8 ? 2 * MR : MR)

/* Number j of the pixels times its filters, for every sum. Pixel i begins at base[i / 3] + i % 3 * step: few registers,
 * for an index has a scale of 1 or 2. */
INLINE void NAME(even_step)(int rows, int vectors, const real *const *base, ptrdiff_t step, ptrdiff_t j,
                            const real *filter, vec *sum) {
    vec f[NV];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) f[v] = load(filter + v * VLEN);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        NAME(add_multiple)(vectors > 1, vectors, base[i / 3][j + i % 3 * step], f, sum + i * NV);
}

/* Outputs q .. q + rows - 1 at one panel of filters, of which `vectors` are used, the last perhaps in part. The first
 * `there` of the outputs are left alone. */
INLINE void NAME(even_tile)(const fnn_row *t, int rows, int vectors, ptrdiff_t q, ptrdiff_t there, ptrdiff_t k,
                            const real *filter) {
    const ptrdiff_t step = t->stride * t->x_pixel, left = t->channels - k;
    const int past = PAST_CACHES && vectors > 1 && t->past;
    real *y = (real *)t->y + q * t->y_pixel + k;
    vec sum[TALL * NV], from[NV] = {0};
    for (int v = 0; v < vectors && t->bias; v++)
        from[v] = NAME(load_first)((const real *)t->bias + k + v * VLEN, left - v * VLEN);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sum[i * NV + v] = from[v];
            if (!past && v * VBYTES % 64 == 0) __builtin_prefetch(y + i * t->y_pixel + v * VLEN, 1);
        }
    if (t->accumulate)
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i * NV + v] += NAME(load_first)(y + i * t->y_pixel + v * VLEN, left - v * VLEN);
    for (ptrdiff_t r = 0; r < t->r; r++) {
        const real *base[(TALL + 2) / 3];
#pragma GCC unroll 5
        for (int b = 0; b < (rows + 2) / 3; b++) base[b] = (const real *)t->rows[r] + (q + 3 * b) * step;
        const real *next = base[0] + t->elements_ahead;
        for (ptrdiff_t j = 0; j < t->group;) {
            const ptrdiff_t stop = t->elements_ahead ? NAME(fetch_stop)(j, t->group) : t->group;
            if (t->elements_ahead) next = NAME(fetch)(next, (stop - j) * rows);
            for (; MR < 8 && j + 1 < stop; j += 2, filter += 2 * NR)
#pragma GCC unroll 2
                for (int s = 0; s < 2; s++)
                    NAME(even_step)(rows, vectors, base, step, j + s, filter + s * NR, sum);
            for (; j < stop; j++, filter += NR) NAME(even_step)(rows, vectors, base, step, j, filter, sum);
        }
    }
    NAME(bound_sums)(rows, vectors, t->relu, sum);
    __asm__("" : "+r"(y)); /* y, as far as GCC knows, is another now */
    if (vectors > 1 && !past && t->elements_ahead && t->channels > NR)
#pragma GCC unroll 1
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                if (v * VBYTES % 64 == 0) __builtin_prefetch(y + (4 * MR + i) * t->y_pixel + v * VLEN, 1);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        if (i < there) continue;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            if (past)
                NAME(store_past)(y + i * t->y_pixel + v * VLEN, sum[i * NV + v]);
            else
                NAME(store_first)(y + i * t->y_pixel + v * VLEN, sum[i * NV + v], left - v * VLEN);
    }
}

/* All outputs at one panel: `rows` at a time, if there are so many, while more than MR are left. */
INLINE void NAME(even_panel)(const fnn_row *t, int rows, int vectors, ptrdiff_t k, const real *filter) {
    ptrdiff_t q = 0;
    for (; rows > MR && t->q >= rows && t->q - q > MR; q += rows) {
        const ptrdiff_t first = q + rows <= t->q ? q : t->q - rows;
        NAME(even_tile)(t, rows, vectors, first, q - first, k, filter);
    }
    for (; q < t->q; q += MR) {
        const ptrdiff_t first = q + MR <= t->q ? q : t->q - MR;
        NAME(even_tile)(t, MR, vectors, first, q - first, k, filter);
    }
}

/* A row of at least MR outputs; no input row may be missing. */
static void NAME(even_row)(const fnn_row *task) {
    const fnn_row t = *task; /* a copy, which no store to y can change */
    const real *filter = t.filters;
    ptrdiff_t k = 0;
    for (; t.channels - k > VLEN; k += NR, filter += t.filter_step) NAME(even_panel)(&t, MR, NV, k, filter);
    if (t.channels > k) NAME(even_panel)(&t, TALL, 1, k, filter);
}
#undef TALL
