/* Pooling: every channel by itself, over windows that are a range of rows by a range of columns.
 *
 * Where channels fill vectors, these run along channels. Small windows are folded where they lie; of others a run
 * of pixels is made first, on scratch memory of the driver: `*_rows` folds the rows of the window, `*_columns`
 * then the pixels of each window in that run. For windows of r x s this takes r + s steps an element, not r * s.
 *
 * Where channels are few, vectors run along the columns of outputs: pool_narrow, below.
 */

INLINE mask NAME(load_bits)(const bits *p) { return (mask)load((const real *)p); }
INLINE mask NAME(splat_bits)(ptrdiff_t x) { return (bits)x - (mask){0}; }
INLINE mask NAME(first_bits)(const bits *p, ptrdiff_t n) { return (mask)NAME(load_first)((const real *)p, n); }
INLINE void NAME(store_bits)(bits *p, mask m, ptrdiff_t n) { NAME(store_first)((real *)p, (vec)m, n); }

INLINE vec NAME(sum2)(vec a, vec b) { return a + b; }

/* The larger one where neither is NaN. Maxima are taken in this way, in one instruction each, while all that is
 * read is summed up; where a NaN is in the sum (or infinities of both signs met) the row is done once more, by
 * larger_or_nan: in a function of its own, as GCC spills registers where both are in one. Sums are fused
 * multiply-adds, by a factor that the compiler does not know to be 1: on a Zen 3 additions take turns with maxima,
 * multiplications do not. A window of 3 x 3 in L2, a vector: 4.9 ns before, 3.0. */
INLINE vec NAME(larger2)(vec a, vec b) { return larger(b, a); }
typedef struct {
    vec sum, unit;
} NAME(seen);

static const volatile real NAME(unit) = 1;
INLINE NAME(seen) NAME(nothing_seen)(void) { return (NAME(seen)){{0}, splat(NAME(unit))}; }
INLINE vec NAME(also)(vec sum, vec v, const NAME(seen) *seen) {
    return FUSED ? v * seen->unit + sum : sum + v;
}
INLINE int NAME(saw_nan)(NAME(seen) seen) {
    real sum = 0;
    for (int i = 0; i < VLEN; i++) sum += seen.sum[i];
    return sum != sum;
}

/* A maximum and its place, h * W + w. */
typedef struct {
    vec best;
    mask where;
} NAME(winner);

/* The winner of a and b, whose places need not be in order: of equals, and of NaNs, the place is the first in row
 * order. The number is a, as without places: training and inference agree in the sign of a zero. */
INLINE NAME(winner) NAME(winner2)(NAME(winner) a, NAME(winner) b) {
    const mask equal = (a.best == b.best) | ((a.best != a.best) & (b.best != b.best));
    const mask stays = (a.best >= b.best) | (a.best != a.best);
    const mask stay = stays & ~(equal & (b.where < a.where));
    return (NAME(winner)){select(stays, a.best, b.best), (mask)select(stay, (vec)a.where, (vec)b.where)};
}

/* x[0] op x[step] op ..., `taps` vectors of which n elements are used; `seen` is NULL, or takes their sum. */
INLINE vec NAME(fold)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t taps, ptrdiff_t step, const real *x,
                      ptrdiff_t n) {
    vec v = NAME(load_first_across)(x, n), sum = v;
    for (ptrdiff_t tap = 1; tap < taps; tap++) {
        const vec next = NAME(load_first_across)(x + tap * step, n);
        v = op(v, next);
        if (seen) sum = NAME(also)(sum, next, seen);
    }
    if (seen) seen->sum += sum;
    return v;
}
INLINE NAME(winner) NAME(arg_fold)(ptrdiff_t taps, ptrdiff_t step, const real *x, ptrdiff_t n, ptrdiff_t place,
                                   ptrdiff_t place_step) {
    NAME(winner) w = {NAME(load_first)(x, n), NAME(splat_bits)(place)};
    for (ptrdiff_t tap = 1; tap < taps; tap++)
        take_larger(&w.best, &w.where, NAME(load_first)(x + tap * step, n),
                    NAME(splat_bits)(place + tap * place_step));
    return w;
}

