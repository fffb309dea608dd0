/* The table of kernel bodies: what an instruction set offers to the Cython drivers.
 *
 * Every body is written once, in a header of this folder, over the vector type of simd.h, and
 * compiled once per instruction set and once per dtype (instantiate.h). The entries are erased to
 * `void *` so that one struct serves float and double: the driver, which knows the dtype, takes
 * the table of its item size and passes pointers to data of that size.
 *
 * Lengths, strides and offsets count elements, never bytes. No body allocates, locks or raises.
 */
#ifndef FASTNN_KERNELS_H
#define FASTNN_KERNELS_H

#include <stddef.h>

/* One row of register tiles of a matrix product C = f(A B + bias): up to `mr` rows of A and C,
 * all columns of B. See gemm_tile.h. */
typedef struct {
    const void *const *a;  /* row pointers; layout by the entry called (gemm_rows, gemm_columns)  */
    ptrdiff_t a_offset;    /* added to every row pointer                                          */
    const ptrdiff_t *tap_offset; /* gemm_rows: where taps lie at the same places from every row,  */
                           /* those places, and `a` is one table; NULL: a table for each tap      */
    ptrdiff_t taps;        /* gemm_rows: the reduction runs over taps x depth ...                 */
    ptrdiff_t depth;       /* ... gemm_columns: over depth alone                                  */
    const void *b;         /* packed panels: [ceil(columns / nr)][taps * depth][nr], or as b_step says */
    ptrdiff_t b_step;      /* gemm_columns: elements from one row of a panel to the next          */
    ptrdiff_t b_panel;     /* elements from one panel of B to the next                            */
    void *const *c;        /* one pointer a row of C                                              */
    ptrdiff_t c_offset;    /* added to every row pointer of C                                     */
    ptrdiff_t columns;     /* columns of C; the last panel may be partly used                     */
    const void *bias;      /* [columns] added once, or NULL                                       */
    ptrdiff_t next_b;      /* elements from a panel to what is fetched while it is multiplied. With   */
                           /* gemm_columns from the first panel: each fetches its part of one stretch */
    ptrdiff_t next_step;   /* elements fetched at each step of the reduction; 0 for nothing       */
    ptrdiff_t next_a;      /* elements from each row of A to one that is to be fetched meanwhile, */
                           /* with gemm_columns one line of it; 0 for none                        */
    int rows;              /* rows of this tile, 1 .. mr                                          */
    int accumulate;        /* C already holds a partial sum: add to it                            */
    int relu;              /* before the store: 1 clip at zero, 2 at six, too; 0 neither           */
} fnn_tile;

enum { FNN_ROWS_AHEAD = 2 };

/* One row of outputs of a convolution whose groups are narrow: depthwise.h, grouped.h; or whose taps are runs of
 * `group` numbers, even_tile.h: s = 1 then, and `channels` are those of the output. */
typedef struct {
    const void *const *rows; /* the input row under each row of the filter, or NULL where there is none */
    const void *ahead[FNN_ROWS_AHEAD]; /* depthwise.h: input rows wanted next; fewer end with NULL     */
    ptrdiff_t r, s;          /* the filter: rows x columns                                             */
    ptrdiff_t group;         /* channels of a group, and its filters                                   */
    ptrdiff_t w, channels;   /* the input row: pixels and channels                                     */
    ptrdiff_t x_pixel;       /* elements from one input pixel to the next                              */
    ptrdiff_t q;             /* outputs                                                                */
    ptrdiff_t y_pixel;       /* elements from one output pixel to the next                             */
    ptrdiff_t stride;        /* input pixels from one output to the next                               */
    const ptrdiff_t *tap_w;  /* [s] the input pixel of output 0 under each column of the filter        */
    void *filters;           /* [r][s][channels]; [panel][r][s][group][lanes] of groups of several     */
                             /* channels, of runs [panel][r][group][nr]; a gradient is added to them   */
    ptrdiff_t filter_step;   /* elements from one tap's channels, or one panel, to the next            */
    const void *bias;        /* [channels] or NULL                                                     */
    void *y;                 /* outputs, or their gradient                                             */
    const void *y_ahead;     /* the next row of them, where there is an input row ahead                */
    int accumulate;          /* y already holds numbers: add to them                                   */
    int relu;
    int elements_ahead;      /* even_tile.h: how far ahead pixels are fetched; 0 where they lie        */
                             /* in the caches                                                          */
    int far;                 /* depthwise.h: whether rows lie beyond the caches, so that `ahead` names some */
    int past;                /* pixels are whole cache lines, to be written past the caches; not for grouped.h */
} fnn_row;

