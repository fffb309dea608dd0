/* Pooling: every channel by itself, over windows that are a range of rows by a range of columns.
 *
 * A row of outputs is made in two steps, on scratch memory of the driver. `*_rows` folds the rows of the
 * window into one: a run of pixels, contiguous, so that vectors are full whatever the number of channels.
 * `*_columns` then folds the pixels of each window in that run. For windows of r x s this takes r + s
 * steps an element, not r * s. Where windows do not overlap and channels fill vectors, there is no run:
 * `*_columns` folds the rows, too.
 *
 * The scratch memory (the run, its places, y of `*_columns`) has room for VLEN - 1 elements more than are
 * used, so all vectors there are whole: what one pixel's last vector writes too much, the next overwrites.
 */

INLINE mask NAME(load_bits)(const bits *p) { return (mask)load((const real *)p); }
INLINE void NAME(store_bits)(bits *p, mask m) { store((real *)p, (vec)m); }
INLINE mask NAME(splat_bits)(ptrdiff_t x) { return (bits)x - (mask){0}; }

/* Whether a stays when b comes after it: it is the larger one, equal, or NaN. */
INLINE mask NAME(stays)(vec a, vec b) { return (a >= b) | (a != a); }
/* The larger one, a where they are equal; NaN where either is. */
INLINE vec NAME(max2)(vec a, vec b) { return select(b != b, b, larger(b, a)); }
INLINE vec NAME(sum2)(vec a, vec b) { return a + b; }

/* x[0] op x[step] op ..., `taps` vectors of which n elements are used. */
INLINE vec NAME(fold)(vec (*op)(vec, vec), ptrdiff_t taps, ptrdiff_t step, const real *x, ptrdiff_t n) {
    vec v = NAME(load_first)(x, n);
    for (ptrdiff_t tap = 1; tap < taps; tap++) v = op(v, NAME(load_first)(x + tap * step, n));
    return v;
}

/* run[i] = x[i] op x[i + stride] op ..., `taps` of them, and of run[i] with `more`. */
INLINE void NAME(fold_run)(vec (*op)(vec, vec), int more, ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride,
                           const real *x, real *run) {
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec v = NAME(fold)(op, taps, stride, x + i, VLEN);
        store(run + i, more ? op(load(run + i), v) : v);
    }
    if (i < n) {
        const vec v = NAME(fold)(op, taps, stride, x + i, n - i);
        store(run + i, more ? op(load(run + i), v) : v);
    }
}

/* A few rows by loops without a counter; many 8 at a time, as many as a processor prefetches side by side (a
 * mean of 112 rows: 61 GB/s, all at once 20, on a Zen 4). */
INLINE void NAME(fold_rows)(vec (*op)(vec, vec), ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride,
                            const real *x, real *run) {
    if (taps == 2) {
        NAME(fold_run)(op, 0, n, 2, stride, x, run);
    } else if (taps == 3) {
        NAME(fold_run)(op, 0, n, 3, stride, x, run);
    } else {
        NAME(fold_run)(op, 0, n, taps < 8 ? taps : 8, stride, x, run);
        for (ptrdiff_t tap = 8; tap < taps; tap += 8)
            NAME(fold_run)(op, 1, n, taps - tap < 8 ? taps - tap : 8, stride, x + tap * stride, run);
    }
}

static void NAME(max_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(fold_rows)(NAME(max2), n, taps, stride, x, run);
}

static void NAME(sum_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(fold_rows)(NAME(sum2), n, taps, stride, x, run);
}

/* One output: the window's `rows` x `taps` pixels folded, a row at a time, and divided.
 *
 * Sums are divided, not multiplied by an inverse: the mean of equal numbers is that number. A gradient is
 * divided before; a division by 1 would take as long as all the rest. */
INLINE void NAME(fold_window)(vec (*op)(vec, vec), ptrdiff_t rows, ptrdiff_t taps,
                              const fnn_pool_columns *p, const real *x, real divisor, real *y) {
    const ptrdiff_t channels = p->channels, step = p->dilation * channels, row_step = p->row_step;
    for (ptrdiff_t c = 0; c < channels; c += VLEN) {
        vec v = NAME(fold)(op, taps, step, x + c, VLEN);
        for (ptrdiff_t row = 1; row < rows; row++)
            v = op(v, NAME(fold)(op, taps, step, x + row * row_step + c, VLEN));
        store(y + c, divisor == 1 ? v : v / splat(divisor));
    }
}

/* How many windows from the first on have the same taps and divisor and begin `stride` pixels apart. */
INLINE ptrdiff_t NAME(alike)(const fnn_window *w, ptrdiff_t count, ptrdiff_t stride) {
    ptrdiff_t q = 1;
    while (q < count && w[q].taps == w->taps && w[q].divisor == w->divisor &&
           w[q].first - w[q - 1].first == stride)
        q++;
    return q;
}

/* Outputs of windows alike where a pixel is less than a vector: the fold at every element of the run, vectors
 * full, then of every stride-th pixel. */