/* run[i] = x[i] op x[i + stride] op ..., `taps` of them, and of run[i] with `more`. The run has room for a whole
 * last vector. */
INLINE void NAME(fold_run)(vec (*op)(vec, vec), NAME(seen) *seen, int more, ptrdiff_t n, ptrdiff_t taps,
                           ptrdiff_t stride, const real *x, real *run) {
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec v = NAME(fold)(op, seen, taps, stride, x + i, VLEN);
        store(run + i, more ? op(load(run + i), v) : v);
    }
    if (i < n) {
        const vec v = NAME(fold)(op, seen, taps, stride, x + i, n - i);
        store(run + i, more ? op(load(run + i), v) : v);
    }
}

/* A few rows by loops without a counter; many 8 at a time, as many as a processor prefetches side by side (a
 * mean of 112 rows: 61 GB/s, all at once 20, on a Zen 4). */
INLINE void NAME(fold_rows)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride,
                            const real *x, real *run) {
    if (taps == 2) {
        NAME(fold_run)(op, seen, 0, n, 2, stride, x, run);
    } else if (taps == 3) {
        NAME(fold_run)(op, seen, 0, n, 3, stride, x, run);
    } else {
        NAME(fold_run)(op, seen, 0, n, taps < 8 ? taps : 8, stride, x, run);
        for (ptrdiff_t tap = 8; tap < taps; tap += 8)
            NAME(fold_run)(op, seen, 1, n, taps - tap < 8 ? taps - tap : 8, stride, x + tap * stride, run);
    }
}

static NOINLINE void NAME(max_rows_nan)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x,
                                        void *run) {
    NAME(fold_rows)(larger_or_nan, NULL, n, taps, stride, x, run);
}
static void NAME(max_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(seen) seen = NAME(nothing_seen)();
    NAME(fold_rows)(NAME(larger2), &seen, n, taps, stride, x, run);
    if (NAME(saw_nan)(seen)) NAME(max_rows_nan)(n, taps, stride, x, run);
}

static void NAME(sum_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(fold_rows)(NAME(sum2), NULL, n, taps, stride, x, run);
}

/* The window's `rows` x `taps` pixels in the order in which a run would have them folded: columns first. */
INLINE vec NAME(fold_pixels)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t rows, ptrdiff_t taps,
                             const fnn_pool_columns *p, const real *x, ptrdiff_t n) {
    NAME(seen) of_window = {{0}, seen ? seen->unit : (vec){0}}, *here = seen ? &of_window : NULL;
    vec v = NAME(fold)(op, here, rows, p->row_step, x, n);
    for (ptrdiff_t tap = 1; tap < taps; tap++)
        v = op(v, NAME(fold)(op, here, rows, p->row_step, x + tap * p->dilation * p->channels, n));
    if (seen) seen->sum += of_window.sum; /* one addition a window waits for the one before */
    return v;
}

/* What sums are divided by. Not multiplied by its inverse: the mean of equal numbers is that number. But of a power
 * of two the inverse is exact, and a multiplication takes a sixth of the time. */
typedef struct {
    real number;
    int by_inverse;
} NAME(divisor);

INLINE NAME(divisor) NAME(divisor_of)(ptrdiff_t rows, ptrdiff_t columns) {
    const real product = (real)((double)rows * (double)columns);
    const int by_inverse = rows > 0 && columns > 0 && !(rows & (rows - 1)) && !(columns & (columns - 1));
    return (NAME(divisor)){by_inverse ? 1 / product : product, by_inverse};
}
INLINE vec NAME(divide)(vec v, NAME(divisor) d) { return d.by_inverse ? v * d.number : v / splat(d.number); }