/* Four rows of outputs of images of three channels by Winograd's algorithm, see winograd_strip.h. */
enum {
    FNN_STRIP_CHANNELS = 3,
    FNN_STRIP_TILES = 4,   /* that are computed at once; rows of inputs are of whole such runs ...           */
    FNN_STRIP_BEYOND = 16  /* ... and so many more numbers, those of the last tile and what vectors read besides */
};
typedef struct {
    const void *x;           /* [6] rows of inputs, zeros where the image has none                         */
    ptrdiff_t x_row;         /* elements from one of them to the next                                      */
    const void *u;           /* [36] matrices of transformed filters, [panel][FNN_STRIP_CHANNELS][nr]      */
    ptrdiff_t factor;        /* elements from one of them to the next                                      */
    const void *bias;        /* [filters] or NULL                                                          */
    void *y;                 /* `rows` rows of q outputs, `filters` numbers each                           */
    ptrdiff_t y_row, y_pixel;
    ptrdiff_t rows, q, filters;
    int accumulate;          /* y already holds numbers: add to them                                       */
    int relu;
    int past;                /* every vector of outputs is a cache line, to be written past the caches     */
} fnn_strip;

enum { FNN_ABREAST = 4 }; /* rows that softmax and layer norm take at once, at most */

/* The functions of elementwise.h. */
enum {
    FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_SILU, FNN_GELU, FNN_GELU_TANH,
    FNN_HARDTANH, FNN_HARDSIGMOID, FNN_HARDSWISH, FNN_ELU, FNN_SOFTPLUS, FNN_EXP
};
/* Whether one is a few instructions, and memory the limit of large arrays; and whether its gradient is:
 * also where it comes from the function's output, as that of sigmoid, tanh and exp. */
static inline int fnn_is_short(int op) {
    return op == FNN_RELU || op == FNN_LEAKY_RELU || op == FNN_HARDTANH || op == FNN_HARDSIGMOID || op == FNN_HARDSWISH;
}
static inline int fnn_is_short_back(int op) {
    return fnn_is_short(op) || op == FNN_SIGMOID || op == FNN_TANH || op == FNN_EXP;
}

/* The losses of loss.h. */
enum { FNN_SQUARED, FNN_HALF_SQUARED, FNN_BINARY_CROSS_ENTROPY, FNN_HUBER };

/* The options of an optimizer's step. See optim.h for what they multiply. */
typedef struct {
    double lr, decay, momentum, eps;
    double keep, take, square_keep, square_take;
    double shrink, scale;
    int maximize, nesterov;
} fnn_step;

/* The optimizers; the index of their bodies in the table. */
typedef enum { FNN_SGD, FNN_ADAM, FNN_RMSPROP, FNN_OPTIMIZERS } fnn_optimizer;

/* The recurrent cells; the index of their bodies in the table. */
typedef enum { FNN_RNN_TANH, FNN_RNN_RELU, FNN_LSTM, FNN_GRU, FNN_CELLS } fnn_cell_kind;

/* The gates of one time step, after the matrix products. See recurrent.h for the order of the sums. */
typedef struct {
    ptrdiff_t rows;          /* sequences that take this step                                       */
    ptrdiff_t hidden;        /* H                                                                   */
    ptrdiff_t first_group, last_group; /* of lanes, to compute                                      */
    void *sums;              /* [rows][sums_stride]: the input's product, and the state's but GRU's; */
                             /* used up                                                             */
    ptrdiff_t sums_stride;
    const void *state_sums;  /* [rows][sums_stride]: the state's product (GRU)                      */
    const void *h;           /* [rows][h_stride]: the state before                                  */
    ptrdiff_t h_stride;
    void *c;                 /* [rows][H]: the cell's state before, and after (LSTM)                */
    void *c_prev;            /* [rows][H]: a copy of c before, for backward, or NULL                */
    void *y;                 /* [rows][y_stride]: the new h                                         */
    ptrdiff_t y_stride;
    void *gates;             /* [rows][gates_stride]: the gates, for backward, or NULL              */
    ptrdiff_t gates_stride;
} fnn_cell;

typedef struct {
    ptrdiff_t rows, hidden;
    const void *gates;       /* [rows][gates_stride], as forward left them                          */
    void *grad_gates;        /* [rows][gates_stride]: gradients of the sums; may be `gates`         */
    ptrdiff_t gates_stride;
    const void *h_prev;      /* [rows][H]: the state before the step (GRU)                          */
    const void *c_prev;      /* [rows][H]: the cell's state before the step (LSTM)                  */
    const void *grad_y;      /* [rows][y_stride], or NULL for zeros                                 */
    ptrdiff_t y_stride;
    void *grad_h;            /* [rows][H]: gradient of the new h; GRU: then of the old, as far as   */
                             /* it does not come through the sums                                   */
    void *grad_c;            /* [rows][H]: gradient of the new c in, of the old c out (LSTM)        */
    ptrdiff_t first, last;   /* columns of H to compute; first is a multiple of the vector's length */
} fnn_cell_grad;

