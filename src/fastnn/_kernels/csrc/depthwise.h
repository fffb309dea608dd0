/* Depthwise convolution: one filter a channel, so vectors run along channels and nothing is shared
 * between them.
 *
 *     y[q, c] = f( bias[c] + sum_{r, s} filters[r, s, c] x_r[q stride + tap_w[s], c] )
 *     grad_filters[r, s, c] += sum_q grad_y[q, c] x_r[q stride + tap_w[s], c]
 *
 * The bodies take one row of outputs, a vector of channels at a time. Where a filter has up to 3 x 3 taps, its
 * height, width and stride are constants of the code, and ABREAST outputs beside each other are computed at once:
 * what their windows share of a row is loaded once, and so are the row's taps, which suits 16 registers. A row of
 * padding is left out. Vectors BESIDE each other take turns: of AVX2 those of a cache line, else each line would be
 * fetched for each of them; of AVX-512 those of two lines, since half of every pixel after the other half is what
 * memory gives and takes slowest (Sapphire Rapids: 32 x 112 x 112 .59 of the time, 16 of them .71, 192 x 28 x 28 .89,
 * with their gradients .70, .73, .93).
 * AVX2 on Zen 3, one output at a time with its window in registers -> four -> whole lines: 32 x 112 x 112 242 -> 223
 * -> 155 us, 192 x 28 x 28 68 -> 65 -> 58, stride 2, 96 x 112 x 112 298 -> 264 -> 214. Where another thread shares the
 * processor instructions are what counts: for 4 x 2 vectors of outputs 275 -> 224, MobileNetV2 1.05 times as fast.
 *
 * Of these sizes, outputs that would fill the caches are written past them, where ABREAST are computed at once: a line
 * that is written otherwise is first read. 16 x 144 x 56 x 56, one thread or two, .77 of the time; the input's gradient
 * under stride 2, 16 x 96 x 112 x 112, .75. In 1 x 1 convolutions the products hide that reading, but on Intel's
 * processors (even_tile.h). Winograd's, which write 16 lines by turns, would take twice as long; so would GELU, which
 * has much to compute between two halves of a line.
 *
 * The gradient of filters takes outputs abreast, too, under a stride of 1 (nine such .70 to .96 of the time, AVX2 .72
 * to 1.01); under one of 2, whose windows share a column of three, it gains nothing.
 *
 * What the next row reads besides is fetched meanwhile where images come from beyond the caches: forward under a
 * stride of 2, 16 x 144 x 56 x 56, .59 of the time on a Zen 5, the filters' gradient .56. A line that is a vector is
 * read as two halves under a stride of 1 (144 x 56 x 56 .74), under one of 2 that takes 1.4 times as long.
 *
 * Filters of fewer taps are those of the input's gradient under a stride: of the 3 x 3 of stride 2, each pixel
 * sees 1 x 1, 1 x 2, 2 x 1 or 2 x 2 (96 channels of 112 x 112: 589 us with a load of each tap for each output,
 * so 254).
 */
#define ABREAST 4
#define BESIDE (VBYTES >= 32 ? 2 : 1)

/* The image under one filter, at one vector of channels, n of them used. */
typedef struct {
    const real *row[3]; /* NULL: padding */
    ptrdiff_t pixel, c, n;
} NAME(image);

/* Numbers `step` apart: every third has a pointer, which GCC is kept from making an index of, and the two behind it are
 * an address with the step once or twice. GCC makes each of them by an addition. */
#define THIRDS 3
typedef struct {
    const real *every_third[THIRDS];
    ptrdiff_t step;
} NAME(places);
INLINE NAME(places) NAME(places_from)(int count, const real *first, ptrdiff_t step) {
    NAME(places) p = {.step = step};
#pragma GCC unroll 4
    for (int i = 0; 3 * i < count; i++) {
        p.every_third[i] = i ? p.every_third[i - 1] + 3 * step : first;
        __asm__("" : "+r"(p.every_third[i]));
    }
    return p;
}
INLINE const real *NAME(place)(const NAME(places) * p, int i) { return p->every_third[i / 3] + i % 3 * p->step; }

/* The columns under `abreast` windows of a row, w the first of them and its numbers at `from`. `inside`: known to lie
 * in the image. What two windows share is loaded once: GCC else takes it from memory for each, 1.1 times as long. */
