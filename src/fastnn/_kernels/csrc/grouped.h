/* Convolution in groups of a few channels, as many out as in: vectors run along channels, across groups.
 *
 *     y[q, k] = f( bias[k] + sum_{r, s, j} filters[r, s, j, k] x_r[q stride + tap_w[s], k - k % m + j] )
 *     grad_filters[r, s, i, c] += sum_q grad_y[q, c - c % m + i] x_r[q stride + tap_w[s], c]
 *
 * with m channels in a group, a divisor of VLEN. One vector of inputs holds the groups of one vector of outputs; the
 * j-th channel of each group is spread over its m lanes. Nothing of one group ever meets another, so a NaN stays where
 * it is. The gradient spreads grad_y. Filters and gradients lie as panels [r][s][m][VLEN], for in rows of all channels
 * they would fall into a few sets of L1, as pixels do (Zen 3, 128 channels in 32 groups, 56 x 56: 1.1 times as fast).
 *
 * Three taps beside each other share what they read: of ABREAST outputs 6 vectors are spread for 12 multiply-adds,
 * not 12. The vectors of one cache LINE take turns, else each line would be fetched for each of them.
 */
#define LINE (64 / VBYTES)

/* Lane k reads lane k - k % m + j. */
INLINE mask NAME(lanes_of)(int m, int j) {
    mask lanes;
    for (int k = 0; k < VLEN; k++) lanes[k] = k - k % m + j;
    return lanes;
}

/* Channel j of each group at x, in all lanes of the group. */
INLINE vec NAME(spread)(const real *x, int m, int j) {
    return m == VLEN ? splat(x[j]) : permute(load(x), NAME(lanes_of)(m, j));
}

/* The filters of the vector of channels from c on. */
INLINE real *NAME(panel)(const fnn_row *t, ptrdiff_t c) { return (real *)t->filters + c / VLEN * t->filter_step; }

/* Outputs side by side, so that a vector of filters is loaded once for all of them; and the sums of each, for a
 * multiply-add begins every half a cycle and ends four after. */
#define ABREAST 4
#define SUMS 2

/* `abreast` outputs from q on through the columns of taps s0 .. s1 - 1, which all lie in the image, `width` of them at
 * a time: 3 beside each other, with stride `apart`; or 1, with any stride and apart 1. One output alone takes those of
 * its three that there are: its sums are in the same order wherever it lies. */
