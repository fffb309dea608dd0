/* Pooling where channels are few: vectors run along the row of outputs.
 *
 * The rows of the windows are folded in two vectors of neighbouring elements, in registers; the columns by taking
 * from these two, for each output, its first tap, its second tap, and so on. A group is as many outputs as two such
 * vectors hold the windows of; groups are the same for all rows, so they are laid out once a call.
 */
typedef struct {
    ptrdiff_t first;    /* the element of the row where the two vectors begin */
    ptrdiff_t span;     /* elements that the windows reach from there         */
    ptrdiff_t n;        /* outputs times channels                             */
    ptrdiff_t taps, divisor;
    bits from[VLEN];    /* the element of each output's first tap             */
    bits w[VLEN];       /* the column of it                                   */
} NAME(group);

_Static_assert(sizeof(NAME(group)) <= FNN_GROUP_BYTES, "the driver's memory for groups");

/* Lay out the groups; returns how many, or 0 where channels fill vectors or windows are too long. */
static ptrdiff_t NAME(pool_groups)(const fnn_window *windows, ptrdiff_t outputs, ptrdiff_t channels,
                                   ptrdiff_t dilation, void *groups) {
    ptrdiff_t count = 0, k;
    if (2 * channels > VLEN) return 0;
    for (ptrdiff_t q = 0; q < outputs; q += k, count++) {
        NAME(group) *g = (NAME(group) *)groups + count;
        const fnn_window w = windows[q];
        *g = (NAME(group)){.first = w.first * channels, .taps = w.taps, .divisor = w.divisor};
        for (k = 0; k < VLEN / channels && q + k < outputs; k++) {
            const fnn_window v = windows[q + k];
            const ptrdiff_t span = (v.first - w.first + (v.taps - 1) * dilation + 1) * channels;
            if (v.taps != w.taps || v.divisor != w.divisor || v.first < w.first || span > 2 * VLEN) break;
            if (span > g->span) g->span = span;
            for (ptrdiff_t c = 0; c < channels; c++) {
                g->from[k * channels + c] = (bits)((v.first - w.first) * channels + c);
                g->w[k * channels + c] = (bits)v.first;
            }
        }
        if (k == 0) return 0;
        g->n = k * channels;
    }
    return count;
}

/* What is left of a row of outputs, and where its windows lie: x, `rows` of them `step` apart, of which `left`
 * elements may be read in each. */
INLINE void NAME(narrow_fold)(vec (*op)(vec, vec), NAME(seen) *seen, ptrdiff_t rows, const fnn_pool_narrow *p,
                              const NAME(group) *g, const real *x, ptrdiff_t left, ptrdiff_t row_divisor,
                              real *y, ptrdiff_t room) {
    const ptrdiff_t line = p->row_dilation * p->width * p->channels, step = p->dilation * p->channels;
    mask from = *(const NAME(umask) *)g->from;
    vec v = {0};
    if (rows && g->taps) {
        vec a, b;
        if (left >= 2 * VLEN) {
            a = NAME(fold)(op, seen, rows, line, x, VLEN);
            b = g->span > VLEN ? NAME(fold)(op, seen, rows, line, x + VLEN, VLEN) : a;
        } else { /* the last row of all */
            a = NAME(fold)(op, seen, rows, line, x, left);
            b = NAME(fold)(op, seen, rows, line, x + VLEN, left - VLEN);
        }
        v = permute2(a, b, from);
        for (ptrdiff_t tap = 1; tap < g->taps; tap++) v = op(v, permute2(a, b, from += (bits)step));
    }
    NAME(store_first)(y, row_divisor ? NAME(divide)(v, NAME(divisor_of)(row_divisor, g->divisor)) : v, room);
}