/* One output, n of its channels: the window folded, and divided. */
INLINE void NAME(fold_part)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t rows, ptrdiff_t taps,
                            const fnn_pool_columns *p, const real *x, ptrdiff_t n, const NAME(divisor) *d,
                            real *y) {
    const vec v = NAME(fold_pixels)(op, seen, rows, taps, p, x, n);
    NAME(store_first)(y, d ? NAME(divide)(v, *d) : v, n);
}
INLINE void NAME(fold_window)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t rows, ptrdiff_t taps,
                              const fnn_pool_columns *p, const real *x, const NAME(divisor) *d, real *y) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= p->channels; c += VLEN)
        NAME(fold_part)(op, seen, rows, taps, p, x + c, VLEN, d, y + c);
    if (c < p->channels) NAME(fold_part)(op, seen, rows, taps, p, x + c, p->channels - c, d, y + c);
}

INLINE void NAME(fold_columns)(vec (*op)(vec, vec), NAME(seen) *seen, int mean, const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_; /* a copy, or every store to y would seem to change it */
    real *y = p.y;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += p.channels) {
        const fnn_window w = p.windows[q];
        const real *x = (const real *)p.run + (w.first - p.origin) * p.channels;
        const NAME(divisor) divisor = NAME(divisor_of)(p.row_divisor, w.divisor), *d = mean ? &divisor : NULL;
        if (w.taps == 0) /* on the padding alone */
            __builtin_memset(y, 0, (size_t)p.channels * sizeof(real));
        else if (p.rows == 1 && w.taps == 1)
            NAME(fold_window)(op, seen, 1, 1, &p, x, d, y);
        else if (p.rows == 1 && w.taps == 2)
            NAME(fold_window)(op, seen, 1, 2, &p, x, d, y);
        else if (p.rows == 1 && w.taps == 3)
            NAME(fold_window)(op, seen, 1, 3, &p, x, d, y);
        else if (p.rows == 2 && w.taps == 2)
            NAME(fold_window)(op, seen, 2, 2, &p, x, d, y);
        else if (p.rows == 3 && w.taps == 3)
            NAME(fold_window)(op, seen, 3, 3, &p, x, d, y);
        else
            NAME(fold_window)(op, seen, p.rows, w.taps, &p, x, d, y);
    }
}

static NOINLINE void NAME(max_columns_nan)(const fnn_pool_columns *p) {
    NAME(fold_columns)(larger_or_nan, NULL, 0, p);
}
static void NAME(max_columns)(const fnn_pool_columns *p) {
    NAME(seen) seen = NAME(nothing_seen)();
    NAME(fold_columns)(NAME(larger2), &seen, 0, p);
    if (NAME(saw_nan)(seen)) NAME(max_columns_nan)(p);
}
static void NAME(mean_columns)(const fnn_pool_columns *p) { NAME(fold_columns)(NAME(sum2), NULL, 1, p); }

/* The maxima with their places; after the rows a place is h * W alone, to which the columns add w. */
static void NAME(argmax_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x_,
                              ptrdiff_t place, ptrdiff_t place_step, void *run_, void *places_) {
    const real *x = x_;
    real *run = run_;
    bits *places = places_;
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        const NAME(winner) w = NAME(arg_fold)(taps, stride, x + i, n - i, place, place_step);
        store(run + i, w.best);
        NAME(store_bits)(places + i, w.where, VLEN);
    }
}

/* The window's pixels in row order, from the run or, without places of it, where they lie. */
INLINE NAME(winner) NAME(arg_part)(ptrdiff_t rows, ptrdiff_t taps, const fnn_pool_columns *p, const real *x,
                                   const bits *places, ptrdiff_t first, ptrdiff_t n) {
    const ptrdiff_t step = p->dilation * p->channels;
    NAME(winner) w = NAME(arg_fold)(places ? 1 : taps, step, x, n, p->place + first, p->dilation);
    if (!places) {
        for (ptrdiff_t row = 1; row < rows; row++)
            for (ptrdiff_t tap = 0; tap < taps; tap++)
                take_larger(&w.best, &w.where, NAME(load_first)(x + row * p->row_step + tap * step, n),
                            NAME(splat_bits)(p->place + row * p->place_step + first + tap * p->dilation));
        w.best = NAME(fold_pixels)(larger_or_nan, NULL, rows, taps, p, x, n);
        return w;
    }
    w.where = NAME(first_bits)(places, n) + NAME(splat_bits)(first);
    for (ptrdiff_t tap = 1; tap < taps; tap++)
        w = NAME(winner2)(w, (NAME(winner)){NAME(load_first)(x + tap * step, n),
                                            NAME(first_bits)(places + tap * step, n) +
                                                NAME(splat_bits)(first + tap * p->dilation)});
    return w;
}

