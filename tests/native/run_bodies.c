/* Runs the kernel bodies of the instruction set that is named on the command line, on numbers that are the
   same everywhere, and writes their results to the standard output. tests/test_native.py compares the results
   of instruction sets, also of those of another machine under an emulator, and finds the bodies that are missing.

   A record is the body's name (16 bytes), the size of an element, the count, and as many doubles. */
#include "arrays.h"

static const ptrdiff_t SIZES[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 97};
enum { N_SIZES = sizeof SIZES / sizeof *SIZES, ROWS = 5 };

/* --- One function a body: runs it with table `k` on the drawn input, and returns the output of `*n` */

#include "pool_bodies.h"
#include "product_bodies.h"
#include "row_bodies.h"

static void *transpose(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size * (size + 12), 1), *y = draw(size * (size + 12), 2);
    k->transpose(size, size + 2, x, size + 2, y, size);
    *n = size * (size + 2);
    for (ptrdiff_t planes = 2; planes <= 4; *n += planes++ * size)
        k->transpose(planes, size, at(x, *n), size, at(y, *n), planes);
    free(x);
    return y;
}

/* Rows in an order of their own: the last is read first; where they go, and both. */
static void *transpose_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    const ptrdiff_t m = size, width = size + 2;
    void *x = draw(m * width, 1), *y = draw(3 * m * width, 2);
    ptrdiff_t *from = calloc((size_t)m, sizeof *from), *to = calloc((size_t)width, sizeof *to);
    for (ptrdiff_t i = 0; i < m; i++) from[i] = (m - 1 - i) * width;
    for (ptrdiff_t j = 0; j < width; j++) to[j] = (j + 3) % width * m;
    k->transpose_rows(m, width, x, 0, from, y, m, NULL);
    k->transpose_rows(m, width, x, width, NULL, at(y, m * width), 0, to);
    k->transpose_rows(m, width, x, 0, from, at(y, 2 * m * width), 0, to);
    *n = 3 * m * width;
    free(x), free(from), free(to);
    return y;
}

static void *map(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *x = draw(size, 1), *y = draw(2 * FNN_FUNCTIONS * size, 2), *of_one = lines(size);
    for (int i = 0; i < 2 * FNN_FUNCTIONS; i++) {
        k->map(i / 2, size, 0.1, 0.2, x, of_one, i % 2);
        memcpy(at(y, i * size), of_one, (size_t)(size * itemsize));
    }
    *n = 2 * FNN_FUNCTIONS * size;
    free(x), free(of_one);
    return y;
}
static void *map_backward(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    void *grad = draw(size, 1), *saved = draw(size, 2), *y = draw(2 * FNN_FUNCTIONS * size, 3), *of_one = lines(size);
    for (int i = 0; i < 2 * FNN_FUNCTIONS; i++) {
        k->map_backward(i / 2, size, 0.1, 0.2, grad, saved, of_one, i % 2);
        memcpy(at(y, i * size), of_one, (size_t)(size * itemsize));
    }
    *n = 2 * FNN_FUNCTIONS * size;
    free(grad), free(saved), free(of_one);
    return y;
}

