/* Runs the kernel bodies of the instruction set that is named on the command line, on numbers that are the
   same everywhere, and writes their results to the standard output. tests/test_native.py compares the results
   of instruction sets, also of those of another machine under an emulator.

   A record is the body's name (16 bytes), the size of an element, the count, and as many doubles. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static const ptrdiff_t SIZES[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 97};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES, ROWS = 5 };

/* --- Arrays of either dtype */

static ptrdiff_t itemsize;

static double get(const void *p, ptrdiff_t i) { return itemsize == 4 ? ((const float *)p)[i] : ((const double *)p)[i]; }
static void set(void *p, ptrdiff_t i, double x) {
    if (itemsize == 4)
        ((float *)p)[i] = (float)x;
    else
        ((double *)p)[i] = x;
}
static void *at(const void *p, ptrdiff_t i) { return (char *)p + i * itemsize; }

/* Numbers around 1, the same ones each time. */
static void *draw(ptrdiff_t n, uint64_t seed) {
    void *p = calloc((size_t)n + 64, (size_t)itemsize);
    uint64_t state = seed * 6364136223846793005u + 1442695040888963407u;
    for (ptrdiff_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        set(p, i, (double)(int64_t)state / 4e18);
    }
    return p;
}

/* --- One function a body: runs it with table `k` on the drawn input, and returns the output of `*n` */

static void *gemm(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n, int by_columns) {
    ptrdiff_t depth = size, columns = 2 * size + 1, panels = (columns + k->nr - 1) / k->nr;
    int height = 4; /* every table's tile has as many rows */
    void *a = draw(height * depth, 1), *b = draw(depth * columns, 2), *bias = draw(columns, 3);
    void *packed = calloc((size_t)(panels * depth * k->nr), (size_t)itemsize), *c = draw(height * columns, 4);
    for (ptrdiff_t j = 0; j < columns; j++)
        for (ptrdiff_t d = 0; d < depth; d++)
            set(packed, (j / k->nr * depth + d) * k->nr + j % k->nr, get(b, d * columns + j));
    const void **rows = calloc((size_t)(depth + 16), sizeof *rows);
    void *c_rows[16] = {0};
    for (ptrdiff_t i = 0; i < (by_columns ? depth : height); i++)
        rows[i] = at(a, i * (by_columns ? height : depth)); /* A as [depth][height], or [height][depth] */
    for (int i = 0; i < height; i++) c_rows[i] = at(c, i * columns);
    fnn_tile tile = {.a = rows, .taps = 1, .depth = depth, .b = packed, .b_panel = depth * k->nr, .c = c_rows,
                     .columns = columns, .bias = by_columns ? NULL : bias, .rows = height,
                     .accumulate = by_columns, .relu = !by_columns};
    (by_columns ? k->gemm_columns : k->gemm_rows)(&tile);
    *n = height * columns;
    free(a), free(b), free(bias), free(packed), free(rows);
    return c;
}
static void *gemm_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, 0); }
static void *gemm_columns(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, 1); }

static void *transpose(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size * (size + 12), 1), *y = draw(size * (size + 12), 2);
    k->transpose(size, size + 2, x, size + 2, y, size);
    *n = size * (size + 2);
    for (ptrdiff_t planes = 2; planes <= 4; *n += planes++ * size)
        k->transpose(planes, size, at(x, *n), size, at(y, *n), planes);
    free(x);
    return y;
}

static void *map(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size, 1), *y = draw(8 * size, 2);
    for (int op = FNN_RELU; op <= FNN_EXP; op++) k->map(op, size, 0.1, x, at(y, op * size));
    *n = 8 * size;
    free(x);
    return y;
}
static void *map_backward(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *grad = draw(size, 1), *saved = draw(size, 2), *y = draw(7 * size, 3);
    for (int op = FNN_RELU; op <= FNN_GELU_TANH; op++) k->map_backward(op, size, 0.1, grad, saved, at(y, op * size));
    *n = 7 * size;
    free(grad), free(saved);
    return y;
}

/* Sums in groups of lanes, as the instruction set has them, of sums in blocks of `size`. */
static void *in_groups(const fnn_kernels *k, const char *blocks, ptrdiff_t gates, ptrdiff_t size) {
    ptrdiff_t groups = (size + k->lanes - 1) / k->lanes, stride = groups * gates * k->lanes;
    char *sums = calloc((size_t)(ROWS * stride), (size_t)itemsize);
    for (ptrdiff_t row = 0; row < ROWS; row++)
        for (ptrdiff_t gate = 0; gate < gates; gate++)
            for (ptrdiff_t j = 0; j < size; j++)
                memcpy(sums + (row * stride + (j / k->lanes * gates + gate) * k->lanes + j % k->lanes) * itemsize,
                       blocks + ((row * gates + gate) * size + j) * itemsize, (size_t)itemsize);
    return sums;
}

