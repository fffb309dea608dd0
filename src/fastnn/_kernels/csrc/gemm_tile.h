/* The register tile: the general matrix product under convolution, Linear and the recurrences.
 *
 *     C[i, j] = f( bias[j] + sum_k A(i, k) B[k, j] )      i < rows, j < columns
 *
 * MR x NR sums stay in registers while k runs; each step loads one row of B (NV vectors) and
 * broadcasts one element of each row of A. A is never copied: its rows are reached through
 * pointers, so the same kernel walks a matrix, the pixels under a strided, padded, dilated filter
 * tap (a row of padding points at zeros), or a transposed operand. B is packed in panels of NR
 * columns, zero-filled at the end; times a transposed A it may lie as it is, in whole vectors: a
 * panel is read as NR columns, the last one as VLEN where no more are left. Sums run over k in
 * order whatever the tile's height, so a row's bits do not depend on which tile it fell into.
 *
 * `rows`, `vectors` and `panels` are constants in every instance below: the loops unroll completely
 * and the array of sums lives in registers (GCC 12, AVX-512, 14 x 32: 28 of the 32; measured at
 * 117 GFLOP/s on a 3.66 GHz Zen 4, whose peak that is).
 */
#define NR (NV * VLEN)

/* B is fetched so many steps of k ahead, from L2 or L3, while the multipliers are busy. Not with few rows: the
 * loads are then all there is to do, and fetching twice made one row of 1024 x 1024 a third slower; four rows of it
 * take .88 of the time for it, of 4096 x 4096 .84 (Zen 5, AVX-512). */
#define AHEAD(rows) (16 * MR / (rows))

/* Two steps at a turn, written out (GCC unrolls no loop whose end is found anew every FETCH_STEPS), for the heights
 * that do most of the work: 25 instructions a step of 6 rows are 23. A processor of its own computes little faster for
 * it, AVX2, but one that is shared with another's thread and starts 3 a cycle does: ResNet-50, one thread, 106 -> 96 ms
 * in such hours, MobileNetV2 12.0 -> 11.0; AVX-512, 8 rows 102 -> 111 GFLOP/s. Of four steps GCC spills sums. */
#define PAIRED(rows, vectors) ((vectors) == NV && (MR < 8 ? (rows) > 4 : (rows) == 8))

/* Of the rows of a tall tile, those whose addresses fit the registers beside k and b. */
#define HELD_ROWS 12

/* What is wanted next from L3 or memory is asked for a few lines at a time, every so many steps: an instruction more in
 * each step costs 2 % where it is of no use, 4 % where another thread shares the processor. */
#define FETCH_STEPS 16
INLINE ptrdiff_t NAME(fetch_stop)(ptrdiff_t k, ptrdiff_t end) { return end - k > FETCH_STEPS ? k + FETCH_STEPS : end; }
/* Ask for n numbers from x on; returns where they end. */
INLINE const real *NAME(fetch)(const real *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += 64 / (ptrdiff_t)sizeof(real)) __builtin_prefetch(x + i, 0, 2);
    return x + n;
}

/* One row's sums of a step: sum[v] += x b[v]. Where a loop has two steps (even_tile.h: or one, with AVX-512), an empty
 * instruction needs the factors once more, so that a sum takes the place of none of them: GCC else moves sums about, or
 * factors, some to memory and back. Of 16 registers none is left to say so of b, too. */
INLINE void NAME(add_multiple)(int paired, int vectors, real x_, const vec *b, vec *sum) {
    const vec x = splat(x_);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        sum[v] += x * b[v];
#if VBYTES == 64
        if (paired) __asm__("" : "+v"(sum[v]) : "v"(x), "v"(b[v]));
#elif VBYTES == 32
        if (paired) __asm__("" : "+x"(sum[v]) : "x"(x));
#endif
    }
}

/* The sums of one panel, sum[i * NV + v], start from the bias, from C, from both or from zero. They stay in
 * registers: a detour through memory costs as much as 10 steps of k. */
INLINE void NAME(tile_start)(int rows, int vectors, const fnn_tile *t, ptrdiff_t column, vec *sum) {
    const ptrdiff_t left = t->columns - column;
    const real *bias = t->bias;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const vec from = bias ? NAME(load_first)(bias + column + v * VLEN, left - v * VLEN) : (vec){0};
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) sum[i * NV + v] = from;
    }
    if (t->accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const real *from = (const real *)t->c[i] + t->c_offset + column;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[i * NV + v] += NAME(load_first)(from + v * VLEN, left - v * VLEN);
        }
        return;
    }
    /* the lines that the sums will be written to, wanted when k has run */
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch((const real *)t->c[i] + t->c_offset + column + v * VLEN, 1);
}

INLINE void NAME(bound_sums)(int rows, int vectors, int relu, vec *sum) {
    if (!relu) return;
    /* a bound that is known only now takes no register from the sums while they grow */
    const vec upper = NAME(upper_bound)(relu);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[i * NV + v] = NAME(between)(sum[i * NV + v], upper);
}

