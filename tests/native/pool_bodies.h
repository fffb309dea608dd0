/* Pooling: rows, columns, places, gradients of maxima, and rows of few channels. */

static void *pool_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(ROWS * size, 1), *y = draw(2 * size, 2);
    k->max_rows(size, ROWS, size, x, y);
    k->sum_rows(size, ROWS, size, x, at(y, size));
    *n = 2 * size;
    free(x);
    return y;
}

/* Windows of 3 x 3 with stride 2 over HEIGHT x WIDTH pixels: two rows of three outputs. */
enum { HEIGHT = 5, WIDTH = 7, OUTPUTS = 3 };
static const fnn_window WINDOWS[] = {{0, 3, 3}, {2, 3, 3}, {4, 3, 2}};
/* With stride 1, as many of them. */
static const fnn_window CLOSE_WINDOWS[] = {{1, 3, 3}, {2, 3, 3}, {3, 3, 3}};

/* Places, integers as wide as the elements, as numbers. */
static void places_as_numbers(void *places, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        set(places, i, (double)(itemsize == 4 ? ((const int32_t *)places)[i] : ((const int64_t *)places)[i]));
}

/* The outputs of row p, with their places: from the pixels at once, or from a run of folded ones. */
static void pool_maxima(const fnn_kernels *k, ptrdiff_t size, const void *x, ptrdiff_t p, int by_run, void *y,
                        void *places) {
    ptrdiff_t line = WIDTH * size;
    void *run = draw(line, 9), *run_places = draw(line, 9);
    const void *first = at(x, WINDOWS[p].first * line);
    fnn_pool_columns columns = {.windows = WINDOWS, .outputs = OUTPUTS, .channels = size, .dilation = 1,
                                .run = by_run ? run : first, .rows = by_run ? 1 : 3, .row_step = line,
                                .places = by_run ? run_places : NULL, .place = WINDOWS[p].first * WIDTH,
                                .place_step = WIDTH, .y = y, .y_places = places};
    if (by_run) k->argmax_rows(line, 3, line, first, columns.place, WIDTH, run, run_places);
    k->argmax_columns(&columns);
    free(run), free(run_places);
}

static void *pool_columns(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t line = WIDTH * size, outputs = OUTPUTS * size;
    void *x = draw(HEIGHT * line, 1), *y = draw(8 * outputs, 2);
    for (int closer = 0; closer < 2; closer++) {
        fnn_pool_columns columns = {.windows = closer ? CLOSE_WINDOWS : WINDOWS, .outputs = OUTPUTS, .channels = size,
                                    .dilation = 1, .row_divisor = 3, .run = x, .rows = 3, .row_step = line,
                                    .y = at(y, 2 * closer * outputs)};
        k->max_columns(&columns);
        columns.y = at(columns.y, outputs);
        k->mean_columns(&columns);
    }
    for (int by_run = 0; by_run < 2; by_run++) {
        void *best = at(y, (4 + 2 * by_run) * outputs), *places = at(best, outputs);
        pool_maxima(k, size, x, 1, by_run, best, places);
        places_as_numbers(places, outputs);
    }
    *n = 8 * outputs;
    free(x);
    return y;
}

/* The gradient of the maxima at the row of pixels that both rows of outputs cover. */
static void *max_gather(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    static const fnn_window covering[WIDTH] = {{0, 1, 1}, {0, 1, 1}, {0, 2, 1}, {1, 1, 1},
                                               {1, 2, 1}, {2, 1, 1}, {2, 1, 1}};
    ptrdiff_t outputs = OUTPUTS * size, row = 2;
    void *x = draw(HEIGHT * WIDTH * size, 1), *y = draw(2 * outputs, 2), *places = draw(2 * outputs, 3);
    void *grad = draw(2 * outputs, 4), *grad_x = draw(WIDTH * size, 5);
    for (ptrdiff_t p = 0; p < 2; p++)
        pool_maxima(k, size, x, p, 0, at(y, p * outputs), at(places, p * outputs));
    fnn_pool_columns columns = {.windows = covering, .outputs = WIDTH, .channels = size, .run = grad, .rows = 2,
                                .row_step = outputs, .places = places, .place = row * WIDTH, .y = grad_x};
    k->max_gather(&columns);
    *n = WIDTH * size;
    free(x), free(y), free(places), free(grad);
    return grad_x;
}

/* One channel, `size` outputs in a row: maxima, means, maxima with places. */
static void *pool_narrow(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t width = 2 * size + 1, outputs = 2 * size;
    fnn_window *windows = calloc((size_t)size, sizeof *windows);
    for (ptrdiff_t q = 0; q < size; q++) windows[q] = (fnn_window){2 * q, 3, q == size - 1 ? 2 : 3};
    void *x = draw(HEIGHT * width, 1), *y = draw(4 * outputs, 2), *groups = calloc((size_t)size, FNN_GROUP_BYTES);
    if (!k->pool_groups(windows, size, 1, 1, groups)) abort();
    fnn_pool_narrow p = {.height = HEIGHT, .width = width, .channels = 1, .out_height = 2, .out_width = size,
                         .size = HEIGHT * width, .row_dilation = 1, .dilation = 1, .rows = WINDOWS,
                         .groups = groups, .x = x, .y_places = at(y, 3 * outputs)};
    const int kinds[] = {FNN_MAX, FNN_MEAN, FNN_ARGMAX};
    for (int i = 0; i < 3; i++) {
        p.kind = kinds[i];
        p.y = at(y, i * outputs);
        k->pool_narrow(&p, 0, 2);
    }
    places_as_numbers(p.y_places, outputs);
    *n = 4 * outputs;
    free(windows), free(x), free(groups);
    return y;
}