static void *cells(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    /* of each cell: gates [ROWS][4 size], c, its copy, y [ROWS][size], then what backward leaves of them */
    ptrdiff_t state = ROWS * size, all = 7 * state, one = 2 * all, groups = (size + k->lanes - 1) / k->lanes;
    void *out = draw(FNN_CELLS * one, 1), *input = draw(4 * state, 5), *hidden = draw(4 * state, 6);
    for (int kind = 0; kind < FNN_CELLS; kind++) {
        ptrdiff_t blocks = kind == FNN_LSTM ? 4 : kind == FNN_GRU ? 3 : 1;
        void *gates = at(out, kind * one), *c = at(gates, 4 * state), *c_copy = at(c, state), *y = at(c_copy, state);
        void *h_prev = draw(state, 2), *c_prev = draw(state, 3), *grad_y = draw(state, 4);
        void *sums = in_groups(k, input, blocks, size), *state_sums = in_groups(k, hidden, blocks, size);
        fnn_cell step = {.rows = ROWS, .hidden = size, .first = 0, .last = groups, .sums = sums,
                         .sums_stride = groups * blocks * k->lanes, .state_sums = state_sums, .h = h_prev,
                         .h_stride = size, .c = c, .c_prev = c_copy, .y = y, .y_stride = size, .gates = gates,
                         .gates_stride = 4 * size};
        k->cell[kind](&step);
        void *grad_gates = at(gates, all);
        fnn_cell_grad back = {ROWS, size, gates, grad_gates, 4 * size, h_prev, c_prev, grad_y, size,
                              at(grad_gates, 4 * state), at(grad_gates, 5 * state), 0, size};
        k->cell_backward[kind](&back);
        free(h_prev), free(c_prev), free(grad_y), free(sums), free(state_sums);
    }
    *n = FNN_CELLS * one;
    free(input), free(hidden);
    return out;
}

static void *softmax(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size, 1), *grad = draw(size, 2), *y = draw(4 * size, 3);
    for (int log = 0; log < 2; log++) {
        k->softmax(size, x, at(y, 2 * log * size), log);
        k->softmax_backward(size, grad, at(y, 2 * log * size), at(y, (2 * log + 1) * size), log);
    }
    *n = 4 * size;
    free(x), free(grad);
    return y;
}

static void *pool_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(ROWS * size, 1), *y = draw(2 * size, 2);
    k->max_rows(size, ROWS, size, x, y);
    k->sum_rows(size, ROWS, size, x, at(y, size));
    *n = 2 * size;
    free(x);
    return y;
}

static void *cross_entropy(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size, 1), *out = draw(size + 1, 2);
    set(out, size, k->cross_entropy(size, x, size / 2));
    k->cross_entropy_backward(size, x, size / 2, 3, out);
    *n = size + 1;
    free(x);
    return out;
}

/* Of each: the losses, their slopes, the sum. */
static void *loss(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *y = draw(size, 1), *target = draw(size, 2), *weight = draw(size, 3), *positive = draw(size, 4);
    void *out = draw(4 * (2 * size + 1), 5);
    *n = 0;
    for (int op = FNN_SQUARED; op <= FNN_BINARY_CROSS_ENTROPY; op++)
        for (int weighted = 0; weighted <= (op == FNN_BINARY_CROSS_ENTROPY); weighted++, *n += 2 * size + 1) {
            void *w = weighted ? weight : NULL, *p = weighted ? positive : NULL;
            set(out, *n + 2 * size, k->loss(op, size, y, target, w, p, at(out, *n)));
            k->loss_backward(op, size, 0.7, y, target, w, p, at(out, *n + size));
        }
    free(y), free(target), free(weight), free(positive);
    return out;
}

