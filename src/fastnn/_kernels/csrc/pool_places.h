/* Maxima with their places, h * W + w, from rows and columns as in pool.h, and their gradient. */

INLINE mask NAME(splat_bits)(ptrdiff_t x) { return (bits)x - (mask){0}; }
INLINE mask NAME(first_bits)(const bits *p, ptrdiff_t n) { return (mask)NAME(load_first)((const real *)p, n); }
INLINE void NAME(store_bits)(bits *p, mask m, ptrdiff_t n) { NAME(store_first)((real *)p, (vec)m, n); }

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

INLINE NAME(winner) NAME(arg_fold)(ptrdiff_t taps, ptrdiff_t step, const real *x, ptrdiff_t n, ptrdiff_t place,
                                   ptrdiff_t place_step) {
    NAME(winner) w = {NAME(load_first)(x, n), NAME(splat_bits)(place)};
    for (ptrdiff_t tap = 1; tap < taps; tap++)
        take_larger(&w.best, &w.where, NAME(load_first)(x + tap * step, n),
                    NAME(splat_bits)(place + tap * place_step));
    return w;
}

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

/* One output from a run and its places, n of its channels. */
INLINE NAME(winner) NAME(arg_part)(ptrdiff_t taps, const fnn_pool_columns *p, const real *x, const bits *places,
                                   ptrdiff_t first, ptrdiff_t n) {
    const ptrdiff_t step = p->dilation * p->channels;
    NAME(winner) w = {NAME(load_first)(x, n), NAME(first_bits)(places, n) + NAME(splat_bits)(first)};
    for (ptrdiff_t tap = 1; tap < taps; tap++)
        w = NAME(winner2)(w, (NAME(winner)){NAME(load_first)(x + tap * step, n),
                                            NAME(first_bits)(places + tap * step, n) +
                                                NAME(splat_bits)(first + tap * p->dilation)});
    return w;
}
INLINE void NAME(fold_places)(const fnn_pool_columns *p) {
    for (ptrdiff_t q = 0; q < p->outputs; q++) {
        const ptrdiff_t taps = p->windows[q].taps, first = p->windows[q].first;
        const ptrdiff_t begin = (first - p->origin) * p->channels;
        for (ptrdiff_t c = 0; c < p->channels; c += VLEN) {
            const ptrdiff_t n = p->channels - c;
            const NAME(winner) w = NAME(arg_part)(taps, p, (const real *)p->run + begin + c,
                                                  (const bits *)p->places + begin + c, first, n);
            NAME(store_first)((real *)p->y + q * p->channels + c, w.best, n);
            NAME(store_bits)((bits *)p->y_places + q * p->channels + c, w.where, n);
        }
    }
}

/* One output, its window's pixels read where they lie: the maximum, unless it is `known`, and its place: the last
 * pixel equal to it, against row order, is the first. Without `seen` NaNs are kept, and equal. (Zen 5, 1 x 64 x 112
 * x 112, 3 x 3 with strides 2 and 1: a place taken along with each larger pixel 196 and 735 us, so 110 and 350.) */
INLINE void NAME(arg_window)(NAME(seen) *seen, int known, ptrdiff_t rows, ptrdiff_t taps, const fnn_pool_columns *p,
                             ptrdiff_t q) {
    const ptrdiff_t first = p->windows[q].first, step = p->dilation * p->channels;
    const real *x = NAME(window_at)(p, q);
    real *y = (real *)p->y + q * p->channels;
    for (ptrdiff_t c = 0; c < p->channels; c += VLEN) {
        const ptrdiff_t n = p->channels - c;
        vec best;
        mask where = {0};
        if (known) {
            best = NAME(load_first)(y + c, n);
        } else {
            best = NAME(fold_pixels)(seen ? NAME(larger2) : larger_or_nan, seen, rows, taps, p, x + c, n);
            NAME(store_first)(y + c, best, n);
        }
        for (ptrdiff_t row = rows - 1; row >= 0; row--)
            for (ptrdiff_t tap = taps - 1; tap >= 0; tap--) {
                const vec v = NAME(load_first_across)(x + row * p->row_step + tap * step + c, n);
                const mask here = NAME(splat_bits)(row * p->place_step + tap * p->dilation);
                where = take_equal(where, v, best, here);
                if (!seen) where = (mask)select((v != v) & (best != best), (vec)here, (vec)where);
            }
        NAME(store_bits)((bits *)p->y_places + q * p->channels + c, where + NAME(splat_bits)(p->place + first), n);
    }
}
static NOINLINE void NAME(argmax_columns_nan)(const fnn_pool_columns *p) {
    for (ptrdiff_t q = 0; q < p->outputs; q++) NAME(arg_window)(NULL, 0, p->rows, p->windows[q].taps, p, q);
}
static void NAME(argmax_columns)(const fnn_pool_columns *p_) {
    const fnn_pool_columns p = *p_;
    if (p.places) {
        NAME(fold_places)(&p);
        return;
    }
    NAME(seen) seen = NAME(nothing_seen)();
    for (ptrdiff_t q = 0, made, step = 0; q < p.outputs; q += made) {
        const ptrdiff_t taps = p.windows[q].taps;
        made = NAME(alike)(&p, q, &step);
        if (made > 1) {
            seen.sum += NAME(slide_maxima)(step, made, p_, NAME(window_at)(&p, q), (real *)p.y + q * p.channels);
            for (ptrdiff_t i = q; i < q + made; i++) NAME(arg_window)(&seen, 1, 3, 3, &p, i);
        } else if (p.rows == 2 && taps == 2)
            NAME(arg_window)(&seen, 0, 2, 2, &p, q);
        else if (p.rows == 3 && taps == 3)
            NAME(arg_window)(&seen, 0, 3, 3, &p, q);
        else
            NAME(arg_window)(&seen, 0, p.rows, taps, &p, q);
    }
    if (NAME(saw_nan)(seen)) NAME(argmax_columns_nan)(p_);
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
        else if (p.rows == 3 && taps == 3)
            NAME(gather_pixel)(3, 3, &p, q, y);
        else
            NAME(gather_pixel)(p.rows, taps, &p, q, y);
    }
}