/* Where the window of one output lies along one axis. */
typedef struct {
    ptrdiff_t first;       /* its first tap inside the input                                      */
    ptrdiff_t taps;        /* how many are inside                                                 */
    ptrdiff_t divisor;     /* a mean divides by the product of both axes' divisors                */
} fnn_window;

/* The second step of pooling: a row of outputs from a run of folded rows. See pool.h. */
typedef struct {
    const fnn_window *windows; /* [outputs], along W                                              */
    ptrdiff_t outputs;
    ptrdiff_t channels;
    ptrdiff_t dilation;    /* pixels between the taps of a window                                 */
    ptrdiff_t origin;      /* the w of the run's first pixel                                      */
    ptrdiff_t row_divisor; /* divisor of the window's rows                                        */
    const void *run;       /* [rows][pixels][channels], `row_step` elements from row to row       */
    ptrdiff_t rows, row_step;
    const void *places;    /* of the run, an integer of the element's size each (argmax alone)    */
    ptrdiff_t place, place_step; /* without them, the place of the first row and from row to row  */
    void *y;               /* [outputs][channels]                                                 */
    void *y_places;
} fnn_pool_columns;

enum { FNN_MAX, FNN_ARGMAX, FNN_MEAN };
enum { FNN_GROUP_BYTES = 192 };

/* Pooling of few channels. See pool_narrow.h. */
typedef struct {
    int kind;
    ptrdiff_t height, width, channels, out_height, out_width;
    ptrdiff_t size;                    /* elements of x                                           */
    ptrdiff_t row_dilation, dilation;
    const fnn_window *rows;            /* [out_height]                                            */
    const void *groups;                /* of a row of outputs, from pool_groups                   */
    const void *x;
    void *y, *y_places;
} fnn_pool_narrow;

/* Tiles of Winograd's algorithm: inputs, outputs and factors along each axis, at most. */
enum { FNN_TILE_SIZE = 9, FNN_TILE_OUTPUTS = 4, FNN_TILE_FACTORS = 6 };
static inline int fnn_tile_outputs(int size) { return size % 2 ? size / 2 : size - 2; }
static inline int fnn_tile_factors(int size) { return fnn_tile_outputs(size) + 2; }

