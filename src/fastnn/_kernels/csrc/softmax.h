/* Softmax and its logarithm over contiguous rows, forward beside backward.
 *
 *     y_j = e^(x_j - m) / sum_i e^(x_i - m)        m = max_i x_i, so that nothing overflows
 */

INLINE mask NAME(lane_numbers)(void) {
    static const bits numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return *(const NAME(umask) *)numbers;
}

/* Lanes i and i ^ step change places; step is a power of two. */
INLINE vec NAME(exchanged)(vec v, int step) {
    return permute(v, NAME(lane_numbers)() ^ (bits)step);
}

/* The sum of a vector's elements, and the largest of them: each lane with its partner, until all are alike. (One
 * element after the other takes AVX-512 35 instructions, not 8: softmax of 4096 x 16 62 -> 45 us.)
 */
INLINE real NAME(sum_lanes)(vec v) {
#pragma GCC unroll 4
    for (int step = VLEN / 2; step; step /= 2) v += NAME(exchanged)(v, step);
    return v[0];
}
INLINE real NAME(largest_lane)(vec v) {
#pragma GCC unroll 4
    for (int step = VLEN / 2; step; step /= 2) v = larger(v, NAME(exchanged)(v, step));
    return v[0];
}

/* A sum along a row: of blocks of 64 vectors in `real`, across blocks in double, always in the same order. So a
 * row of a million floats keeps its digits, and one of a few vectors costs no more than a plain sum. */
typedef struct {
    vec block;
    double blocks;
} NAME(row_sum);

/* Close the block if it ends after so many vectors of the row. */
INLINE void NAME(end_block)(NAME(row_sum) *sum, ptrdiff_t vectors) {
    if (vectors % 64 == 0) {
        sum->blocks += NAME(sum_lanes)(sum->block);
        sum->block = (vec){0};
    }
}

/* Add the vector that starts at element i of the row. */
INLINE void NAME(add_to_row)(NAME(row_sum) *sum, ptrdiff_t i, vec v) {
    sum->block += v;
    NAME(end_block)(sum, i / VLEN + 1);
}

INLINE double NAME(row_total)(NAME(row_sum) sum) { return sum.blocks + NAME(sum_lanes)(sum.block); }

/* v where the element is one of the first n, else `other`. */
INLINE vec NAME(first_lanes)(vec v, ptrdiff_t n, real other) {
    return select(NAME(lane_numbers)() < (bits)n, v, splat(other));
}

/* The largest of a row; of a row with a NaN, any number: what follows is NaN anyway. */
INLINE real NAME(row_max)(ptrdiff_t n, const real *x) {
    vec m = n >= VLEN ? load(x) : NAME(first_lanes)(load_part(x, n), n, x[0]), side[4] = {m, m, m, m};
    ptrdiff_t i = VLEN;
    for (; i + 4 * VLEN <= n; i += 4 * VLEN)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) side[j] = larger(side[j], load(x + i + j * VLEN));
    m = larger(larger(side[0], side[1]), larger(side[2], side[3]));
    for (; i < n; i += VLEN) m = larger(m, load(x + (i + VLEN <= n ? i : n - VLEN)));
    return NAME(largest_lane)(m);
}

/* Of 1 or 4 vectors, from element i of n on: the terms e^(x_i - largest), stored where there is a y, and their sum.
 * Four at a turn, as each is a chain of instructions that wait one for the other; memory, which has nothing to do
 * meanwhile, is asked for the next row (Zen 5, AVX-512, softmax of 1024 x 1024 206 -> 182 us, its logarithm 214 -> 186,
 * cross entropy of 4096 x 4096 3.7 -> 2.7 ms, AVX2 5.5 -> 4.0). */