INLINE void NAME(tile_finish)(int rows, int vectors, const fnn_tile *t, ptrdiff_t column, vec *sum) {
    const ptrdiff_t left = t->columns - column;
    NAME(bound_sums)(rows, vectors, t->relu, sum);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        real *to = (real *)t->c[i] + t->c_offset + column;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) NAME(store_first)(to + v * VLEN, sum[i * NV + v], left - v * VLEN);
    }
}

/* One step of k for every sum; b points at row k of the first panel. Addresses of rows that do not stay in registers
 * are read from memory, `volatile`: with one vector all of more than 8 rows, for GCC would else move them in and out of
 * vector registers (14 rows: a convolution 1 -> 6, 5 x 5, 10.2 instead of 11.3 us); else those beyond HELD_ROWS. A
 * step of 14 rows is 54 instructions so, 64 where all are read: little to a processor of its own, which takes 98 % of
 * its peak from either, but one that is shared with another's thread starts less than 3 a cycle, and 1024 x 1024 x 1024
 * takes .9 of the time there, 128 -> 128, 3 x 3 with stride 2 .9 (Sapphire Rapids). Factors that the multiplication
 * itself reads from memory, for 41 instructions, gain no more: the loads are shared, too. */
INLINE void NAME(tile_step)(int rows, int vectors, int panels, const fnn_tile *t, const real *const *row,
                            ptrdiff_t k, const real *b, vec *sum) {
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        vec bk[NV];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            bk[v] = load(b + p * t->b_panel + v * VLEN);
            if (rows > 3 && MR > 4 && v * VBYTES % 64 == 0)
                __builtin_prefetch(b + p * t->b_panel + v * VLEN + AHEAD(rows) * NR);
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const int held = rows <= 8 || (vectors > 1 && i < HELD_ROWS);
            const real *x_row = held ? row[i] : ((const real *const volatile *)row)[i];
            NAME(add_multiple)(PAIRED(rows, vectors), vectors, x_row[k], bk, sum + (p * rows + i) * NV);
        }
    }
}

/* A(i, k) = a[tap * MR + i][k], or a[i][tap_offset[tap] + k]. Several panels at once keep the multipliers busy
 * where there are too few rows to do so: a sum's next step waits for its last one, 4 cycles on the machines of
 * today. Rows of A that come from memory are fetched once, for the first panel, by the tiles that many rows are cut in,
 * of all MR or one less: 16 x 256 x 56 x 56 -> 64, 1 x 1, one thread of Zen 5 10.7 -> 7.0 ms, AVX2 15.7 -> 13.1. */
INLINE void NAME(tile_rows)(int rows, int vectors, int panels, const fnn_tile *t, const real *b,
                            ptrdiff_t column) {
    vec sum[MR * NV];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        NAME(tile_start)(rows, vectors, t, column + p * NR, sum + p * rows * NV);
    const real *const *a = (const real *const *)t->a;
    const real *row[MR], *next = b + t->next_b;
    const ptrdiff_t next_a = rows > 4 && rows > MR - 2 && column == 0 ? t->next_a : 0;
    for (ptrdiff_t tap = 0; tap < t->taps; tap++) {
        if (tap == 0 || !t->tap_offset) {
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) row[i] = a[tap * MR + i] + t->a_offset;
        }
        ptrdiff_t k = t->tap_offset ? t->tap_offset[tap] : 0;
        const ptrdiff_t k1 = k + t->depth;
        if (rows > 2) {
            while (k < k1) {
                const ptrdiff_t stop = rows > 4 && (t->next_step || next_a) ? NAME(fetch_stop)(k, k1) : k1;
                if (rows > 4) next = NAME(fetch)(next, (stop - k) * t->next_step);
                if (next_a)
#pragma GCC unroll 1
                    for (int i = 0; i < rows; i++)
                        NAME(fetch)((t->tap_offset ? a[i] : a[tap * MR + i]) + t->a_offset + k + next_a, FETCH_STEPS);
                if (PAIRED(rows, vectors))
                    for (; k + 1 < stop; k += 2, b += 2 * NR)
#pragma GCC unroll 2
                        for (int s = 0; s < 2; s++)
                            NAME(tile_step)(rows, vectors, panels, t, row, k + s, b + s * NR, sum);
                for (; k < stop; k++, b += NR) NAME(tile_step)(rows, vectors, panels, t, row, k, b, sum);
            }
        } else {
            for (; k < k1; k++, b += NR) NAME(tile_step)(rows, vectors, panels, t, row, k, b, sum);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        NAME(tile_finish)(rows, vectors, t, column + p * NR, sum + p * rows * NV);
}

/* A(i, k) = a[k][i]: the transposed operand of a weight gradient. A step reads a line or two of a row of A, far from
 * the last one's: those of the rows i that come next are fetched meanwhile (one thread, gradient of 1 x 1 filters for
 * 16 images: AVX2 24 -> 144 at 56 x 56 .88 of the time, 16 -> 96 at 112 x 112 .67; AVX-512 512 -> 2048 at 14 x 14
 * .93). What lies in memory is fetched once, for the first panel: see column_tiles in transposed.pyx. */
INLINE void NAME(column_step)(int rows, int vectors, const fnn_tile *t, ptrdiff_t k, const real *b, vec *sum) {
    const real *row = (const real *)t->a[k] + t->a_offset;
    __asm__("" : "+r"(row)); /* one address, where GCC would keep one for each of the rows */
    if (rows > 4) __builtin_prefetch(row + 2 * rows - 1);
    vec bk[NV];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) bk[v] = load(b + v * VLEN);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) NAME(add_multiple)(PAIRED(rows, vectors), vectors, row[i], bk, sum + i * NV);
}

