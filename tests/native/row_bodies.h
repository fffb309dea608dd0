/* One row of a convolution in groups of one channel or a few, its gradient; evenly spaced; and rows with
   zeros beside them. */

/* Filters whose code differs, over 13 pixels from the one before the first: a path each of depthwise.h, then
   groups. A filter of several rows has its first one outside the image. */
static const struct {
    ptrdiff_t r, s, stride, dilation, group;
} FILTERS[] = {{3, 3, 1, 1, 1}, {3, 3, 2, 1, 1}, {2, 2, 1, 1, 1}, {2, 1, 1, 1, 1}, {1, 2, 1, 1, 1},
               {1, 1, 2, 1, 1}, {3, 3, 1, 2, 1}, {2, 5, 3, 1, 1}, {3, 3, 1, 1, 2}, {1, 3, 2, 1, 4},
               {2, 2, 1, 2, 8}, {3, 3, 2, 1, 2}, {3, 3, 1, 1, 4}, {1, 3, 1, 1, 8}, {1, 3, 2, 1, 16}};
enum { N_FILTERS = sizeof FILTERS / sizeof *FILTERS, PIXELS = 13 };

/* What the bodies of groups compute, for those whose vectors are too short for a group. */
static void plain_groups(const fnn_row *t, int gradient) {
    for (ptrdiff_t q = 0; q < t->q; q++)
        for (ptrdiff_t k = 0; k < t->channels; k++) {
            double sum = t->bias ? get(t->bias, k) : 0;
            const ptrdiff_t to = q * t->y_pixel + k;
            if (t->accumulate) sum += get(t->y, to);
            for (ptrdiff_t r = 0; r < t->r; r++)
                for (ptrdiff_t s = 0; s < t->s; s++)
                    for (ptrdiff_t j = 0; j < t->group; j++) {
                        const ptrdiff_t w = q * t->stride + t->tap_w[s], other = k - k % t->group + j;
                        const ptrdiff_t f = ((r * t->s + s) * t->group + j) * t->filter_step + k;
                        if (!t->rows[r] || w < 0 || w >= t->w) continue;
                        if (gradient)
                            set(t->filters, f, get(t->filters, f) + get(t->y, q * t->y_pixel + other)
                                                                        * get(t->rows[r], w * t->x_pixel + k));
                        else
                            sum += get(t->filters, f) * get(t->rows[r], w * t->x_pixel + other);
                    }
            if (gradient) continue;
            if (t->relu && sum < 0) sum = 0;
            set(t->y, to, t->relu == 2 && sum > 6 ? 6 : sum);
        }
}

/* Between rows of taps at all channels and panels of them at `lanes` channels each, which groups of several read. */
static void tap_panels(void *rows, void *panels, ptrdiff_t taps, ptrdiff_t channels, ptrdiff_t lanes, int back) {
    for (ptrdiff_t tap = 0; tap < taps; tap++)
        for (ptrdiff_t c = 0; c < channels; c++) {
            const ptrdiff_t row = tap * channels + c, place = (c / lanes * taps + tap) * lanes + c % lanes;
            if (back)
                set(rows, row, get(panels, place));
            else
                set(panels, place, get(rows, row));
        }
}

static void *rows_of(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n, int first, int last, int gradient) {
    void *out = draw((last - first) * 64 * 16 * size, 9);
    *n = 0;
    for (int i = first; i < last; i++) {
        const ptrdiff_t group = FILTERS[i].group, channels = group * size;
        const ptrdiff_t taps = FILTERS[i].r * FILTERS[i].s * group, outputs = (PIXELS - 1) / FILTERS[i].stride + 1;
        void *x = draw(3 * PIXELS * channels, 1), *filters = draw(taps * channels, 2), *bias = draw(channels, 3);
        void *memory = draw(outputs * channels, 4), *y = memory;
        const int past = group == 1 && !gradient && channels * itemsize % 64 == 0;
        if (past) {
            y = lines(outputs * channels);
            memcpy(y, memory, (size_t)(outputs * channels * itemsize));
        }
        const void *rows[3];
        ptrdiff_t tap_w[5];
        for (ptrdiff_t r = 0; r < 3; r++) rows[r] = at(x, r * PIXELS * channels);
        for (ptrdiff_t s = 0; s < 5; s++) tap_w[s] = s * FILTERS[i].dilation - 1;
        if (FILTERS[i].r > 1) rows[0] = NULL;
        fnn_row row = {.rows = rows, .ahead = {x, FILTERS[i].stride == 1 ? NULL : x}, .r = FILTERS[i].r,
                       .s = FILTERS[i].s, .group = group, .w = PIXELS, .channels = channels, .x_pixel = channels,
                       .q = outputs, .y_pixel = channels, .stride = FILTERS[i].stride, .tap_w = tap_w,
                       .filters = filters, .filter_step = channels, .bias = gradient ? NULL : bias, .y = y,
                       .y_ahead = y,
                       .accumulate = !gradient && i % 2, .relu = gradient ? 0 : i % 3, .past = past};
        if (group == 1)
            (gradient ? k->depthwise_gradient : k->depthwise_row)(&row);
        else if (group <= k->lanes) {
            row.filter_step = taps * k->lanes;
            row.filters = draw((channels + k->lanes) * taps, 5);
            tap_panels(filters, row.filters, taps, channels, k->lanes, 0);
            (gradient ? k->grouped_gradient : k->grouped_row)(&row);
            tap_panels(filters, row.filters, taps, channels, k->lanes, 1);
            free(row.filters);
        } else
            plain_groups(&row, gradient);
        const ptrdiff_t written = (gradient ? taps : outputs) * channels;
        memcpy(at(out, *n), gradient ? filters : y, (size_t)(written * itemsize));
        *n += written;
        if (past) free(y);
        free(x), free(filters), free(bias), free(memory);
    }
    return out;
}
static void *depthwise(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return rows_of(k, size, n, 0, 8, 0); }
static void *depthwise_gradient(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    return rows_of(k, size, n, 0, 8, 1);
}
static void *grouped(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    return rows_of(k, size, n, 8, N_FILTERS, 0);
}
static void *grouped_gradient(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    return rows_of(k, size, n, 8, N_FILTERS, 1);
}