/* Whole rows of `size` channels and a part of one. */
static void *prelu(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t all = ROWS * size, some = all - size / 2;
    void *x = draw(all, 1), *g = draw(all, 2), *slope = draw(size, 3), *out = draw(2 * all + size, 4);
    k->prelu(some, size, x, slope, out);
    k->prelu_backward(some, size, g, x, slope, at(out, all), at(out, 2 * all));
    *n = 2 * all + size;
    free(x), free(g), free(slope);
    return out;
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
        fnn_cell step = {.rows = ROWS, .hidden = size, .first_group = 0, .last_group = groups, .sums = sums,
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
    const ptrdiff_t all = FNN_ABREAST * size;
    void *x = draw(all, 1), *grad = draw(size, 2), *y = draw(2 * (all + size), 3);
    for (int log = 0; log < 2; log++) {
        void *rows = at(y, log * (all + size));
        k->softmax(FNN_ABREAST - log, size, x, rows, log);
        k->softmax_backward(size, grad, rows, at(rows, all), log);
    }
    *n = 2 * (all + size);
    free(x), free(grad);
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
    void *out = draw(6 * (2 * size + 1), 5);
    *n = 0;
    for (int op = FNN_SQUARED; op <= FNN_HUBER; op++)
        for (int again = 0; again <= (op >= FNN_BINARY_CROSS_ENTROPY); again++, *n += 2 * size + 1) {
            const int weighted = again && op != FNN_HUBER;
            const double edge = again ? 0.25 : 0, height = 0.75; /* of FNN_HUBER; L1 first */
            void *w = weighted ? weight : NULL, *p = weighted ? positive : NULL;
            set(out, *n + 2 * size, k->loss(op, size, edge, height, y, target, w, p, at(out, *n)));
            k->loss_backward(op, size, 0.7, edge, height, y, target, w, p, at(out, *n + size));
        }
    free(y), free(target), free(weight), free(positive);
    return out;
}

/* Moments of columns without and with g, the affine map likewise; rows, forward and backward. */
static void *norm(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t all = ROWS * size;
    void *x = draw(all, 1), *g = draw(all, 2), *v = draw(4 * size, 3), *out = draw(4 * all + 7 * size, 4);
    void *sums = at(out, 2 * all), *rows = at(sums, 5 * size), *y = lines(all);
    const int past = size * itemsize % 64 == 0;
    k->column_moments(ROWS, size, x, v, NULL, sums);
    k->column_moments(ROWS, size, x, v, g, at(sums, 2 * size));
    k->column_affine(ROWS, size, x, v, at(v, size), at(v, 2 * size), NULL, NULL, y, past);
    memcpy(out, y, (size_t)(all * itemsize));
    k->column_affine(ROWS, size, x, v, at(v, size), at(v, 2 * size), g, at(v, 3 * size), at(out, all), 0);
    k->layer_norm(FNN_ABREAST, size, x, v, at(v, size), 1e-2, rows);
    k->layer_norm_backward(FNN_ABREAST, size, g, x, v, 1e-2, at(rows, all), at(rows, 2 * all),
                           at(rows, 2 * all + size));
    *n = 4 * all + 7 * size;
    free(x), free(g), free(v), free(y);
    return out;
}

/* A step of every kind; of each: the parameters, then the states, of which squares are not negative. */
static void *optimizers(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    static const struct {
        int kind, states, nesterov; /* a bit for each array of the state */
    } steps[] = {{FNN_SGD, 0, 0},  {FNN_SGD, 1, 0},     {FNN_SGD, 1, 1},     {FNN_ADAM, 3, 0},   {FNN_ADAM, 7, 0},
                 {FNN_RMSPROP, 1, 0}, {FNN_RMSPROP, 3, 0}, {FNN_RMSPROP, 5, 0}, {FNN_RMSPROP, 7, 0}};
    enum { N_STEPS = sizeof steps / sizeof *steps };
    void *out = draw(N_STEPS * 4 * size, 1), *grad = draw(size, 2);
    for (int i = 0; i < N_STEPS; i++) {
        void *w = at(out, i * 4 * size), *state[3];
        for (int s = 0; s < 3; s++) {
            state[s] = steps[i].states >> s & 1 ? at(w, (s + 1) * size) : NULL;
            const int square = steps[i].kind == FNN_RMSPROP ? s == 0 : steps[i].kind == FNN_ADAM && s > 0;
            for (ptrdiff_t j = 0; state[s] && square && j < size; j++)
                set(state[s], j, get(state[s], j) * get(state[s], j));
        }
        fnn_step step = {.lr = 0.1, .decay = i % 2 ? 0.01 : 0, .momentum = 0.9, .eps = 1e-2, .keep = 0.9, .take = 0.1,
                         .square_keep = 0.99, .square_take = 0.01, .shrink = 0.999, .scale = 1.5,
                         .maximize = i % 3 == 0, .nesterov = steps[i].nesterov};
        k->optimizer[steps[i].kind](size, w, grad, state[0], state[1], state[2], &step);
    }
    *n = N_STEPS * 4 * size;
    free(grad);
    return out;
}

static const struct {
    const char *name;
    void *(*run)(const fnn_kernels *, ptrdiff_t, ptrdiff_t *);
} BODIES[] = {{"gemm, tables", gemm_tables},
              {"gemm, offsets", gemm_offsets},
              {"gemm, columns", gemm_columns},
              {"gemm, in place", gemm_in_place},
              {"transpose", transpose},
              {"transpose rows", transpose_rows},
              {"few rows", few_rows},
              {"pad", pad},
              {"add", add},
              {"even rows", even_rows},
              {"depthwise", depthwise},
              {"depthwise grad", depthwise_gradient},
              {"grouped", grouped},
              {"grouped grad", grouped_gradient},
              {"winograd", winograd},
              {"winograd strips", winograd_strip},
              {"winograd filter", winograd_filter},
              {"winograd grad", winograd_gradients},
              {"map", map},
              {"map_backward", map_backward},
              {"prelu", prelu},
              {"cell", cells},
              {"norm", norm},
              {"softmax", softmax},
              {"cross entropy", cross_entropy},
              {"loss", loss},
              {"optimizers", optimizers},
              {"pool rows", pool_rows},
              {"pool columns", pool_columns},
              {"max_gather", max_gather},
              {"pool narrow", pool_narrow}};

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