INLINE void NAME(arg_window)(ptrdiff_t rows, ptrdiff_t taps, const fnn_pool_columns *p, ptrdiff_t q) {
    const ptrdiff_t first = p->windows[q].first, begin = (first - p->origin) * p->channels;
    const real *x = (const real *)p->run + begin;
    const bits *places = p->places ? (const bits *)p->places + begin : NULL;
    for (ptrdiff_t c = 0; c < p->channels; c += VLEN) {
        const ptrdiff_t n = p->channels - c;
        const NAME(winner) w = NAME(arg_part)(rows, taps, p, x + c, places ? places + c : NULL, first, n);
        NAME(store_first)((real *)p->y + q * p->channels + c, w.best, n);
        NAME(store_bits)((bits *)p->y_places + q * p->channels + c, w.where, n);
    }
}

static void NAME(argmax_columns)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_;
    for (ptrdiff_t q = 0; q < p.outputs; q++) {
        const ptrdiff_t taps = p.windows[q].taps;
        if (p.rows == 2 && taps == 2)
            NAME(arg_window)(2, 2, &p, q);
        else if (p.rows == 3 && taps == 3)
            NAME(arg_window)(3, 3, &p, q);
        else
            NAME(arg_window)(p.rows, taps, &p, q);
    }
}

/* The gradient of the maxima at one row of pixels: each sums the outputs that it won, in order. Windows are here
 * the outputs that cover a pixel. */
INLINE vec NAME(gather_part)(ptrdiff_t rows, ptrdiff_t taps, const fnn_pool_columns *p, ptrdiff_t at, mask here,
                             ptrdiff_t n) {
    vec sum = {0};
    for (ptrdiff_t row = 0; row < rows; row++, at += p->row_step)
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            const ptrdiff_t i = at + tap * p->channels;
            const vec g = NAME(load_first)((const real *)p->run + i, n);
            sum += (vec)((NAME(first_bits)((const bits *)p->places + i, n) == here) & (mask)g);
        }
    return sum;
}
INLINE void NAME(gather_pixel)(ptrdiff_t rows, ptrdiff_t taps, const fnn_pool_columns *p, ptrdiff_t q, real *y) {
    const mask here = NAME(splat_bits)(p->place + q);
    const ptrdiff_t begin = p->windows[q].first * p->channels;
    ptrdiff_t c = 0;
    for (; c + VLEN <= p->channels; c += VLEN)
        store(y + c, NAME(gather_part)(rows, taps, p, begin + c, here, VLEN));
    if (c < p->channels)
        store_part(y + c, NAME(gather_part)(rows, taps, p, begin + c, here, p->channels - c), p->channels - c);
}
static void NAME(max_gather)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_;
    real *y = p.y;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += p.channels) {
        const ptrdiff_t taps = p.windows[q].taps;
        if (p.rows == 1 && taps == 1)
            NAME(gather_pixel)(1, 1, &p, q, y);
        else if (p.rows == 1 && taps == 2)
            NAME(gather_pixel)(1, 2, &p, q, y);
        else if (p.rows == 2 && taps == 1)
            NAME(gather_pixel)(2, 1, &p, q, y);
        else if (p.rows == 2 && taps == 2)
            NAME(gather_pixel)(2, 2, &p, q, y);
        else
            NAME(gather_pixel)(p.rows, taps, &p, q, y);
    }
}