typedef struct {
    const char *isa;       /* "scalar", "avx2", ...                                               */
    int lanes;             /* elements in one vector                                              */
    int mr, nr;            /* the register tile: rows of A by columns of B                        */

    /* gemm_tile.h */
    void (*gemm_rows)(const fnn_tile *tile);     /* A(i, k) = a[tap * mr + i][k], or               */
                                                 /* a[i][tap_offset[tap] + k]: rows run along k    */
    void (*gemm_columns)(const fnn_tile *tile);  /* A(i, k) = a[k][i]: rows run along i            */

    /* transpose.h: dst[j * dst_stride + i] = src[i * src_stride + j], i < m, j < n */
    void (*transpose)(ptrdiff_t m, ptrdiff_t n, const void *src, ptrdiff_t src_stride, void *dst,
                      ptrdiff_t dst_stride);
    /* the same with rows that begin where tables say: dst[to[j] + i] = src[from[i] + j]; NULL: a stride apart */
    void (*transpose_rows)(ptrdiff_t m, ptrdiff_t n, const void *src, ptrdiff_t src_stride, const ptrdiff_t *from,
                           void *dst, ptrdiff_t dst_stride, const ptrdiff_t *to);

    /* few_rows.h: panels of nr columns, `panel` elements apart, and zeros up to whole ones; C += A B */
    void (*pack_rows)(ptrdiff_t rows, ptrdiff_t n, const void *b, ptrdiff_t stride, ptrdiff_t panel, void *panels);
    void (*few_rows)(ptrdiff_t rows, ptrdiff_t depth, ptrdiff_t n, const void *a, ptrdiff_t a_stride, const void *b,
                     ptrdiff_t b_stride, void *c, ptrdiff_t c_stride);

    /* pad.h: `left` zeros, n numbers of x, `right` zeros */
    void (*pad_row)(ptrdiff_t left, const void *x, ptrdiff_t n, ptrdiff_t right, void *y);

    /* add.h: y = a + b; y[i * y_stride + j] += x[i * x_stride + j], i < rows, j < n, one row after the other */
    void (*add)(ptrdiff_t n, const void *a, const void *b, int relu, void *y, int past);
    void (*add_rows)(ptrdiff_t rows, ptrdiff_t n, const void *x, ptrdiff_t x_stride, void *y, ptrdiff_t y_stride);

    /* depthwise.h, grouped.h, even_tile.h */
    void (*depthwise_row)(const fnn_row *row);
    void (*depthwise_gradient)(const fnn_row *row);
    void (*grouped_row)(const fnn_row *row);
    void (*grouped_gradient)(const fnn_row *row);
    void (*even_row)(const fnn_row *row);

    /* winograd.h; `size` is a tile's, its inputs along each axis: 6 or 4 with stride 1, 9 or 5 with stride 2 */
    void (*winograd_input)(int size, const void *const *pixels, ptrdiff_t channels, void *const *v);
    void (*winograd_output)(int size, const void *const *m, ptrdiff_t filters, const void *bias, int accumulate,
                            int relu, void *const *pixels);
    void (*winograd_filter)(int size, const void *g, ptrdiff_t tap, ptrdiff_t n, void *u, ptrdiff_t stride);
    void (*winograd_gradient)(int size, const void *const *pixels, ptrdiff_t filters, void *z, ptrdiff_t panel,
                              ptrdiff_t stride);
    void (*winograd_filter_gradient)(int size, const void *s, ptrdiff_t stride, ptrdiff_t n, void *g);
    void (*winograd_strip)(const fnn_strip *strip);

    /* elementwise.h */
    void (*map)(int op, ptrdiff_t n, double alpha, double beta, const void *x, void *y, int past);
    void (*map_backward)(int op, ptrdiff_t n, double alpha, double beta, const void *grad_y, const void *saved,
                         void *grad_x, int past);
    void (*prelu)(ptrdiff_t n, ptrdiff_t row, const void *x, const void *slope, void *y);
    void (*prelu_backward)(ptrdiff_t n, ptrdiff_t row, const void *grad_y, const void *x, const void *slope,
                           void *grad_x, void *sums);

    /* recurrent.h */
    void (*cell[FNN_CELLS])(const fnn_cell *step);
    void (*cell_backward[FNN_CELLS])(const fnn_cell_grad *step);

    /* norm.h */
    void (*column_moments)(ptrdiff_t m, ptrdiff_t c, const void *x, const void *center, const void *g,
                           void *sums);
    void (*column_affine)(ptrdiff_t m, ptrdiff_t c, const void *x, const void *center, const void *a,
                          const void *b, const void *g, const void *d, void *y, int past);
    void (*layer_norm)(ptrdiff_t rows, ptrdiff_t n, const void *x, const void *w, const void *b, double eps,
                       void *y);
    void (*layer_norm_backward)(ptrdiff_t rows, ptrdiff_t n, const void *grad_y, const void *x, const void *w,
                                double eps, void *grad_x, void *grad_w, void *grad_b);

    /* softmax.h */
    void (*softmax)(ptrdiff_t rows, ptrdiff_t n, const void *x, void *y, int log);
    void (*softmax_backward)(ptrdiff_t n, const void *grad_y, const void *y, void *grad_x, int log);

    /* cross entropy, softmax.h */
    double (*cross_entropy)(ptrdiff_t n, const void *x, ptrdiff_t target);
    void (*cross_entropy_backward)(ptrdiff_t n, const void *x, ptrdiff_t target, double scale, void *grad_x);

    /* loss.h */
    double (*loss)(int op, ptrdiff_t n, double edge, double height, const void *y, const void *target,
                   const void *weight, const void *pos_weight, void *losses);
    void (*loss_backward)(int op, ptrdiff_t n, double scale, double edge, double height, const void *y,
                          const void *target, const void *weight, const void *pos_weight, void *grad_y);

    /* optim.h */
    void (*optimizer[FNN_OPTIMIZERS])(ptrdiff_t n, void *data, const void *grad, void *state0, void *state1,
                                      void *state2, const fnn_step *step);

    /* pool.h */
    void (*max_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run);
    void (*max_columns)(const fnn_pool_columns *p);
    void (*sum_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x, void *run);
    void (*mean_columns)(const fnn_pool_columns *p);

    /* pool_places.h */
    void (*argmax_rows)(ptrdiff_t n, ptrdiff_t taps, ptrdiff_t stride, const void *x,
                        ptrdiff_t place, ptrdiff_t place_step, void *run, void *places);
    void (*argmax_columns)(const fnn_pool_columns *p);
    void (*max_gather)(const fnn_pool_columns *p);

    /* pool_narrow.h */
    ptrdiff_t (*pool_groups)(const fnn_window *windows, ptrdiff_t outputs, ptrdiff_t channels,
                             ptrdiff_t dilation, void *groups);
    void (*pool_narrow)(const fnn_pool_narrow *p, ptrdiff_t first, ptrdiff_t last);
} fnn_kernels;

/* Instruction sets of this build, best last; `scalar` is always the first. */
int fnn_isa_count(void);
const char *fnn_isa_name(int isa);
int fnn_isa_supported(int isa);                               /* by the processor we run on */
int fnn_is_intel(void);                                       /* it, whatever the instruction set */
const fnn_kernels *fnn_isa_table(int isa, ptrdiff_t itemsize);  /* 4: float, 8: double */

#endif
