/* Depthwise convolution: one filter a channel, so vectors run along channels and nothing is shared
 * between them.
 *
 *     y[q, c] = f( bias[c] + sum_{r, s} filters[r, s, c] x_r[q stride + tap_w[s], c] )
 *     grad_filters[r, s, c] += sum_q grad_y[q, c] x_r[q stride + tap_w[s], c]
 *
 * The bodies take one row of outputs, a vector of channels at a time. Of a filter of up to 3 x 3 taps the numbers
 * of each channel stay in registers, and so do the columns of the image that the next output reads again: each
 * input is loaded once a row. Its height and width are constants of the code, and so is `kept`, the number of
 * those columns. Padding is zeros: a row outside the image is one pixel of zeros, with step 0.
 *
 * Filters of fewer taps are those of the input's gradient under a stride: of the 3 x 3 of stride 2, each pixel
 * sees 1 x 1, 1 x 2, 2 x 1 or 2 x 2 (96 channels of 112 x 112: 589 us with a load of each tap for each output,
 * so 254).
 */

/* The image under one filter, at one vector of channels, n of them used. */
typedef struct {
    const real *row[3];
    ptrdiff_t step[3];
} NAME(image);

INLINE NAME(image) NAME(image_under)(const fnn_row *t, int height, ptrdiff_t c) {
    NAME(image) image;
#pragma GCC unroll 3
    for (int r = 0; r < height; r++) {
        image.row[r] = (const real *)(t->rows[r] ? t->rows[r] : t->zeros) + c;
        image.step[r] = t->rows[r] ? t->x_pixel : 0;
    }
    return image;
}

/* Column w of the rows. `inside`: known to lie in the image. */
INLINE void NAME(column)(const fnn_row *t, const NAME(image) * image, int height, int inside, ptrdiff_t w,
                         ptrdiff_t n, vec *x) {
    const int there = inside || (0 <= w && w < t->w);
#pragma GCC unroll 3
    for (int r = 0; r < height; r++)
        x[r] = there ? NAME(load_first)(image->row[r] + w * image->step[r], n) : (vec){0};
}

/* The columns that the window of the output before has read are moved over, not loaded again. */
INLINE void NAME(window)(const fnn_row *t, const NAME(image) * image, int height, int width, int kept, int inside,
                         ptrdiff_t q, ptrdiff_t c, ptrdiff_t n, vec *x) {
    const ptrdiff_t w = q * t->stride + t->tap_w[0];
#pragma GCC unroll 9
    for (int i = 0; i < kept * height; i++) x[i] = x[i + (width - kept) * height];
#pragma GCC unroll 3
    for (int i = kept; i < width; i++) {
        NAME(column)(t, image, height, inside, w + i, n, x + height * i);
        if (t->ahead) __builtin_prefetch((const real *)t->ahead + (w + i) * t->x_pixel + c, 0, 2);
    }
}

/* Outputs q0 .. q1 - 1: `gradient` adds to f, else y is written. */
INLINE void NAME(span)(const fnn_row *t, const NAME(image) * image, int height, int width, int kept, int inside,
                       int gradient, ptrdiff_t q0, ptrdiff_t q1, ptrdiff_t c, ptrdiff_t n, vec bias, vec *f,
                       vec *x) {
    real *y = (real *)t->y + q0 * t->y_pixel + c;
    for (ptrdiff_t q = q0; q < q1; q++, y += t->y_pixel) {
        NAME(window)(t, image, height, width, kept, inside, q, c, n, x);
        if (gradient) {
            const vec g = NAME(load_first)(y, n);
#pragma GCC unroll 9
            for (int i = 0; i < height * width; i++) f[i] += g * x[i];
        } else {
            /* a sum for each column, for a single one would wait for each multiplication in turn */
            vec sum[3] = {t->accumulate ? bias + NAME(load_first)(y, n) : bias};
#pragma GCC unroll 9
            for (int i = 0; i < height * width; i++)
                sum[i / height] = i && i % height == 0 ? f[i] * x[i] : sum[i / height] + f[i] * x[i];
#pragma GCC unroll 3
            for (int i = 1; i < width; i++) sum[0] += sum[i];
            NAME(store_first)(y, NAME(rectify)(sum[0], t->relu), n);
        }
    }
}