INLINE void NAME(grouped_outputs)(const fnn_row *t, int m, int abreast, ptrdiff_t width, int apart, ptrdiff_t s0,
                                  ptrdiff_t s1, ptrdiff_t q, ptrdiff_t c) {
    const ptrdiff_t column = width == 1 ? t->stride * t->x_pixel : t->x_pixel;
    const int columns = abreast > 1 ? (abreast - 1) * apart + (int)width : 0; /* that several outputs share */
    const vec bias = t->bias ? load((const real *)t->bias + c) : (vec){0};
    real *y = (real *)t->y + q * t->y_pixel + c;
    vec sum[SUMS][ABREAST] = {0};
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++) sum[0][i] = t->accumulate ? bias + load(y + i * t->y_pixel) : bias;
    for (ptrdiff_t r = 0; r < t->r; r++) {
        if (!t->rows[r]) continue;
        for (ptrdiff_t s = s0; s < s1; s += width) {
            const real *x = (const real *)t->rows[r] + (q * t->stride + t->tap_w[s]) * t->x_pixel + c;
            const real *f = NAME(panel)(t, c) + (r * t->s + s) * m * VLEN;
#pragma GCC unroll 16
            for (int j = 0; j < m; j++, f += VLEN) {
                vec spread[(ABREAST - 1) * 2 + 3];
                __asm__("" : "+r"(x)); /* read again: the pixels before they are spread would take all registers */
#pragma GCC unroll 9
                for (int i = 0; i < columns; i++) spread[i] = NAME(spread)(x + i * column, m, j);
#pragma GCC unroll 3
                for (ptrdiff_t tap = 0; tap < width; tap++) {
                    const vec filter = load(f + tap * m * VLEN);
                    if (abreast == 1)
                        sum[j % SUMS][0] += filter * NAME(spread)(x + tap * column, m, j);
                    else
#pragma GCC unroll 4
                        for (int i = 0; i < abreast; i++) sum[j % SUMS][i] += filter * spread[i * apart + tap];
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++)
        store(y + i * t->y_pixel, NAME(rectify)(sum[0][i] + sum[1][i], t->relu));
}

/* One output at n channels, fewer than a vector, through the columns of taps s0 .. s1 - 1. */
INLINE void NAME(grouped_rest)(const fnn_row *t, int m, ptrdiff_t s0, ptrdiff_t s1, ptrdiff_t q, ptrdiff_t c,
                               ptrdiff_t n) {
    real *y = (real *)t->y + q * t->y_pixel + c;
    vec sum[SUMS] = {t->bias ? NAME(load_first)((const real *)t->bias + c, n) : (vec){0}};
    if (t->accumulate) sum[0] += NAME(load_first)(y, n);
    for (ptrdiff_t r = 0; r < t->r; r++) {
        if (!t->rows[r]) continue;
        for (ptrdiff_t s = s0; s < s1; s++) {
            const real *pixel = (const real *)t->rows[r] + (q * t->stride + t->tap_w[s]) * t->x_pixel + c;
            const real *f = NAME(panel)(t, c) + (r * t->s + s) * m * VLEN;
            const vec x = NAME(load_first)(pixel, n);
#pragma GCC unroll 16
            for (int j = 0; j < m; j++, f += VLEN) sum[j % SUMS] += load(f) * permute(x, NAME(lanes_of)(m, j));
        }
    }
    NAME(store_first)(y, NAME(rectify)(sum[0] + sum[1], t->relu), n);
}

/* The outputs first .. last - 1 are those that the column of taps s reads inside the image. */
INLINE void NAME(outputs_inside)(const fnn_row *t, ptrdiff_t s, ptrdiff_t *first, ptrdiff_t *last) {
    const ptrdiff_t w = t->tap_w[s], room = t->w - w;
    const ptrdiff_t from = w < 0 ? (-w + t->stride - 1) / t->stride : 0;
    const ptrdiff_t to = room > 0 ? (room + t->stride - 1) / t->stride : 0;
    *first = from < t->q ? from : t->q;
    *last = to < t->q ? to : t->q;
}

/* Whether a row of three taps lies together. */
INLINE int NAME(three_taps)(const fnn_row *t) { return t->s == 3 && t->tap_w[2] == t->tap_w[0] + 2; }

/* The columns of taps that output q reads inside the image. */
INLINE void NAME(taps_inside)(const fnn_row *t, ptrdiff_t q, ptrdiff_t *s0, ptrdiff_t *s1) {
    *s0 = 0;
    while (*s0 < t->s && q * t->stride + t->tap_w[*s0] < 0) ++*s0;
    *s1 = *s0;
    while (*s1 < t->s && q * t->stride + t->tap_w[*s1] < t->w) ++*s1;
}

INLINE void NAME(grouped_channels)(const fnn_row *t, int m) {
    const int three = NAME(three_taps)(t) && t->stride <= 2;
    for (ptrdiff_t line = 0; line < t->channels; line += LINE * VLEN) {
        const ptrdiff_t end = line + LINE * VLEN < t->channels ? line + LINE * VLEN : t->channels;
        const ptrdiff_t whole = end - (end - line) % VLEN;
        ptrdiff_t s0, s1, ends0, ends1;
        for (ptrdiff_t q = 0; q < t->q;) {
            NAME(taps_inside)(t, q, &s0, &s1);
            NAME(taps_inside)(t, q + ABREAST - 1, &ends0, &ends1);
            const int abreast = q + ABREAST <= t->q && s0 == 0 && ends1 == t->s ? ABREAST : 1;
            for (ptrdiff_t c = line; c < whole; c += VLEN)
                if (abreast == 1)
                    NAME(grouped_outputs)(t, m, 1, three ? s1 - s0 : 1, 1, s0, s1, q, c);
                else if (three && t->stride == 1)
                    NAME(grouped_outputs)(t, m, ABREAST, 3, 1, 0, 3, q, c);
                else if (three)
                    NAME(grouped_outputs)(t, m, ABREAST, 3, 2, 0, 3, q, c);
                else
                    NAME(grouped_outputs)(t, m, ABREAST, 1, 1, 0, t->s, q, c);
            q += abreast;
        }
        for (ptrdiff_t q = 0; whole < end && q < t->q; q++) {
            NAME(taps_inside)(t, q, &s0, &s1);
            NAME(grouped_rest)(t, m, s0, s1, q, whole, end - whole);
        }
    }
}

/* What the outputs q0 .. q1 - 1 add to the gradient of `width` taps beside each other from s on; all lie inside. */
INLINE void NAME(grouped_taps)(const fnn_row *t, int m, int width, ptrdiff_t r, ptrdiff_t s, ptrdiff_t q0, ptrdiff_t q1,
                               ptrdiff_t c) {
    real *f = NAME(panel)(t, c) + (r * t->s + s) * m * VLEN;
    const real *x = (const real *)t->rows[r] + (q0 * t->stride + t->tap_w[s]) * t->x_pixel + c;
    const real *g = (const real *)t->y + q0 * t->y_pixel + c;
    vec sum[3 * VLEN];
#pragma GCC unroll 24
    for (int i = 0; i < width * m; i++) sum[i] = load(f + i * VLEN);
    for (ptrdiff_t q = q0; q < q1; q++, x += t->stride * t->x_pixel, g += t->y_pixel) {
        vec column[3];
#pragma GCC unroll 3
        for (int tap = 0; tap < width; tap++) column[tap] = load(x + tap * t->x_pixel);
#pragma GCC unroll 16
        for (int i = 0; i < m; i++) {
            const vec spread = NAME(spread)(g, m, i);
#pragma GCC unroll 3
            for (int tap = 0; tap < width; tap++) sum[tap * m + i] += spread * column[tap];
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < width * m; i++) store(f + i * VLEN, sum[i]);
}

/* The same of one tap at n channels, fewer than a vector. */
INLINE void NAME(grouped_rest_taps)(const fnn_row *t, int m, ptrdiff_t r, ptrdiff_t s, ptrdiff_t q0, ptrdiff_t q1,
                                    ptrdiff_t c, ptrdiff_t n) {
    real *f = NAME(panel)(t, c) + (r * t->s + s) * m * VLEN;
    vec sum[VLEN];
#pragma GCC unroll 16
    for (int i = 0; i < m; i++) sum[i] = load(f + i * VLEN);
    for (ptrdiff_t q = q0; q < q1; q++) {
        const ptrdiff_t w = q * t->stride + t->tap_w[s];
        const vec x = NAME(load_first)((const real *)t->rows[r] + w * t->x_pixel + c, n);
        const vec g = NAME(load_first)((const real *)t->y + q * t->y_pixel + c, n);
#pragma GCC unroll 16
        for (int i = 0; i < m; i++) sum[i] += x * permute(g, NAME(lanes_of)(m, i));
    }
#pragma GCC unroll 16
    for (int i = 0; i < m; i++) store(f + i * VLEN, sum[i]);
}

/* Three taps at a time where their sums, and what is added, are registers; the outputs at the ends of a row, that not
 * all of them read, tap by tap. */
INLINE void NAME(grouped_channels_gradient)(const fnn_row *t, int m) {
    const int registers = VBYTES == 64 ? 32 : 16;
    const int three = 3 * m + 4 <= registers && NAME(three_taps)(t);
    ptrdiff_t first, last, other, q0 = 0, q1 = 0; /* q0 .. q1 - 1 read all three */
    if (three) {
        NAME(outputs_inside)(t, 0, &q0, &other);
        NAME(outputs_inside)(t, 2, &other, &q1);
    }
    if (q0 >= q1) q0 = q1 = t->q;
    for (ptrdiff_t c = 0; c < t->channels; c += VLEN)
        for (ptrdiff_t r = 0; r < t->r; r++) {
            const ptrdiff_t n = t->channels - c;
            if (!t->rows[r]) continue;
            if (n >= VLEN && q0 < q1) NAME(grouped_taps)(t, m, 3, r, 0, q0, q1, c);
            for (ptrdiff_t s = 0; s < t->s; s++) {
                NAME(outputs_inside)(t, s, &first, &last);
                if (n < VLEN)
                    NAME(grouped_rest_taps)(t, m, r, s, first, last, c, n);
                else
                    for (int behind = 0; behind < 2; behind++) {
                        const ptrdiff_t from = behind ? q1 : first, to = !behind && q0 < last ? q0 : last;
                        if (from < to) NAME(grouped_taps)(t, m, 1, r, s, from, to, c);
                    }
            }
        }
}

/* A constant m in each, so that the sums of a gradient are registers; m <= VLEN is a divisor of it. */
static void NAME(grouped_row)(const fnn_row *t) {
    if (t->group == 2) NAME(grouped_channels)(t, 2);
    if (VLEN >= 4 && t->group == 4) NAME(grouped_channels)(t, 4);
    if (VLEN >= 8 && t->group == 8) NAME(grouped_channels)(t, 8);
    if (VLEN >= 16 && t->group == 16) NAME(grouped_channels)(t, 16);
}
static void NAME(grouped_gradient)(const fnn_row *t) {
    if (t->group == 2) NAME(grouped_channels_gradient)(t, 2);
    if (VLEN >= 4 && t->group == 4) NAME(grouped_channels_gradient)(t, 4);
    if (VLEN >= 8 && t->group == 8) NAME(grouped_channels_gradient)(t, 8);
    if (VLEN >= 16 && t->group == 16) NAME(grouped_channels_gradient)(t, 16);
}
#undef ABREAST
#undef SUMS
#undef LINE
