/* Depthwise convolution: one filter a channel, so vectors run along channels and nothing is shared
 * between them.
 *
 *     y[q, c] = f( bias[c] + sum_{r, s} filters[r, s, c] x_r[q stride + tap_w[s], c] )
 *     grad_filters[r, s, c] += sum_q grad_y[q, c] x_r[q stride + tap_w[s], c]
 *
 * The bodies take one row of outputs, a vector of channels at a time. Of a 3 x 3 filter the nine numbers of
 * each channel stay in registers, and so do the columns of the image that the next output reads again: each
 * input is loaded once a row. Padding is zeros: a row outside the image is one pixel of zeros, with step 0.
 */

/* The image under one filter, at one vector of channels, n of them used. */
typedef struct {
    const real *row[3];
    ptrdiff_t step[3];
} NAME(image3);

INLINE NAME(image3) NAME(image_under)(const fnn_row *t, ptrdiff_t c) {
    NAME(image3) image;
#pragma GCC unroll 3
    for (int r = 0; r < 3; r++) {
        image.row[r] = (const real *)(t->rows[r] ? t->rows[r] : t->zeros) + c;
        image.step[r] = t->rows[r] ? t->x_pixel : 0;
    }
    return image;
}

/* Column w of the three rows. `inside`: known to lie in the image. */
INLINE void NAME(column3)(const fnn_row *t, const NAME(image3) * image, int inside, ptrdiff_t w, ptrdiff_t n,
                          vec *x) {
    const int there = inside || (0 <= w && w < t->w);
#pragma GCC unroll 3
    for (int r = 0; r < 3; r++) x[r] = there ? NAME(load_first)(image->row[r] + w * image->step[r], n) : (vec){0};
}

/* The columns that the window of the output before has read are moved over, not loaded again. */
INLINE void NAME(window3)(const fnn_row *t, const NAME(image3) * image, int stride, int inside, ptrdiff_t q,
                          ptrdiff_t c, ptrdiff_t n, vec *x) {
    const ptrdiff_t w = q * t->stride + t->tap_w[0];
#pragma GCC unroll 9
    for (int i = 0; i < 9 - 3 * stride; i++) x[i] = x[i + 3 * stride];
#pragma GCC unroll 3
    for (int i = 3 - stride; i < 3; i++) {
        NAME(column3)(t, image, inside, w + i, n, x + 3 * i);
        if (t->ahead) __builtin_prefetch((const real *)t->ahead + (w + i) * t->x_pixel + c, 0, 2);
    }
}

/* Outputs q0 .. q1 - 1: `gradient` adds to f, else y is written. */
INLINE void NAME(span3)(const fnn_row *t, const NAME(image3) * image, int stride, int inside, int gradient,
                        ptrdiff_t q0, ptrdiff_t q1, ptrdiff_t c, ptrdiff_t n, vec bias, vec *f, vec *x) {
    real *y = (real *)t->y + q0 * t->y_pixel + c;
    for (ptrdiff_t q = q0; q < q1; q++, y += t->y_pixel) {
        NAME(window3)(t, image, stride, inside, q, c, n, x);
        if (gradient) {
            const vec g = NAME(load_first)(y, n);
#pragma GCC unroll 9
            for (int i = 0; i < 9; i++) f[i] += g * x[i];
        } else {
            /* three sums, for a single one would wait for each multiplication in turn */
            const vec start = t->accumulate ? bias + NAME(load_first)(y, n) : bias;
            const vec sum = (start + f[0] * x[0] + f[1] * x[1] + f[2] * x[2])
                            + (f[3] * x[3] + f[4] * x[4] + f[5] * x[5]) + (f[6] * x[6] + f[7] * x[7] + f[8] * x[8]);
            NAME(store_first)(y, NAME(rectify)(sum, t->relu), n);
        }
    }
}