/* A row at one vector of channels. */
INLINE void NAME(row)(const fnn_row *t, int height, int width, int kept, int gradient, ptrdiff_t c, ptrdiff_t n) {
    const NAME(image) image = NAME(image_under)(t, height, c);
    const vec bias = t->bias && !gradient ? NAME(load_first)((const real *)t->bias + c, n) : (vec){0};
    /* Where all taps lie inside: first + q stride >= 0 and first + q stride + width - 1 < w. */
    const ptrdiff_t first = t->tap_w[0], room = t->w - (width - 1) - first;
    ptrdiff_t q0 = first >= 0 ? 0 : (-first + t->stride - 1) / t->stride;
    ptrdiff_t q1 = room > 0 ? (room + t->stride - 1) / t->stride : 0;
    q1 = q1 < t->q ? q1 : t->q;
    q0 = q0 < q1 ? q0 : q1;
    vec f[9], x[9];
#pragma GCC unroll 9
    for (int i = 0; i < height * width; i++) /* by columns, as x */
        f[i] = NAME(load_first)((const real *)t->filters + (i % height * width + i / height) * t->filter_step + c, n);
#pragma GCC unroll 3
    for (int i = 0; i < kept; i++)
        NAME(column)(t, &image, height, 0, first + i, n, x + height * (i + width - kept));
    NAME(span)(t, &image, height, width, kept, 0, gradient, 0, q0, c, n, bias, f, x);
    NAME(span)(t, &image, height, width, kept, 1, gradient, q0, q1, c, n, bias, f, x);
    NAME(span)(t, &image, height, width, kept, 0, gradient, q1, t->q, c, n, bias, f, x);
    if (gradient) {
#pragma GCC unroll 9
        for (int i = 0; i < height * width; i++)
            NAME(store_first)((real *)t->filters + (i % height * width + i / height) * t->filter_step + c, f[i], n);
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

/* The whole vectors of a row's channels; returns where they end. All sizes are constants. */
INLINE ptrdiff_t NAME(whole_vectors)(const fnn_row *task, int height, int width, int kept, int gradient) {
    const fnn_row t = *task; /* a copy, which no store to y can change */
    ptrdiff_t c = 0;
    for (; c + VLEN <= t.channels; c += VLEN) NAME(row)(&t, height, width, kept, gradient, c, VLEN);
    return c;
}

INLINE void NAME(depthwise_channels)(const fnn_row *t, int gradient) {
    const int dense = t->s == 1 || (t->tap_w[1] == t->tap_w[0] + 1 && t->s <= 3);
    const ptrdiff_t size = dense && t->r <= 3 ? 10 * t->r + t->s : 0;
    ptrdiff_t c = 0;
    if (size == 33 && t->stride == 1)
        c = NAME(whole_vectors)(t, 3, 3, 2, gradient);
    else if (size == 33 && t->stride == 2)
        c = NAME(whole_vectors)(t, 3, 3, 1, gradient);
    else if (size == 22 && !gradient)
        c = NAME(whole_vectors)(t, 2, 2, 0, 0);
    else if (size == 21 && !gradient)
        c = NAME(whole_vectors)(t, 2, 1, 0, 0);
    else if (size == 12 && !gradient)
        c = NAME(whole_vectors)(t, 1, 2, 0, 0);
    else if (size == 11 && !gradient)
        c = NAME(whole_vectors)(t, 1, 1, 0, 0);
    for (; c < t->channels; c += VLEN)
        if (size == 33)
            NAME(row)(t, 3, 3, 0, gradient, c, t->channels - c);
        else if (gradient)
            NAME(depthwise_any_gradient)(t, c, t->channels - c);
        else
            NAME(depthwise_any)(t, c, t->channels - c);
}

static void NAME(depthwise_row)(const fnn_row *t) { NAME(depthwise_channels)(t, 0); }
static void NAME(depthwise_gradient)(const fnn_row *t) { NAME(depthwise_channels)(t, 1); }