/* Two rows of a filter, each reading `group` numbers of a row, 2 numbers a pixel; rows of 14 outputs, which is the
   tallest tile, and more. Between the outputs of pixels lie numbers that are to stay, but where pixels are whole lines,
   half of whose rows are written past the caches. */
static void *even_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    enum { RUN = 6, OUTPUTS = 29, STRIDE = 2, PIXEL = 2, WIDTH = (OUTPUTS - 1) * STRIDE * PIXEL + RUN };
    static const ptrdiff_t rows_of_outputs[] = {14, 15, 17, 24, OUTPUTS};
    enum { N_ROWS = sizeof rows_of_outputs / sizeof *rows_of_outputs };
    const int whole = size * itemsize % 64 == 0;
    const ptrdiff_t panels = (size + k->nr - 1) / k->nr, taps = 2 * RUN, pitch = whole ? size : size + 3;
    void *x = draw(2 * WIDTH, 1), *plain = draw(taps * panels * k->nr, 2), *bias = draw(size, 3);
    void *filters = draw(taps * panels * k->nr, 4), *out = lines(N_ROWS * OUTPUTS * pitch);
    void *before = draw(N_ROWS * OUTPUTS * pitch, 5);
    /* filter by filter, so that they are the same whatever the width of a panel */
    for (ptrdiff_t i = 0; i < panels * k->nr; i++)
        for (ptrdiff_t tap = 0; tap < taps; tap++)
            set(filters, (i / k->nr * taps + tap) * k->nr + i % k->nr, get(plain, i * taps + tap));
    memcpy(out, before, (size_t)(N_ROWS * OUTPUTS * pitch * itemsize));
    const void *rows[] = {x, at(x, WIDTH)};
    for (int i = 0; i < N_ROWS; i++) {
        fnn_row row = {.rows = rows, .r = 2, .s = 1, .group = RUN, .channels = size, .x_pixel = PIXEL,
                       .q = rows_of_outputs[i], .y_pixel = pitch, .stride = STRIDE, .filters = filters,
                       .filter_step = taps * k->nr, .bias = size % 2 ? bias : NULL, .y = at(out, i * OUTPUTS * pitch),
                       .accumulate = i % 2, .relu = (int)(size % 3), .elements_ahead = i / 2 % 2 * 100,
                       .past = whole && i % 2 == 0};
        k->even_row(&row);
    }
    *n = N_ROWS * OUTPUTS * pitch;
    free(x), free(plain), free(bias), free(filters), free(before);
    return out;
}

static void *add(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(3 * size, 1), *y = draw(8 * (size + 1), 2), *sum = lines(size);
    k->add_rows(3, size, x, size, y, size + 1);
    k->add_rows(3, size, x, size, at(y, 3 * (size + 1)), 0);
    for (int i = 0; i < 4; i++) {
        k->add(size, x, at(x, size), i % 2, sum, i / 2);
        memcpy(at(y, (4 + i) * (size + 1)), sum, (size_t)(size * itemsize));
    }
    *n = 8 * (size + 1);
    free(x), free(sum);
    return y;
}

static void *pad(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size, 1), *y = draw(2 * size + 8, 2);
    k->pad_row(3, x, size, size, y);
    *n = 2 * size + 3;
    free(x);
    return y;
}