INLINE void NAME(columns)(const fnn_row *t, const NAME(image) * image, int width, int stride, int abreast, int inside,
                          ptrdiff_t w, const real *from, vec *x) {
    const int columns = (abreast - 1) * stride + width;
    const NAME(places) place = NAME(places_from)(abreast > 1 ? columns : 0, from, image->pixel);
#pragma GCC unroll 9
    for (int j = 0; j < columns; j++) {
        const int there = inside || (0 <= w + j && w + j < t->w);
        const real *p = abreast > 1 ? NAME(place)(&place, j) : from + j * image->pixel;
        if (!there)
            x[j] = (vec){0};
        else
            x[j] = abreast > 1 && stride == 1 ? NAME(load_first_across)(p, image->n) : NAME(load_first)(p, image->n);
#if VBYTES == 32
        if (abreast > 1 && 0 < j && j < columns - 1 && j % stride + stride < width) __asm__("" : "+x"(x[j]));
#endif
    }
}

/* Whether a vector so many channels behind the image's first is the one that has a line fetched for its like. */
INLINE int NAME(is_first_of_line)(const NAME(image) * image, int lane) {
    return lane * (ptrdiff_t)sizeof(real) % 64 == 0 && image->c * (ptrdiff_t)sizeof(real) % 64 == 0;
}

/* Fetch what the next row of outputs reads besides, under as many of them. The few at the edges do without: more
 * instances of it would be 30 KB. */
INLINE void NAME(fetch_rows)(const fnn_row *t, const NAME(image) * image, int lane, int stride, int abreast,
                             ptrdiff_t offset) {
#pragma GCC unroll 1
    for (int r = 0; r < FNN_ROWS_AHEAD && t->ahead[r]; r++) {
        const NAME(places) ahead =
            NAME(places_from)(abreast * stride, (const real *)t->ahead[r] + offset + image->c + lane, t->x_pixel);
#pragma GCC unroll 8
        for (int j = 0; j < abreast * stride; j++) __builtin_prefetch(NAME(place)(&ahead, j), 0, 2);
    }
}

/* Outputs q .. q + abreast - 1, the first of which lies at y; its window begins `offset` behind the start of a row. */
INLINE void NAME(outputs)(const fnn_row *t, const NAME(image) * image, int lane, int height, int width, int stride,
                          int abreast, int inside, int past, ptrdiff_t q, ptrdiff_t offset, vec bias, const vec *f,
                          real *y_) {
    const ptrdiff_t w = q * stride + t->tap_w[0];
    const NAME(places) y = NAME(places_from)(abreast, y_, t->y_pixel);
    vec sum[ABREAST];
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++)
        sum[i] = t->accumulate ? bias + NAME(load_first)(NAME(place)(&y, i) + lane, image->n) : bias;
#pragma GCC unroll 3
    for (int r = 0; r < height; r++) {
        vec x[2 * ABREAST + 1];
        if (!image->row[r]) continue;
        NAME(columns)(t, image, width, stride, abreast, inside, w, image->row[r] + offset + lane, x);
#pragma GCC unroll 3
        for (int s = 0; s < width; s++)
#pragma GCC unroll 4
            for (int i = 0; i < abreast; i++) sum[i] += f[r * width + s] * x[i * stride + s];
    }
    if (abreast > 1 && NAME(is_first_of_line)(image, lane)) NAME(fetch_rows)(t, image, lane, stride, abreast, offset);
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++) {
        real *to = (real *)NAME(place)(&y, i) + lane;
        if (past)
            NAME(store_past)(to, NAME(rectify)(sum[i], t->relu));
        else
            NAME(store_first)(to, NAME(rectify)(sum[i], t->relu), image->n);
    }
}