INLINE void NAME(exp_vectors)(int vectors, ptrdiff_t ahead, ptrdiff_t i, const real *x, real largest, real *y,
                              NAME(row_sum) *sums) {
    vec e[4];
    if (vectors == 4) NAME(fetch)(x + i + ahead, 4 * VLEN);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        e[j] = vexp_normal(load(x + i + j * VLEN) - largest);
        if (y) store(y + i + j * VLEN, e[j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) sums->block += e[j];
    NAME(end_block)(sums, i / VLEN + vectors);
}

/* sum_i e^(x_i - largest); with y the terms are stored there. See vexp_normal for terms that are 0. */
INLINE real NAME(row_exp)(ptrdiff_t n, ptrdiff_t ahead, const real *x, real largest, real *y) {
    NAME(row_sum) sums = {{0}, 0};
    ptrdiff_t i = 0;
    for (; i + 4 * VLEN <= n; i += 4 * VLEN) NAME(exp_vectors)(4, ahead, i, x, largest, y, &sums);
    for (; i + VLEN <= n; i += VLEN) NAME(exp_vectors)(1, ahead, i, x, largest, y, &sums);
    if (i < n) {
        const vec e = vexp_normal(load_part(x + i, n - i) - largest);
        if (y) store_part(y + i, e, n - i);
        sums.block += NAME(first_lanes)(e, n - i, 0);
    }
    return (real)NAME(row_total)(sums);
}

INLINE real NAME(logarithm)(real x) { return FLOAT ? (real)__builtin_logf((float)x) : (real)__builtin_log(x); }

static void NAME(softmax)(ptrdiff_t rows, ptrdiff_t n, const void *x_, void *y_, int log) {
    const real *x = x_;
    real *y = y_, largest[FNN_ABREAST], sum[FNN_ABREAST];
    for (ptrdiff_t row = 0; row < rows; row++) largest[row] = NAME(row_max)(n, x + row * n);
    for (ptrdiff_t row = 0; row < rows; row++)
        sum[row] = NAME(row_exp)(n, rows * n, x + row * n, largest[row], log ? NULL : y + row * n);
    for (ptrdiff_t row = 0; row < rows; row++, x += n, y += n) {
        ptrdiff_t i = 0;
        if (log) {
            const real most = largest[row], shift = NAME(logarithm)(sum[row]);
            for (; i + VLEN <= n; i += VLEN) store(y + i, load(x + i) - most - shift);
            if (i < n) store_part(y + i, load_part(x + i, n - i) - most - shift, n - i);
        } else {
            const real inverse = 1 / sum[row];
            for (; i + VLEN <= n; i += VLEN) store(y + i, load(y + i) * inverse);
            if (i < n) store_part(y + i, load_part(y + i, n - i) * inverse, n - i);
        }
    }
}

/* -log softmax(x)[target] = log(sum e^(x - largest)) - (x[target] - largest) */
static double NAME(cross_entropy)(ptrdiff_t n, const void *x_, ptrdiff_t target) {
    const real *x = x_, largest = NAME(row_max)(n, x);
    return NAME(logarithm)(NAME(row_exp)(n, n, x, largest, NULL)) - (x[target] - largest);
}

/* grad_x = scale (softmax(x) - (1 at the target)) */
static void NAME(cross_entropy_backward)(ptrdiff_t n, const void *x_, ptrdiff_t target, double scale,
                                         void *grad_x_) {
    const real *x = x_;
    real *grad_x = grad_x_;
    const real factor = (real)scale / NAME(row_exp)(n, n, x, NAME(row_max)(n, x), grad_x);
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) store(grad_x + i, load(grad_x + i) * factor);
    if (i < n) store_part(grad_x + i, load_part(grad_x + i, n - i) * factor, n - i);
    grad_x[target] -= (real)scale;
}

/* grad_x = y (grad_y - sum grad_y y); of the logarithm, grad_x = grad_y - e^y sum grad_y */
static void NAME(softmax_backward)(ptrdiff_t n, const void *grad_y_, const void *y_, void *grad_x_, int log) {
    const real *grad_y = grad_y_, *y = y_;
    real *grad_x = grad_x_;
    NAME(row_sum) sums = {{0}, 0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        NAME(add_to_row)(&sums, i, log ? load(grad_y + i) : load(grad_y + i) * load(y + i));
    real sum = (real)NAME(row_total)(sums);
    for (; i < n; i++) sum += log ? grad_y[i] : grad_y[i] * y[i];
    for (i = 0; i + VLEN <= n; i += VLEN) {
        const vec g = load(grad_y + i), v = load(y + i);
        store(grad_x + i, log ? g - vexp(v) * sum : v * (g - sum));
    }
    if (i < n) {
        const vec g = load_part(grad_y + i, n - i), v = load_part(y + i, n - i);
        store_part(grad_x + i, log ? g - vexp(v) * sum : v * (g - sum), n - i);
    }
}
