/* Depthwise convolution: one filter a channel, so vectors run along channels and nothing is shared
 * between them.
 *
 *     y[q, c] = f( bias[c] + sum_{r, s} filters[r, s, c] x_r[q stride + tap_w[s], c] )
 *
 * The body computes one row of outputs, a vector of channels at a time, with the filter in registers
 * where it is small enough. Outputs whose taps all lie inside need no test; those at the ends do.
 */

/* Output q of a vector of channels, n of them used; taps outside count as zero. */
INLINE vec NAME(depthwise_pixel)(const fnn_depthwise_row *t, ptrdiff_t q, ptrdiff_t c, ptrdiff_t n, vec sum) {
    const real *filters = (const real *)t->filters + c;
    for (ptrdiff_t r = 0; r < t->r; r++) {
        if (!t->rows[r]) continue;
        for (ptrdiff_t s = 0; s < t->s; s++) {
            const ptrdiff_t w = q * t->stride + t->tap_w[s];
            if (w < 0 || w >= t->w) continue;
            const real *x = (const real *)t->rows[r] + w * t->x_pixel + c;
            const real *f = filters + (r * t->s + s) * t->channels;
            sum += n >= VLEN ? load(x) * load(f) : load_part(x, n) * load_part(f, n);
        }
    }
    return sum;
}

/* Outputs q0 .. q1 - 1, all taps inside and all three rows there: the 3 x 3 filter in nine registers. */
INLINE void NAME(depthwise_3x3)(const fnn_depthwise_row *t, ptrdiff_t q0, ptrdiff_t q1, ptrdiff_t c,
                                vec bias) {
    vec f[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; i++) f[i] = load((const real *)t->filters + i * t->channels + c);
    const ptrdiff_t step = t->stride * t->x_pixel;
    const ptrdiff_t s1 = (t->tap_w[1] - t->tap_w[0]) * t->x_pixel;
    const ptrdiff_t s2 = (t->tap_w[2] - t->tap_w[0]) * t->x_pixel;
    const real *x0 = (const real *)t->rows[0] + (q0 * t->stride + t->tap_w[0]) * t->x_pixel + c;
    const real *x1 = (const real *)t->rows[1] + (q0 * t->stride + t->tap_w[0]) * t->x_pixel + c;
    const real *x2 = (const real *)t->rows[2] + (q0 * t->stride + t->tap_w[0]) * t->x_pixel + c;
    real *y = (real *)t->y + q0 * t->y_pixel + c;
    for (ptrdiff_t q = q0; q < q1; q++, x0 += step, x1 += step, x2 += step, y += t->y_pixel) {
        /* three sums, for a single one would wait for each multiplication in turn */
        vec a = bias + f[0] * load(x0) + f[1] * load(x0 + s1) + f[2] * load(x0 + s2);
        const vec b = f[3] * load(x1) + f[4] * load(x1 + s1) + f[5] * load(x1 + s2);
        a += b + (f[6] * load(x2) + f[7] * load(x2 + s1) + f[8] * load(x2 + s2));
        store(y, t->relu ? relu1(a) : a);
    }
}

static void NAME(depthwise_row)(const fnn_depthwise_row *t) {
    /* Where all taps lie inside: q stride + first >= 0 and q stride + last < w. */
    const ptrdiff_t left = t->s ? t->tap_w[0] : 0, right = t->s ? t->tap_w[t->s - 1] : 0;
    const ptrdiff_t first = left < right ? left : right, last = left < right ? right : left;
    ptrdiff_t q0 = first >= 0 ? 0 : (-first + t->stride - 1) / t->stride;
    ptrdiff_t q1 = t->w - last > 0 ? (t->w - last + t->stride - 1) / t->stride : 0;
    q1 = q1 < t->q ? q1 : t->q;
    if (t->r != 3 || t->s != 3 || !t->rows[0] || !t->rows[1] || !t->rows[2] || q1 < q0) q0 = q1 = 0;
    for (ptrdiff_t c = 0; c < t->channels; c += VLEN) {
        const ptrdiff_t n = t->channels - c;
        const real *from = t->bias;
        const vec bias = !from ? (vec){0} : n >= VLEN ? load(from + c) : load_part(from + c, n);
        const int inner = n >= VLEN && q1 > q0;
        for (ptrdiff_t q = 0; q < t->q; q++) {
            if (inner && q == q0) {
                NAME(depthwise_3x3)(t, q0, q1, c, bias);
                q = q1;
                if (q == t->q) break;
            }
            vec sum = NAME(depthwise_pixel)(t, q, c, n, bias);
            if (t->relu) sum = relu1(sum);
            real *y = (real *)t->y + q * t->y_pixel + c;
            n >= VLEN ? store(y, sum) : store_part(y, sum, n);
        }
    }
}

/* B[tap, c] += sum_i A(i, tap)[c] C[i, c]: the gradient of the filters, where C is that of the output. */
INLINE void NAME(depthwise_gradient_lane)(const fnn_tile *t, ptrdiff_t c, ptrdiff_t n) {
    const int whole = n >= VLEN;
    for (ptrdiff_t tap = 0; tap < t->taps; tap++) {
        real *b = (real *)t->b + tap * t->columns + c;
        vec sum = whole ? load(b) : load_part(b, n);
        for (int i = 0; i < t->rows; i++) {
            const real *at = t->tap_offset ? (const real *)t->a[i] + t->tap_offset[tap] : t->a[tap * MR + i];
            const real *x = at + t->a_offset + c;
            const real *g = (const real *)t->c[i] + t->c_offset + c;
            sum += whole ? load(x) * load(g) : load_part(x, n) * load_part(g, n);
        }
        if (whole)
            store(b, sum);
        else
            store_part(b, sum, n);
    }
}

static void NAME(depthwise_gradient)(const fnn_tile *t) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->columns; c += VLEN) NAME(depthwise_gradient_lane)(t, c, VLEN);
    if (c < t->columns) NAME(depthwise_gradient_lane)(t, c, t->columns - c);
}