/* What outputs q .. q + abreast - 1 add to the gradient of the filter; y is the first one's gradient. */
INLINE void NAME(add_gradient)(const fnn_row *t, const NAME(image) * image, int lane, int height, int width, int stride,
                               int abreast, int inside, ptrdiff_t q, ptrdiff_t offset, const real *y, vec *f) {
    vec g[ABREAST];
#pragma GCC unroll 4
    for (int i = 0; i < abreast; i++) g[i] = NAME(load_first)(y + i * t->y_pixel + lane, image->n);
#pragma GCC unroll 3
    for (int r = 0; r < height; r++) {
        vec x[2 * ABREAST + 1];
        if (!image->row[r]) continue;
        NAME(columns)(t, image, width, stride, abreast, inside, q * stride + t->tap_w[0],
                      image->row[r] + offset + lane, x);
#pragma GCC unroll 4
        for (int i = 0; i < abreast; i++)
#pragma GCC unroll 3
            for (int s = 0; s < width; s++) f[r * width + s] += g[i] * x[i * stride + s];
    }
    if (inside && NAME(is_first_of_line)(image, lane) && t->ahead[0]) {
        NAME(fetch_rows)(t, image, lane, stride, abreast, offset);
        for (int i = 0; i < abreast; i++)
            __builtin_prefetch((const real *)t->y_ahead + (q + i) * t->y_pixel + image->c + lane, 0, 2);
    }
}

/* Outputs from q on, ABREAST at a time as long as q1 allows, all of whose taps lie inside. Returns the next. */
INLINE ptrdiff_t NAME(interior)(const fnn_row *t, const NAME(image) * image, int vectors, int height, int width,
                                int stride, int gradient, int past, ptrdiff_t q, ptrdiff_t q1, const vec *bias,
                                vec *f) {
    const int taps = height * width;
    real *y = (real *)t->y + q * t->y_pixel + image->c;
    ptrdiff_t offset = (q * stride + t->tap_w[0]) * image->pixel;
    for (; q + ABREAST <= q1; q += ABREAST, y += ABREAST * t->y_pixel, offset += ABREAST * stride * image->pixel)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            if (gradient)
                NAME(add_gradient)(t, image, v * VLEN, height, width, stride, ABREAST, 1, q, offset, y, f + v * taps);
            else
                NAME(outputs)(t, image, v * VLEN, height, width, stride, ABREAST, 1, past, q, offset, bias[v],
                              f + v * taps, y);
    return q;
}

/* Outputs q .. q1 - 1 at vectors of channels beside each other: `gradient` adds to f, else y is written. */
INLINE void NAME(span)(const fnn_row *t, const NAME(image) * image, int vectors, int height, int width, int stride,
                       int inside, int gradient, ptrdiff_t q, ptrdiff_t q1, const vec *bias, vec *f) {
    const int taps = height * width;
    if (inside && (!gradient || stride == 1))
        q = !gradient && PAST_CACHES && t->past
                ? NAME(interior)(t, image, vectors, height, width, stride, 0, 1, q, q1, bias, f)
                : NAME(interior)(t, image, vectors, height, width, stride, gradient, 0, q, q1, bias, f);
    real *y = (real *)t->y + q * t->y_pixel + image->c;
    ptrdiff_t offset = (q * stride + t->tap_w[0]) * image->pixel;
    for (; q < q1; q++, y += t->y_pixel, offset += stride * image->pixel)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            if (gradient)
                NAME(add_gradient)(t, image, v * VLEN, height, width, stride, 1, inside, q, offset, y, f + v * taps);
            else
                NAME(outputs)(t, image, v * VLEN, height, width, stride, 1, inside, 0, q, offset, bias[v],
                              f + v * taps, y);
}

/* A row at vectors of channels, all but the last of them whole. */
INLINE void NAME(row)(const fnn_row *t, int vectors, int height, int width, int stride, int gradient, ptrdiff_t c,
                      ptrdiff_t n) {
    NAME(image) image = {.pixel = t->x_pixel, .c = c, .n = n};
    /* Where all taps lie inside: first + q stride >= 0 and first + q stride + width - 1 < w. */
    const ptrdiff_t first = t->tap_w[0], room = t->w - (width - 1) - first;
    ptrdiff_t q0 = first >= 0 ? 0 : (-first + stride - 1) / stride;
    ptrdiff_t q1 = room > 0 ? (room + stride - 1) / stride : 0;
    q1 = q1 < t->q ? q1 : t->q;
    q0 = q0 < q1 ? q0 : q1;
    vec f[2 * 9], bias[2] = {0};
    real *filters = (real *)t->filters + c;
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        if (t->bias && !gradient) bias[v] = NAME(load_first)((const real *)t->bias + c + v * VLEN, n);
#pragma GCC unroll 9
        for (int i = 0; i < height * width; i++)
            f[v * height * width + i] = NAME(load_first)(filters + i * t->filter_step + v * VLEN, n);
    }