/* Moments of columns without and with g, the affine map likewise; rows, forward and backward. */
static void *norm(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t all = ROWS * size;
    void *x = draw(all, 1), *g = draw(all, 2), *v = draw(4 * size, 3), *out = draw(3 * all + 9 * size, 4);
    void *sums = at(out, 3 * all), *rows = at(sums, 5 * size);
    k->column_moments(ROWS, size, x, v, NULL, sums);
    k->column_moments(ROWS, size, x, v, g, at(sums, 2 * size));
    k->column_affine(ROWS, size, x, v, at(v, size), at(v, 2 * size), NULL, NULL, out);
    k->column_affine(ROWS, size, x, v, at(v, size), at(v, 2 * size), g, at(v, 3 * size), at(out, all));
    k->layer_norm(size, x, v, at(v, size), 1e-2, rows);
    k->layer_norm_backward(size, g, x, v, 1e-2, at(rows, size), at(rows, 2 * size), at(rows, 3 * size));
    *n = 3 * all + 9 * size;
    free(x), free(g), free(v);
    return out;
}

/* Windows of 3 x 3 with stride 2 over HEIGHT x WIDTH pixels: two rows of three outputs. */
enum { HEIGHT = 5, WIDTH = 7, OUTPUTS = 3 };
static const fnn_window WINDOWS[] = {{0, 3, 3}, {2, 3, 3}, {4, 3, 2}};

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
    void *x = draw(HEIGHT * line, 1), *y = draw(6 * outputs, 2);
    fnn_pool_columns columns = {.windows = WINDOWS, .outputs = OUTPUTS, .channels = size, .dilation = 1,
                                .row_divisor = 3, .run = x, .rows = 3, .row_step = line, .y = y};
    k->max_columns(&columns);
    columns.y = at(y, outputs);
    k->mean_columns(&columns);
    for (int by_run = 0; by_run < 2; by_run++) {
        void *best = at(y, (2 + 2 * by_run) * outputs), *places = at(best, outputs);
        pool_maxima(k, size, x, 1, by_run, best, places);
        places_as_numbers(places, outputs);
    }
    *n = 6 * outputs;
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

/* The tiles with 6 x 6 inputs and 4 x 4 outputs, then with 4 x 4 and 2 x 2. */
static void *winograd(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t stride = size + 3;
    void *x = draw(36 * size, 1), *v = calloc(36 * (size_t)stride + 64, (size_t)itemsize);
    void *bias = draw(size, 2), *y = draw(20 * size, 3);
    const void *pixels[36];
    void *outputs[20];
    for (int i = 0; i < 36; i++) pixels[i] = at(x, i * size);
    for (int i = 0; i < 20; i++) outputs[i] = at(y, i * size);
    k->winograd_input(6, pixels, size, v, stride);
    k->winograd_output(6, v, stride, size, bias, 0, 1, outputs);
    k->winograd_input(4, pixels, size, v, stride);
    k->winograd_output(4, v, stride, size, bias, 0, 1, outputs + 16);
    *n = 20 * size;
    free(x), free(v), free(bias);
    return y;
}

static const struct {
    const char *name;
    void *(*run)(const fnn_kernels *, ptrdiff_t, ptrdiff_t *);
} BODIES[] = {{"gemm_rows", gemm_rows},       {"gemm_columns", gemm_columns},   {"transpose", transpose},
              {"map", map},                   {"map_backward", map_backward},   {"cell", cells},
              {"softmax", softmax},           {"cross entropy", cross_entropy}, {"loss", loss},
              {"norm", norm},                 {"pool rows", pool_rows},         {"pool columns", pool_columns},
              {"max_gather", max_gather},     {"pool narrow", pool_narrow},     {"winograd", winograd}};

static void write_record(const char *name, const void *numbers, ptrdiff_t n) {
    struct {
        char name[16];
        int64_t itemsize, count;
    } head = {.itemsize = itemsize, .count = n};
    strncpy(head.name, name, sizeof head.name - 1);
    fwrite(&head, sizeof head, 1, stdout);
    for (ptrdiff_t i = 0; i < n; i++) {
        double number = get(numbers, i);
        fwrite(&number, sizeof number, 1, stdout);
    }
}

int main(int argc, char **argv) {
    int isa = 0;
    while (isa < fnn_isa_count() && (argc < 2 || strcmp(fnn_isa_name(isa), argv[1]))) isa++;
    if (isa == fnn_isa_count() || !fnn_isa_supported(isa)) {
        fprintf(stderr, "no such instruction set in this build, or on this processor\n");
        return 1;
    }
    for (itemsize = 4; itemsize <= 8; itemsize += 4)
        for (size_t b = 0; b < sizeof BODIES / sizeof *BODIES; b++)
            for (int s = 0; s < N_SIZES; s++) {
                ptrdiff_t n;
                void *numbers = BODIES[b].run(fnn_isa_table(isa, itemsize), SIZES[s], &n);
                write_record(BODIES[b].name, numbers, n);
                free(numbers);
            }
    return 0;
}
