/* Pooling: every channel by itself, over windows that are a range of rows by a range of columns.
 *
 * Where channels fill vectors, these run along channels. Small windows are folded where they lie; of others a run
 * of pixels is made first, on scratch memory of the driver: `*_rows` folds the rows of the window, `*_columns`
 * then the pixels of each window in that run. For windows of r x s this takes r + s steps an element, not r * s.
 * Windows of 3 x 3 slide: columns of pixels are folded as they come, in registers.
 *
 * Where channels are few, vectors run along the columns of outputs: pool_narrow.h.
 */

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
    NAME(fold_run)(larger_or_nan, NULL, 0, n, taps, stride, x, run);
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

/* Where the window of output q begins: among the pixels as they lie, or in a run of folded ones. */
INLINE const real *NAME(window_at)(const fnn_pool_columns *p, ptrdiff_t q) {
    return (const real *)p->run + (p->windows[q].first - p->origin) * p->channels;
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

/* Some vectors of the channels of `outputs` outputs whose windows of 3 x 3 are `step` columns apart, 1 or 2: the rows
 * of a column are folded once for all windows that share it, in the order of fold_pixels. (Zen 5, 1 x 64 x 112 x 112,
 * stride 1, by runs 165 us, so 115; the mean 150, 88.) */
INLINE void NAME(slide)(vec (*op)(vec, vec), NAME(seen) *seen, int vectors, int step, ptrdiff_t outputs,
                        const fnn_pool_columns *p, const real *x, const NAME(divisor) *d, real *y) {
    const ptrdiff_t pixel = p->channels;
    const NAME(divisor) by = d ? *d : (NAME(divisor)){0};
    vec left[4], middle[4];
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) {
        left[i] = NAME(fold)(op, seen, 3, p->row_step, x + i * VLEN, VLEN);
        if (step == 1) middle[i] = NAME(fold)(op, seen, 3, p->row_step, x + pixel + i * VLEN, VLEN);
    }
    for (ptrdiff_t q = 0; q < outputs; q++, x += step * pixel, y += pixel) {
#pragma GCC unroll 4
        for (int i = 0; i < vectors; i++) {
            if (step == 2) middle[i] = NAME(fold)(op, seen, 3, p->row_step, x + pixel + i * VLEN, VLEN);
            const vec right = NAME(fold)(op, seen, 3, p->row_step, x + 2 * pixel + i * VLEN, VLEN);
            const vec v = op(op(left[i], middle[i]), right);
            store(y + i * VLEN, d ? NAME(divide)(v, by) : v);
            left[i] = step == 2 ? right : middle[i];
            middle[i] = right;
        }
    }
}
/* All channels, four vectors at a time: one by one 1.3 times slower where images are in memory. */
INLINE void NAME(slide_by)(int step, vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t outputs,
                           const fnn_pool_columns *p, const real *x, const NAME(divisor) *d, real *y) {
    ptrdiff_t c = 0;
    for (; c + 4 * VLEN <= p->channels; c += 4 * VLEN) NAME(slide)(op, seen, 4, step, outputs, p, x + c, d, y + c);
    for (; c < p->channels; c += VLEN) { /* the last vector may have channels of the one before */
        const ptrdiff_t first = c + VLEN <= p->channels ? c : p->channels - VLEN;
        NAME(slide)(op, seen, 1, step, outputs, p, x + first, d, y + first);
    }
}
INLINE void NAME(slide_over)(ptrdiff_t step, vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t outputs,
                             const fnn_pool_columns *p, const real *x, const NAME(divisor) *d, real *y) {
    if (step == 1)
        NAME(slide_by)(1, op, seen, outputs, p, x, d, y);
    else
        NAME(slide_by)(2, op, seen, outputs, p, x, d, y);
}
/* How many outputs, from q on, `slide` makes at once: those whose windows are as far apart, *step, as the first two. */
INLINE ptrdiff_t NAME(alike)(const fnn_pool_columns *p, ptrdiff_t q, ptrdiff_t *step) {
    const fnn_window *w = p->windows + q;
    ptrdiff_t count = 1;
    if (p->rows != 3 || p->dilation != 1 || p->channels < VLEN || q + 1 == p->outputs) return 1;
    *step = w[1].first - w[0].first;
    if (w->taps != 3 || *step < 1 || *step > 2) return 1;
    while (q + count < p->outputs && w[count].taps == 3 && w[count].divisor == w->divisor
           && w[count].first == w->first + count * *step)
        count++;
    return count;
}

/* Maxima so; returns the sum of what was read. (A function of its own gets no address of its callers' variables, or
 * these would lie in memory, and every store to y would seem to change them.) */
static NOINLINE vec NAME(slide_maxima)(ptrdiff_t step, ptrdiff_t outputs, const fnn_pool_columns *p, const real *x,
                                       real *y) {
    NAME(seen) seen = NAME(nothing_seen)();
    NAME(slide_over)(step, NAME(larger2), &seen, outputs, p, x, NULL, y);
    return seen.sum;
}

/* Maxima, where there is `seen`, or means. */
INLINE void NAME(fold_columns)(NAME(seen) *seen, const fnn_pool_columns *p_) {
    vec (*const op)(vec, vec) = seen ? NAME(larger2) : NAME(sum2);
    const fnn_pool_columns p = *p_; /* a copy, or every store to y would seem to change it */
    for (ptrdiff_t q = 0, made, step = 0; q < p.outputs; q += made) {
        const fnn_window w = p.windows[q];
        const real *x = NAME(window_at)(&p, q);
        real *y = (real *)p.y + q * p.channels;
        const NAME(divisor) divisor = NAME(divisor_of)(p.row_divisor, w.divisor), *d = seen ? NULL : &divisor;
        made = NAME(alike)(&p, q, &step);
        if (made > 1 && seen)
            seen->sum += NAME(slide_maxima)(step, made, p_, x, y);
        else if (made > 1)
            NAME(slide_over)(step, op, NULL, made, &p, x, d, y);
        else if (w.taps == 0) /* on the padding alone */
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
    for (ptrdiff_t q = 0; q < p->outputs; q++)
        NAME(fold_window)(larger_or_nan, NULL, p->rows, p->windows[q].taps, p, NAME(window_at)(p, q), NULL,
                          (real *)p->y + q * p->channels);
}
static void NAME(max_columns)(const fnn_pool_columns *p) {
    NAME(seen) seen = NAME(nothing_seen)();
    NAME(fold_columns)(&seen, p);
    if (NAME(saw_nan)(seen)) NAME(max_columns_nan)(p);
}
static void NAME(mean_columns)(const fnn_pool_columns *p) { NAME(fold_columns)(NULL, p); }
