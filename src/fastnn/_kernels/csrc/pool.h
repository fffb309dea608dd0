/* Pooling: every channel by itself, over windows that are a range of rows by a range of columns.
 *
 * A row of outputs is made in two steps, on scratch memory of the driver. `*_rows` folds the rows of the
 * window into one: a run of pixels, contiguous, so that vectors are full whatever the number of channels.
 * `*_columns` then folds the pixels of each window in that run. For windows of r x s this takes r + s
 * steps an element, not r * s.
 *
 * The scratch memory (the run, its places, y of `*_columns`) has room for VLEN - 1 elements more than are
 * used, so all vectors there are whole: what one pixel's last vector writes too much, the next overwrites.
 */

INLINE vec NAME(load_upto)(const real *p, ptrdiff_t n) { return n >= VLEN ? load(p) : load_part(p, n); }
INLINE mask NAME(load_bits)(const bits *p) { return (mask)load((const real *)p); }
INLINE void NAME(store_bits)(bits *p, mask m) { store((real *)p, (vec)m); }
INLINE mask NAME(splat_bits)(ptrdiff_t x) { return (bits)x - (mask){0}; }

/* Whether a stays when b comes after it: it is the larger one, equal, or NaN. */
INLINE mask NAME(stays)(vec a, vec b) { return (a >= b) | (a != a); }
INLINE vec NAME(max2)(vec a, vec b) { return select(NAME(stays)(a, b), a, b); }
INLINE vec NAME(sum2)(vec a, vec b) { return a + b; }

/* x[0] op x[step] op ..., `taps` vectors of which n elements are used. */
INLINE vec NAME(fold)(vec (*op)(vec, vec), ptrdiff_t taps, ptrdiff_t step, const real *x, ptrdiff_t n) {
    vec v = NAME(load_upto)(x, n);
    for (ptrdiff_t tap = 1; tap < taps; tap++) v = op(v, NAME(load_upto)(x + tap * step, n));
    return v;
}

/* run[i] = x[i] op x[i + stride] op ..., `taps` of them: 8 at a time, as many rows as a processor prefetches
 * side by side (a mean of 112 rows: 61 GB/s, all at once 20, on a Zen 4). */
INLINE void NAME(fold_rows)(vec (*op)(vec, vec), ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride,
                            const real *x, real *run) {
    for (ptrdiff_t tap = 0; tap < taps; tap += 8, x += 8 * stride) {
        const ptrdiff_t rows = taps - tap < 8 ? taps - tap : 8;
        for (ptrdiff_t i = 0; i < n; i += VLEN) {
            const vec v = NAME(fold)(op, rows, stride, x + i, n - i);
            store(run + i, tap ? op(load(run + i), v) : v);
        }
    }
}

static void NAME(max_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(fold_rows)(NAME(max2), n, taps, stride, x, run);
}

static void NAME(sum_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run) {
    NAME(fold_rows)(NAME(sum2), n, taps, stride, x, run);
}

static void NAME(max_columns)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_; /* a copy, or every store to y would seem to change it */
    const ptrdiff_t channels = p.channels, step = p.dilation * channels;
    real *y = p.y;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += channels) {
        const real *x = (const real *)p.run + (p.windows[q].first - p.origin) * channels;
        const ptrdiff_t taps = p.windows[q].taps;
        for (ptrdiff_t c = 0; c < channels; c += VLEN)
            store(y + c, NAME(fold)(NAME(max2), taps, step, x + c, VLEN));
    }
}

/* Sums are divided, not multiplied by an inverse: the mean of equal numbers is that number. A gradient is
 * divided before; a division by 1 would take as long as all the rest. */
static void NAME(mean_columns)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_;
    const ptrdiff_t channels = p.channels, step = p.dilation * channels;
    real *y = p.y;
    for (ptrdiff_t q = 0; q < p.outputs; q++, y += channels) {
        const real *x = (const real *)p.run + (p.windows[q].first - p.origin) * channels;
        const ptrdiff_t taps = p.windows[q].taps;
        const real divisor = (real)((double)p.row_divisor * (double)p.windows[q].divisor);
        for (ptrdiff_t c = 0; c < channels; c += VLEN) {
            vec sum = {0};
            for (ptrdiff_t tap = 0; tap < taps; tap++) sum += load(x + tap * step + c);
            store(y + c, divisor == 1 ? sum : sum / splat(divisor));
        }
    }
}

/* The maxima with their places, h * W + w: of equals, and of NaNs, the first in row order. After the
 * rows a place is h * W alone, to which the columns add w. */
static void NAME(argmax_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x_,
                              ptrdiff_t place, ptrdiff_t place_step, void *run_, void *places_) {
    const real *x = x_;
    real *run = run_;
    bits *places = places_;
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        vec best = NAME(load_upto)(x + i, n - i);
        mask where = NAME(splat_bits)(place);
        for (ptrdiff_t tap = 1; tap < taps; tap++) {
            const vec v = NAME(load_upto)(x + tap * stride + i, n - i);
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