/* A row at one vector of channels; `stride` is a constant, 3 for all that keep no column. */
INLINE void NAME(row3)(const fnn_row *t, int stride, int gradient, ptrdiff_t c, ptrdiff_t n) {
    const NAME(image3) image = NAME(image_under)(t, c);
    const vec bias = t->bias && !gradient ? NAME(load_first)((const real *)t->bias + c, n) : (vec){0};
    /* Where all taps lie inside: first + q stride >= 0 and first + q stride + 2 < w. */
    const ptrdiff_t first = t->tap_w[0], room = t->w - 2 - first;
    ptrdiff_t q0 = first >= 0 ? 0 : (-first + t->stride - 1) / t->stride;
    ptrdiff_t q1 = room > 0 ? (room + t->stride - 1) / t->stride : 0;
    q1 = q1 < t->q ? q1 : t->q;
    q0 = q0 < q1 ? q0 : q1;
    vec f[9], x[9];
#pragma GCC unroll 9
    for (int i = 0; i < 9; i++) /* by columns, as x */
        f[i] = NAME(load_first)((const real *)t->filters + (i % 3 * 3 + i / 3) * t->filter_step + c, n);
#pragma GCC unroll 3
    for (int i = stride; i < 3; i++) NAME(column3)(t, &image, 0, first + i - stride, n, x + 3 * i);
    NAME(span3)(t, &image, stride, 0, gradient, 0, q0, c, n, bias, f, x);
    NAME(span3)(t, &image, stride, 1, gradient, q0, q1, c, n, bias, f, x);
    NAME(span3)(t, &image, stride, 0, gradient, q1, t->q, c, n, bias, f, x);
    if (gradient) {
#pragma GCC unroll 9
        for (int i = 0; i < 9; i++)
            NAME(store_first)((real *)t->filters + (i % 3 * 3 + i / 3) * t->filter_step + c, f[i], n);
    }
}

/* Filters of any size, dilated or not: each tap is loaded for each output. */
INLINE void NAME(depthwise_any)(const fnn_row *t, ptrdiff_t c, ptrdiff_t n) {
    const vec bias = t->bias ? NAME(load_first)((const real *)t->bias + c, n) : (vec){0};
    for (ptrdiff_t q = 0; q < t->q; q++) {
        real *y = (real *)t->y + q * t->y_pixel + c;
        vec sum = t->accumulate ? bias + NAME(load_first)(y, n) : bias;
        for (ptrdiff_t r = 0; r < t->r; r++) {
            const real *f = (const real *)t->filters + r * t->s * t->filter_step + c;
            for (ptrdiff_t s = 0; s < t->s; s++, f += t->filter_step)
                sum += NAME(load_first)(f, n) * NAME(tap)(t, r, q * t->stride + t->tap_w[s], c, n);
        }
        NAME(store_first)(y, NAME(rectify)(sum, t->relu), n);
    }
}

INLINE void NAME(depthwise_any_gradient)(const fnn_row *t, ptrdiff_t c, ptrdiff_t n) {
    for (ptrdiff_t r = 0; r < t->r; r++)
        for (ptrdiff_t s = 0; s < t->s; s++) {
            real *f = (real *)t->filters + (r * t->s + s) * t->filter_step + c;
            vec sum = NAME(load_first)(f, n);
            for (ptrdiff_t q = 0; q < t->q; q++)
                sum += NAME(load_first)((const real *)t->y + q * t->y_pixel + c, n)
                       * NAME(tap)(t, r, q * t->stride + t->tap_w[s], c, n);
            NAME(store_first)(f, sum, n);
        }
}

/* All channels of a row; stride and, but for the last vector, the number of channels are constants. */
INLINE void NAME(depthwise_channels)(const fnn_row *t, int gradient) {
    const int three = t->r == 3 && t->s == 3 && t->tap_w[1] == t->tap_w[0] + 1;
    ptrdiff_t c = 0;
    if (three && t->stride == 1)
        for (; c + VLEN <= t->channels; c += VLEN) NAME(row3)(t, 1, gradient, c, VLEN);
    else if (three && t->stride == 2)
        for (; c + VLEN <= t->channels; c += VLEN) NAME(row3)(t, 2, gradient, c, VLEN);
    for (; c < t->channels; c += VLEN) {
        const ptrdiff_t n = t->channels - c;
        if (three)
            NAME(row3)(t, 3, gradient, c, n);
        else if (gradient)
            NAME(depthwise_any_gradient)(t, c, n);
        else
            NAME(depthwise_any)(t, c, n);
    }
}

static void NAME(depthwise_row)(const fnn_row *t) { NAME(depthwise_channels)(t, 0); }
static void NAME(depthwise_gradient)(const fnn_row *t) { NAME(depthwise_channels)(t, 1); }
