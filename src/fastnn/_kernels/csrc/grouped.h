/* Convolution in groups of a few channels, as many out as in: vectors run along filters, across groups.
 *
 *     y[q, k] = f( bias[k] + sum_{r, s, j} filters[r, s, j, k] x_r[q stride + tap_w[s], k - k % m + j] )
 *
 * with m channels in a group, a divisor of VLEN. One vector of inputs holds the groups of one vector of
 * outputs; a permutation spreads the j-th channel of each group over its m lanes. Nothing of one group
 * ever meets another, so a NaN stays where it is.
 */

/* Column w of row r at channel c, n channels; zeros where the image has none. */
INLINE vec NAME(tap)(const fnn_row *t, ptrdiff_t r, ptrdiff_t w, ptrdiff_t c, ptrdiff_t n) {
    if (!t->rows[r] || w < 0 || w >= t->w) return (vec){0};
    return NAME(load_first)((const real *)t->rows[r] + w * t->x_pixel + c, n);
}

/* Lane k of the j-th permutation reads lane k - k % m + j. */
INLINE mask NAME(spread)(int m, int j) {
    mask lanes;
    for (int k = 0; k < VLEN; k++) lanes[k] = k - k % m + j;
    return lanes;
}

/* Outputs side by side, so that a vector of filters is loaded once for all of them. */
#define ABREAST 4

INLINE void NAME(grouped_lane)(const fnn_row *t, int m, int abreast, ptrdiff_t q, ptrdiff_t c, ptrdiff_t n) {
    const vec bias = t->bias ? NAME(load_first)((const real *)t->bias + c, n) : (vec){0};
    const mask first = NAME(spread)(m, 0);
    vec sum[ABREAST];
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++)
        sum[i] = t->accumulate ? bias + NAME(load_first)((real *)t->y + (q + i) * t->y_pixel + c, n) : bias;
    const real *f = (const real *)t->filters + c;
    for (ptrdiff_t r = 0; r < t->r; r++)
        for (ptrdiff_t s = 0; s < t->s; s++) {
            vec x[ABREAST];
#pragma GCC unroll 4
            for (int i = 0; i < abreast; i++) x[i] = NAME(tap)(t, r, (q + i) * t->stride + t->tap_w[s], c, n);
            for (int j = 0; j < m; j++, f += t->filter_step) {
                const vec filter = NAME(load_first)(f, n);
                const mask lanes = first + j;
#pragma GCC unroll 4
                for (int i = 0; i < abreast; i++) sum[i] += filter * permute(x[i], lanes);
            }
        }
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++)
        NAME(store_first)((real *)t->y + (q + i) * t->y_pixel + c, NAME(rectify)(sum[i], t->relu), n);
}

/* grad_filters[r, s, j, k] += sum_q grad_y[q, k] x_r[...]: the taps one after the other. */
INLINE void NAME(grouped_lane_gradient)(const fnn_row *t, int m, ptrdiff_t r, ptrdiff_t s, ptrdiff_t c,
                                        ptrdiff_t n) {
    real *f = (real *)t->filters + (r * t->s + s) * m * t->filter_step + c;
    const mask first = NAME(spread)(m, 0);
    vec sum[8];
    for (int j = 0; j < m; j++) sum[j] = NAME(load_first)(f + j * t->filter_step, n);
    for (ptrdiff_t q = 0; q < t->q; q++) {
        const vec x = NAME(tap)(t, r, q * t->stride + t->tap_w[s], c, n);
        const vec g = NAME(load_first)((const real *)t->y + q * t->y_pixel + c, n);
        for (int j = 0; j < m; j++) sum[j] += g * permute(x, first + j);
    }
    for (int j = 0; j < m; j++) NAME(store_first)(f + j * t->filter_step, sum[j], n);
}

INLINE void NAME(grouped_channels)(const fnn_row *t, int m) {
    for (ptrdiff_t c = 0; c < t->channels; c += VLEN) {
        ptrdiff_t q = 0;
        for (; q + ABREAST <= t->q; q += ABREAST) NAME(grouped_lane)(t, m, ABREAST, q, c, t->channels - c);
        for (; q < t->q; q++) NAME(grouped_lane)(t, m, 1, q, c, t->channels - c);
    }
}

INLINE void NAME(grouped_channels_gradient)(const fnn_row *t, int m) {
    for (ptrdiff_t c = 0; c < t->channels; c += VLEN)
        for (ptrdiff_t r = 0; r < t->r; r++)
            for (ptrdiff_t s = 0; s < t->s; s++) NAME(grouped_lane_gradient)(t, m, r, s, c, t->channels - c);
}

/* A constant m in each, so that the sums of a gradient are registers; m <= VLEN / 2 is a divisor of it. */
static void NAME(grouped_row)(const fnn_row *t) {
    if (t->group == 2) NAME(grouped_channels)(t, 2);
    if (t->group == 4) NAME(grouped_channels)(t, 4);
    if (t->group == 8) NAME(grouped_channels)(t, 8);
}
static void NAME(grouped_gradient)(const fnn_row *t) {
    if (t->group == 2) NAME(grouped_channels_gradient)(t, 2);
    if (t->group == 4) NAME(grouped_channels_gradient)(t, 4);
    if (t->group == 8) NAME(grouped_channels_gradient)(t, 8);
}
#undef ABREAST