INLINE void NAME(fold_alike)(vec (*op)(vec, vec), ptrdiff_t outputs, ptrdiff_t stride, ptrdiff_t taps,
                             const fnn_pool_columns *p, const real *x, real divisor, real *y) {
    enum { ROOM = 512 };
    const ptrdiff_t channels = p->channels, step = p->dilation * channels, jump = stride * channels;
    const ptrdiff_t most = (ROOM - channels) / jump + 1;
    real folded[ROOM + VLEN];
    for (ptrdiff_t q = 0; q < outputs; q += most, x += most * jump) {
        const ptrdiff_t count = outputs - q < most ? outputs - q : most;
        const ptrdiff_t n = (count - 1) * jump + channels;
        for (ptrdiff_t i = 0; i < n; i += VLEN) {
            const vec v = NAME(fold)(op, taps, step, x + i, VLEN);
            store(folded + i, divisor == 1 ? v : v / splat(divisor));
        }
        if (channels == 1)
            for (ptrdiff_t k = 0; k < count; k++) *y++ = folded[k * stride];
        else
            for (ptrdiff_t k = 0; k < count; k++, y += channels)
                for (ptrdiff_t c = 0; c < channels; c++) y[c] = folded[k * jump + c];
    }
}

INLINE void NAME(fold_columns)(vec (*op)(vec, vec), int mean, const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_; /* a copy, or every store to y would seem to change it */
    real *y = p.y;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += p.channels) {
        const fnn_window w = p.windows[q];
        const ptrdiff_t stride = q + 1 < p.outputs ? p.windows[q + 1].first - w.first : 0;
        const real *x = (const real *)p.run + (w.first - p.origin) * p.channels;
        const real divisor = mean ? (real)((double)p.row_divisor * (double)w.divisor) : 1;
        if (w.taps == 0) /* on the padding alone */
            __builtin_memset(y, 0, (size_t)p.channels * sizeof(real));
        else if (2 * p.channels <= VLEN && stride > 0 && stride * p.channels <= 64) {
            const ptrdiff_t count = NAME(alike)(p.windows + q, p.outputs - q, stride);
            if (w.taps == 2)
                NAME(fold_alike)(op, count, stride, 2, &p, x, divisor, y);
            else if (w.taps == 3)
                NAME(fold_alike)(op, count, stride, 3, &p, x, divisor, y);
            else
                NAME(fold_alike)(op, count, stride, w.taps, &p, x, divisor, y);
            q += count - 1;
            y += (count - 1) * p.channels;
        } else if (p.rows == 1 && w.taps == 2)
            NAME(fold_window)(op, 1, 2, &p, x, divisor, y);
        else if (p.rows == 1 && w.taps == 3)
            NAME(fold_window)(op, 1, 3, &p, x, divisor, y);
        else if (p.rows == 2 && w.taps == 2)
            NAME(fold_window)(op, 2, 2, &p, x, divisor, y);
        else
            NAME(fold_window)(op, p.rows, w.taps, &p, x, divisor, y);
    }
}

static void NAME(max_columns)(const fnn_pool_columns *p) { NAME(fold_columns)(NAME(max2), 0, p); }
static void NAME(mean_columns)(const fnn_pool_columns *p) { NAME(fold_columns)(NAME(sum2), 1, p); }

/* The maxima with their places, h * W + w: of equals, and of NaNs, the first in row order. After the
 * rows a place is h * W alone, to which the columns add w. */
static void NAME(argmax_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x_,
                              ptrdiff_t place, ptrdiff_t place_step, void *run_, void *places_) {
    const real *x = x_;
    real *run = run_;
    bits *places = places_;
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        vec best = NAME(load_first)(x + i, n - i);
        mask where = NAME(splat_bits)(place);
        for (ptrdiff_t tap = 1; tap < taps; tap++) {
            const vec v = NAME(load_first)(x + tap * stride + i, n - i);
            const mask stays = NAME(stays)(best, v), here = NAME(splat_bits)(place + tap * place_step);
            best = select(stays, best, v);
            where = (mask)select(stays, (vec)where, (vec)here);
        }
        store(run + i, best);
        NAME(store_bits)(places + i, where);
    }
}

static void NAME(argmax_columns)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_;
    const ptrdiff_t channels = p.channels, step = p.dilation * channels;
    real *y = p.y;
    bits *y_places = p.y_places;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += channels, y_places += channels) {
        const ptrdiff_t first = p.windows[q].first, taps = p.windows[q].taps;
        const real *x = (const real *)p.run + (first - p.origin) * channels;
        const bits *places = (const bits *)p.places + (first - p.origin) * channels;
        for (ptrdiff_t c = 0; c < channels; c += VLEN) {
            vec best = load(x + c);
            mask place = NAME(load_bits)(places + c) + NAME(splat_bits)(first);
            for (ptrdiff_t tap = 1; tap < taps; tap++) {
                const vec v = load(x + tap * step + c);
                const mask here = NAME(load_bits)(places + tap * step + c) +
                                  NAME(splat_bits)(first + tap * p.dilation);
                const mask stays = NAME(stays)(best, v);
                const mask equal = (best == v) | ((best != best) & (v != v));
                place = (mask)select(stays & ~(equal & (here < place)), (vec)place, (vec)here);
                best = select(stays, best, v);
            }
            store(y + c, best);
            NAME(store_bits)(y_places + c, place);
        }
    }
}