#pragma GCC unroll 3
    for (int r = 0; r < height; r++) image.row[r] = t->rows[r] ? (const real *)t->rows[r] + c : NULL;
#pragma GCC unroll 1
    for (int right = 0; right < 2; right++) { /* both edges by the same code, which is long */
        NAME(span)(t, &image, vectors, height, width, stride, 0, gradient, right ? q1 : 0, right ? t->q : q0, bias, f);
        if (!right) NAME(span)(t, &image, vectors, height, width, stride, 1, gradient, q0, q1, bias, f);
    }
    if (gradient) {
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
#pragma GCC unroll 9
            for (int i = 0; i < height * width; i++)
                NAME(store_first)(filters + i * t->filter_step + v * VLEN, f[v * height * width + i], n);
    }
}

/* Column w of row r at channel c, n channels; zeros where the image has none. */
INLINE vec NAME(tap)(const fnn_row *t, ptrdiff_t r, ptrdiff_t w, ptrdiff_t c, ptrdiff_t n) {
    if (!t->rows[r] || w < 0 || w >= t->w) return (vec){0};
    return NAME(load_first)((const real *)t->rows[r] + w * t->x_pixel + c, n);
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

/* The channels of a row that fill vectors beside each other; returns where they end. All sizes are constants. A vector
 * that is left is a line, too, of AVX-512; `rest` has the code for one under 3 x 3 filters. */
INLINE ptrdiff_t NAME(beside)(const fnn_row *task, int height, int width, int stride, int gradient) {
    const fnn_row t = *task; /* a copy, which no store to y can change */
    ptrdiff_t c = 0;
    for (; c + BESIDE * VLEN <= t.channels; c += BESIDE * VLEN)
        NAME(row)(&t, BESIDE, height, width, stride, gradient, c, VLEN);
    if (VBYTES == 64 && height * width < 9 && c + VLEN <= t.channels) {
        NAME(row)(&t, 1, height, width, stride, gradient, c, VLEN);
        c += VLEN;
    }
    return c;
}

/* What is left, for the commonest filters; else a vector at a time by the bodies for any size. */
INLINE ptrdiff_t NAME(rest)(const fnn_row *t, int stride, int gradient, ptrdiff_t c) {
    for (; c < t->channels; c += VLEN) NAME(row)(t, 1, 3, 3, stride, gradient, c, t->channels - c);
    return c;
}

INLINE void NAME(depthwise_channels)(const fnn_row *t, int gradient) {
    const int dense = t->s == 1 || (t->tap_w[1] == t->tap_w[0] + 1 && t->s <= 3);
    const ptrdiff_t size = dense && t->r <= 3 && t->stride <= 2 ? 100 * t->stride + 10 * t->r + t->s : 0;
    ptrdiff_t c = 0;
    if (size == 133)
        c = NAME(rest)(t, 1, gradient, NAME(beside)(t, 3, 3, 1, gradient));
    else if (size == 233)
        c = NAME(rest)(t, 2, gradient, NAME(beside)(t, 3, 3, 2, gradient));
    else if (size == 122 && !gradient)
        c = NAME(beside)(t, 2, 2, 1, 0);
    else if (size == 121 && !gradient)
        c = NAME(beside)(t, 2, 1, 1, 0);
    else if (size == 112 && !gradient)
        c = NAME(beside)(t, 1, 2, 1, 0);
    else if (size == 111 && !gradient)
        c = NAME(beside)(t, 1, 1, 1, 0);
    for (; c < t->channels; c += VLEN)
        if (gradient)
            NAME(depthwise_any_gradient)(t, c, t->channels - c);
        else
            NAME(depthwise_any)(t, c, t->channels - c);
}

static void NAME(depthwise_row)(const fnn_row *t) { NAME(depthwise_channels)(t, 0); }
static void NAME(depthwise_gradient)(const fnn_row *t) { NAME(depthwise_channels)(t, 1); }
#undef ABREAST
#undef BESIDE
#undef THIRDS