INLINE void NAME(tile_columns)(int rows, int vectors, const fnn_tile *t, const real *b,
                               ptrdiff_t column) {
    vec sum[MR * NV];
    NAME(tile_start)(rows, vectors, t, column, sum);
    const ptrdiff_t step = t->b_step, depth = t->depth, next_a = column ? 0 : t->next_a;
    const real *next = (const real *)t->b + t->next_b + column / NR * depth * t->next_step;
    for (ptrdiff_t k = 0; k < depth;) {
        const ptrdiff_t stop = rows > 4 && (t->next_step || next_a) ? NAME(fetch_stop)(k, depth) : depth;
        if (rows > 4) next = NAME(fetch)(next, (stop - k) * t->next_step);
        if (rows > 4 && next_a)
#pragma GCC unroll 1
            for (ptrdiff_t s = k; s < stop; s++)
                __builtin_prefetch((const real *)t->a[s] + t->a_offset + next_a, 0, 2);
        if (PAIRED(rows, vectors))
            for (; k + 1 < stop; k += 2, b += 2 * step)
#pragma GCC unroll 2
                for (int s = 0; s < 2; s++) NAME(column_step)(rows, vectors, t, k + s, b + s * step, sum);
        for (; k < stop; k++, b += step) NAME(column_step)(rows, vectors, t, k, b, sum);
    }
    NAME(tile_finish)(rows, vectors, t, column, sum);
}

/* All columns at one height: several panels at once where rows are few, then panel by panel; the last panel may
 * need but one vector of the NV. Sums, a broadcast of each row and a row of B must fit the registers, of which
 * there are MR * NV + NV + 2 (AVX2, 3 rows of two panels: one sum in memory, 47 GFLOP/s; of one, 75). */
INLINE void NAME(tiles_rows)(int rows, const fnn_tile *t) {
    const int fit = (MR * NV + 2 - rows) / (rows * NV), wide = rows > 3 ? 1 : fit < 4 ? fit : 4;
    const real *b = t->b;
    ptrdiff_t j = 0;
    for (; wide > 1 && t->columns - j > (wide - 1) * NR; j += wide * NR, b += wide * t->b_panel)
        NAME(tile_rows)(rows, NV, wide, t, b, j);
    for (; t->columns - j > VLEN; j += NR, b += t->b_panel) NAME(tile_rows)(rows, NV, 1, t, b, j);
    if (t->columns > j) NAME(tile_rows)(rows, 1, 1, t, b, j);
}
INLINE void NAME(tiles_columns)(int rows, const fnn_tile *t) {
    const real *b = t->b;
    ptrdiff_t j = 0;
    for (; t->columns - j > VLEN; j += NR, b += t->b_panel) NAME(tile_columns)(rows, NV, t, b, j);
    if (t->columns > j) NAME(tile_columns)(rows, 1, t, b, j);
}

/* A function for each height, so that each gets loops and registers of its own: all in one, GCC kept the rows'
 * addresses in memory (AVX2, 6 rows: 94 GFLOP/s, so 112). */
_Static_assert(MR <= 14, "HEIGHTS names each");
#define HEIGHTS(z) z(1) z(2) z(3) z(4) z(5) z(6) z(7) z(8) z(9) z(10) z(11) z(12) z(13) z(14)
#define FUNCTIONS(n)                                                                                             \
    static NOINLINE void NAME(rows_##n)(const fnn_tile *t) { NAME(tiles_rows)(n <= MR ? n : MR, t); }            \
    static NOINLINE void NAME(columns_##n)(const fnn_tile *t) { NAME(tiles_columns)(n <= MR ? n : MR, t); }
#define ROWS(n) case n: if (n <= MR) NAME(rows_##n)(t); break;
#define COLUMNS(n) case n: if (n <= MR) NAME(columns_##n)(t); break;

HEIGHTS(FUNCTIONS)

static void NAME(gemm_rows)(const fnn_tile *t) {
    switch (t->rows) { HEIGHTS(ROWS) }
}
static void NAME(gemm_columns)(const fnn_tile *t) {
    switch (t->rows) { HEIGHTS(COLUMNS) }
}
#undef HEIGHTS
#undef FUNCTIONS
#undef ROWS
#undef COLUMNS