INLINE void NAME(narrow_arg)(ptrdiff_t rows, const fnn_pool_narrow *p, const NAME(group) *g, const real *x,
                             ptrdiff_t left, ptrdiff_t place, real *y, bits *y_places, ptrdiff_t room) {
    const ptrdiff_t line = p->row_dilation * p->width * p->channels, step = p->dilation * p->channels;
    const ptrdiff_t places = p->row_dilation * p->width;
    mask from = *(const NAME(umask) *)g->from, w = *(const NAME(umask) *)g->w;
    const NAME(winner) a = NAME(arg_fold)(rows, line, x, left, place, places);
    const NAME(winner) b = NAME(arg_fold)(rows, line, x + VLEN, left - VLEN, place, places);
    NAME(winner) v = {permute2(a.best, b.best, from),
                      (mask)permute2((vec)a.where, (vec)b.where, from) + w};
    for (ptrdiff_t tap = 1; tap < g->taps; tap++) {
        from += (bits)step;
        w += (bits)p->dilation;
        v = NAME(winner2)(v, (NAME(winner)){permute2(a.best, b.best, from),
                                            (mask)permute2((vec)a.where, (vec)b.where, from) + w});
    }
    NAME(store_first)(y, v.best, room);
    NAME(store_bits)(y_places, v.where, room);
}

/* One row of outputs, the rows of all images counted through. A group writes a whole vector where the row of outputs
 * has room: what is too much, the next group overwrites. */
INLINE void NAME(narrow_row)(int kind, NAME(seen) *seen, ptrdiff_t rows, const fnn_pool_narrow *p, ptrdiff_t row) {
    const fnn_window window = p->rows[row % p->out_height];
    const ptrdiff_t line = p->width * p->channels, out_line = p->out_width * p->channels;
    const ptrdiff_t start = (row / p->out_height * p->height + window.first) * line;
    const ptrdiff_t left = p->size - start - (rows - 1) * p->row_dilation * line;
    const NAME(group) *g = p->groups;
    real *y = (real *)p->y + row * out_line;
    for (ptrdiff_t done = 0; done < out_line; done += g->n, g++) {
        const real *x = (const real *)p->x + start + g->first;
        if (kind == FNN_ARGMAX)
            NAME(narrow_arg)(rows, p, g, x, left - g->first, window.first * p->width, y + done,
                             (bits *)p->y_places + row * out_line + done, out_line - done);
        else if (kind == FNN_MAX)
            NAME(narrow_fold)(seen ? NAME(larger2) : larger_or_nan, seen, rows, p, g, x, left - g->first, 0,
                              y + done, out_line - done);
        else
            NAME(narrow_fold)(NAME(sum2), NULL, rows, p, g, x, left - g->first, window.divisor, y + done,
                              out_line - done);
    }
}

INLINE void NAME(narrow_rows)(int kind, NAME(seen) *seen, const fnn_pool_narrow *p_, ptrdiff_t first,
                              ptrdiff_t last) {
    const fnn_pool_narrow p = *p_;
    for (ptrdiff_t row = first; row < last; row++) {
        const ptrdiff_t taps = p.rows[row % p.out_height].taps;
        if (taps == 2)
            NAME(narrow_row)(kind, seen, 2, &p, row);
        else if (taps == 3)
            NAME(narrow_row)(kind, seen, 3, &p, row);
        else
            NAME(narrow_row)(kind, seen, taps, &p, row);
    }
}

static NOINLINE void NAME(narrow_rows_nan)(const fnn_pool_narrow *p, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t row = first; row < last; row++)
        NAME(narrow_row)(FNN_MAX, NULL, p->rows[row % p->out_height].taps, p, row);
}
static void NAME(pool_narrow)(const fnn_pool_narrow *p, ptrdiff_t first, ptrdiff_t last) {
    NAME(seen) seen = NAME(nothing_seen)();
    switch (p->kind) {
    case FNN_MAX:
        NAME(narrow_rows)(FNN_MAX, &seen, p, first, last);
        if (NAME(saw_nan)(seen)) NAME(narrow_rows_nan)(p, first, last);
        break;
    case FNN_ARGMAX: NAME(narrow_rows)(FNN_ARGMAX, NULL, p, first, last); break;
    default: NAME(narrow_rows)(FNN_MEAN, NULL, p, first, last);
    }
}
