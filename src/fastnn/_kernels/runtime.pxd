"""What every driver needs of the running machine: the table of kernel bodies, and threads."""

cdef extern from "kernels.h" nogil:
    ctypedef struct fnn_tile:
        const void* const* a
        Py_ssize_t a_offset
        const Py_ssize_t* tap_offset
        Py_ssize_t taps
        Py_ssize_t depth
        const void* b
        Py_ssize_t b_step
        Py_ssize_t b_panel
        void** c
        Py_ssize_t c_offset
        Py_ssize_t columns
        const void* bias
        Py_ssize_t next_b
        Py_ssize_t next_step
        Py_ssize_t next_a
        int rows
        int accumulate
        int relu

    ctypedef enum fnn_cell_kind:
        FNN_RNN_TANH
        FNN_RNN_RELU
        FNN_LSTM
        FNN_GRU
        FNN_CELLS

    ctypedef struct fnn_cell:
        Py_ssize_t rows
        Py_ssize_t hidden
        Py_ssize_t first_group
        Py_ssize_t last_group
        void* sums
        Py_ssize_t sums_stride
        const void* state_sums
        const void* h
        Py_ssize_t h_stride
        void* c
        void* c_prev
        void* y
        Py_ssize_t y_stride
        void* gates
        Py_ssize_t gates_stride

    ctypedef struct fnn_cell_grad:
        Py_ssize_t rows
        Py_ssize_t hidden
        const void* gates
        void* grad_gates
        Py_ssize_t gates_stride
        const void* h_prev
        const void* c_prev
        const void* grad_y
        Py_ssize_t y_stride
        void* grad_h
        void* grad_c
        Py_ssize_t first
        Py_ssize_t last

    ctypedef struct fnn_step:
        double lr
        double decay
        double momentum
        double eps
        double keep
        double take
        double square_keep
        double square_take
        double shrink
        double scale
        int maximize
        int nesterov

    ctypedef enum fnn_optimizer:
        FNN_SGD
        FNN_ADAM
        FNN_RMSPROP
        FNN_OPTIMIZERS

    ctypedef struct fnn_window:
        Py_ssize_t first
        Py_ssize_t taps
        Py_ssize_t divisor

    ctypedef struct fnn_pool_columns:
        const fnn_window* windows
        Py_ssize_t outputs
        Py_ssize_t channels
        Py_ssize_t dilation
        Py_ssize_t origin
        Py_ssize_t row_divisor
        const void* run
        Py_ssize_t rows
        Py_ssize_t row_step
        const void* places
        Py_ssize_t place
        Py_ssize_t place_step
        void* y
        void* y_places

    ctypedef struct fnn_pool_narrow:
        int kind
        Py_ssize_t height
        Py_ssize_t width
        Py_ssize_t channels
        Py_ssize_t out_height
        Py_ssize_t out_width
        Py_ssize_t size
        Py_ssize_t row_dilation
        Py_ssize_t dilation
        const fnn_window* rows
        const void* groups
        const void* x
        void* y
        void* y_places

    enum: FNN_ROWS_AHEAD
    enum: FNN_ABREAST
    ctypedef struct fnn_row:
        const void* const* rows
        const void* ahead[FNN_ROWS_AHEAD]
        const void* y_ahead
        Py_ssize_t r
        Py_ssize_t s
        Py_ssize_t group
        Py_ssize_t w
        Py_ssize_t channels
        Py_ssize_t x_pixel
        Py_ssize_t q
        Py_ssize_t y_pixel
        Py_ssize_t stride
        const Py_ssize_t* tap_w
        void* filters
        Py_ssize_t filter_step
        const void* bias
        void* y
        int accumulate
        int relu
        int elements_ahead
        int far
        int past

    enum: FNN_STRIP_CHANNELS
    enum: FNN_STRIP_TILES
    enum: FNN_STRIP_BEYOND
    ctypedef struct fnn_strip:
        const void* x
        Py_ssize_t x_row
        const void* u
        Py_ssize_t factor
        const void* bias
        void* y
        Py_ssize_t y_row
        Py_ssize_t y_pixel
        Py_ssize_t rows
        Py_ssize_t q
        Py_ssize_t filters
        int accumulate
        int relu
        int past

    int fnn_tile_outputs(int size)
    int fnn_tile_factors(int size)

    ctypedef struct fnn_kernels:
        const char* isa
        int lanes
        int mr
        int nr
        void (*gemm_rows)(const fnn_tile* tile) noexcept nogil
        void (*gemm_columns)(const fnn_tile* tile) noexcept nogil
        void (*transpose)(Py_ssize_t m, Py_ssize_t n, const void* src, Py_ssize_t src_stride, void* dst,
                          Py_ssize_t dst_stride) noexcept nogil
        void (*transpose_rows)(Py_ssize_t m, Py_ssize_t n, const void* src, Py_ssize_t src_stride,
                               const Py_ssize_t* from_, void* dst, Py_ssize_t dst_stride,
                               const Py_ssize_t* to) noexcept nogil
        void (*pack_rows)(Py_ssize_t rows, Py_ssize_t n, const void* b, Py_ssize_t stride, Py_ssize_t panel,
                          void* panels) noexcept nogil
        void (*few_rows)(Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t n, const void* a, Py_ssize_t a_stride,
                         const void* b, Py_ssize_t b_stride, void* c, Py_ssize_t c_stride) noexcept nogil
        void (*pad_row)(Py_ssize_t left, const void* x, Py_ssize_t n, Py_ssize_t right,
                        void* y) noexcept nogil
        void (*add)(Py_ssize_t n, const void* a, const void* b, int relu, void* y,
                    int past) noexcept nogil
        void (*add_rows)(Py_ssize_t rows, Py_ssize_t n, const void* x, Py_ssize_t x_stride, void* y,
                         Py_ssize_t y_stride) noexcept nogil
        void (*depthwise_row)(const fnn_row* row) noexcept nogil
        void (*depthwise_gradient)(const fnn_row* row) noexcept nogil
        void (*grouped_row)(const fnn_row* row) noexcept nogil
        void (*grouped_gradient)(const fnn_row* row) noexcept nogil
        void (*even_row)(const fnn_row* row) noexcept nogil
        void (*winograd_input)(int size, const void* const* pixels, Py_ssize_t channels,
                               void** v) noexcept nogil
        void (*winograd_output)(int size, const void* const* m, Py_ssize_t filters, const void* bias,
                                int accumulate, int relu, void** pixels) noexcept nogil
        void (*winograd_filter)(int size, const void* g, Py_ssize_t tap, Py_ssize_t n, void* u,
                                Py_ssize_t stride) noexcept nogil
        void (*winograd_gradient)(int size, const void* const* pixels, Py_ssize_t filters, void* z,
                                  Py_ssize_t panel, Py_ssize_t stride) noexcept nogil
        void (*winograd_filter_gradient)(int size, const void* s, Py_ssize_t stride, Py_ssize_t n,
                                         void* g) noexcept nogil
        void (*winograd_strip)(const fnn_strip* strip) noexcept nogil
        void (*map)(int op, Py_ssize_t n, double alpha, double beta, const void* x, void* y,
                    int past) noexcept nogil
        void (*map_backward)(int op, Py_ssize_t n, double alpha, double beta, const void* grad_y,
                             const void* saved, void* grad_x, int past) noexcept nogil
        void (*prelu)(Py_ssize_t n, Py_ssize_t row, const void* x, const void* slope,
                      void* y) noexcept nogil
        void (*prelu_backward)(Py_ssize_t n, Py_ssize_t row, const void* grad_y, const void* x,
                               const void* slope, void* grad_x, void* sums) noexcept nogil
        void (*column_moments)(Py_ssize_t m, Py_ssize_t c, const void* x, const void* center, const void* g,
                               void* sums) noexcept nogil
        void (*column_affine)(Py_ssize_t m, Py_ssize_t c, const void* x, const void* center, const void* a,
                              const void* b, const void* g, const void* d, void* y,
                              int past) noexcept nogil
        void (*layer_norm)(Py_ssize_t rows, Py_ssize_t n, const void* x, const void* w, const void* b,
                           double eps, void* y) noexcept nogil
        void (*layer_norm_backward)(Py_ssize_t rows, Py_ssize_t n, const void* grad_y, const void* x,
                                    const void* w, double eps, void* grad_x, void* grad_w,
                                    void* grad_b) noexcept nogil
        void (*softmax)(Py_ssize_t rows, Py_ssize_t n, const void* x, void* y, int log) noexcept nogil
        void (*softmax_backward)(Py_ssize_t n, const void* grad_y, const void* y, void* grad_x,
                                 int log) noexcept nogil
        double (*cross_entropy)(Py_ssize_t n, const void* x, Py_ssize_t target) noexcept nogil
        void (*cross_entropy_backward)(Py_ssize_t n, const void* x, Py_ssize_t target, double scale,
                                       void* grad_x) noexcept nogil
        double (*loss)(int op, Py_ssize_t n, double edge, double height, const void* y, const void* target,
                       const void* weight, const void* pos_weight, void* losses) noexcept nogil
        void (*loss_backward)(int op, Py_ssize_t n, double scale, double edge, double height, const void* y,
                              const void* target, const void* weight, const void* pos_weight,
                              void* grad_y) noexcept nogil
        void (*optimizer[FNN_OPTIMIZERS])(Py_ssize_t n, void* data, const void* grad, void* state0,
                                          void* state1, void* state2, const fnn_step* step) noexcept nogil
        void (*cell[FNN_CELLS])(const fnn_cell* step) noexcept nogil
        void (*cell_backward[FNN_CELLS])(const fnn_cell_grad* step) noexcept nogil
        void (*max_rows)(Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, const void* x,
                         void* run) noexcept nogil
        void (*max_columns)(const fnn_pool_columns* p) noexcept nogil
        void (*sum_rows)(Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, const void* x,
                         void* run) noexcept nogil
        void (*mean_columns)(const fnn_pool_columns* p) noexcept nogil
        void (*argmax_rows)(Py_ssize_t n, Py_ssize_t taps, Py_ssize_t stride, const void* x, Py_ssize_t place,
                            Py_ssize_t place_step, void* run, void* places) noexcept nogil
        void (*argmax_columns)(const fnn_pool_columns* p) noexcept nogil
        void (*max_gather)(const fnn_pool_columns* p) noexcept nogil
        Py_ssize_t (*pool_groups)(const fnn_window* windows, Py_ssize_t outputs, Py_ssize_t channels,
                                  Py_ssize_t dilation, void* groups) noexcept nogil
        void (*pool_narrow)(const fnn_pool_narrow* p, Py_ssize_t first, Py_ssize_t last) noexcept nogil

cdef extern from "threads.h" nogil:
    int thread_id "fnn_thread_id"() noexcept
    int team_members "fnn_team_members"() noexcept

ctypedef fused real:
    float
    double

cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b

cdef enum:
    CACHE_LINE = 64
    LARGE_BYTES = 8 * 1024 * 1024  # of an array that does not stay in the caches
    LONG_ROW_BYTES = 4096          # of a row of which several at once leave L1 little room

cdef inline Py_ssize_t rows_abreast(Py_ssize_t bytes, Py_ssize_t all_bytes) noexcept nogil:
    """How many rows at once a body takes that sums along them: one row's sum waits while those of others run.

    Of large arrays one, as the next row is fetched meanwhile (4096 x 1024, layer norm: else 1.2 of the time).
    Zen 5, 512 rows of 128, us, AVX-512 (AVX2): softmax 16.2 -> 12.5 (23 -> 21), its logarithm 19.5 -> 15
    (25 -> 23), layer norm 16.8 -> 14 (20 -> 16.5), backward 33 -> 28.
    """
    return 1 if bytes > LONG_ROW_BYTES or all_bytes >= LARGE_BYTES else FNN_ABREAST

cdef inline bint fills_caches(const void* y, Py_ssize_t bytes) noexcept nogil:
    """Whether so many bytes from y on would fill the caches and may be written past them: in whole lines.

    To write and read again 4 MB took as long through the caches as past them, 8 MB 1.2 times (Zen 3). Arrays
    of more than 1 GB, which NumPy allocates, begin within a line.
    """
    return bytes >= LARGE_BYTES and <Py_ssize_t>y % CACHE_LINE == 0

cdef inline Py_ssize_t whole_lines(Py_ssize_t size) noexcept nogil:
    """So many bytes, and what is missing to the end of a cache line."""
    return ceil_div(size, CACHE_LINE) * CACHE_LINE

cdef inline char* first_line(void* memory) noexcept nogil:
    """Where the first cache line that is all of `memory` begins."""
    return <char*>memory + (-<size_t>memory) % CACHE_LINE

cdef inline Py_ssize_t lines_apart(Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """From one thread's n elements to the next one's such that no cache line is of both, wherever they begin.

    A line that one thread writes and the other reads goes to and fro between them: 32 images of 1 x 28 x 28
    -> 32 filters took one thread 100 us, two with tables of three pointers side by side 75 or 150, so 54.
    """
    return (whole_lines(n * itemsize) + CACHE_LINE) // itemsize

cdef inline bint share_a_set(Py_ssize_t stride) noexcept nogil:
    """Whether rows so many bytes apart fall into one set of L1, which holds 8 or 12 lines."""
    return stride % (64 * CACHE_LINE) == 0

cdef inline Py_ssize_t odd_lines(Py_ssize_t n, Py_ssize_t itemsize) noexcept nogil:
    """From one row of n elements to the next such that a column of them uses all sets of a cache."""
    return (ceil_div(n * itemsize, CACHE_LINE) | 1) * CACHE_LINE // itemsize

cdef inline Py_ssize_t balanced(Py_ssize_t size, Py_ssize_t block, Py_ssize_t unit) noexcept nogil:
    """A multiple of `unit`, at most `block` (a multiple, too), that cuts `size` into one or an even number
    of like parts: 784 rows in 7 blocks of 112 leave one of two threads idle for a seventh of the time.
    """
    cdef Py_ssize_t blocks = ceil_div(size, block)
    return block if blocks <= 1 else ceil_div(ceil_div(size, blocks + blocks % 2), unit) * unit

cdef inline Py_ssize_t like_parts(Py_ssize_t size, Py_ssize_t part) noexcept nogil:
    """Into how many like parts of about `part` to cut `size`: one, or an even number for two threads."""
    cdef Py_ssize_t parts = ceil_div(size, part)
    return max(min(parts + parts % 2, size), <Py_ssize_t>1) if parts > 1 else 1

# Kept by a driver whose work may take long, so that Ctrl-C ends it: `start`, then `go_on` before each task,
# and `raise_interrupt` with the GIL, after the driver's memory is freed.
cdef struct Watch:
    int interrupted
    long long next_look

cdef void start(Watch* watch) noexcept nogil
cdef bint go_on(Watch* watch) noexcept nogil

# The tasks of a parallel loop: `deal` them to `threads` threads, then each takes the next until there is none
# (-1), or Ctrl-C was pressed. Where calls are short, one thread calls the loop's body without OpenMP: its
# parallel region takes 0.7 microseconds even then.
cdef extern from "tasks.h" nogil:
    ctypedef struct fnn_tasks:
        int runs
        int done
    void deal "fnn_deal"(fnn_tasks* tasks, Py_ssize_t count, int threads) noexcept

cdef Py_ssize_t next_task(fnn_tasks* tasks, int thread, Watch* watch) noexcept nogil

# For those that do without `next_task`, once their work is done: `team_size` asks when that was. It fences
# what the calling thread wrote past the caches, as `next_task` does at the end, not what others wrote.
cdef void work_done(bint by_a_team) noexcept nogil

cdef extern from *:
    """
    /* Does nothing: Cython looks for a set exception after it, because it says so below. */
    static inline void fnn_raise_interrupt(void) {}
    """
    void raise_interrupt "fnn_raise_interrupt"() except *

cdef const fnn_kernels* kernels(Py_ssize_t itemsize) noexcept nogil
cdef bint is_intel() noexcept nogil
# Nanoseconds of a clock that is cheap and exact to a few milliseconds.
cdef long long coarse_ns() noexcept nogil

cdef int team_size(double serial_ns) noexcept nogil

cdef inline int team_for(Py_ssize_t tasks, int threads) noexcept nogil:
    """As many of the threads as there are tasks for."""
    return <int>max(min(<Py_ssize_t>threads, tasks), <Py_ssize_t>1)

cdef inline double multiply_ns(double count) noexcept nogil:
    """Serial time of so many multiplications in whole tiles: 100 GFLOP/s."""
    return 0.02 * count

cdef extern from *:
    """
    /* What lies past the end of an array is no error. Without the empty statement GCC leaves out calls of a
     * function that only fetches: it has no effect. */
    static inline void fnn_fetch(const void *from, ptrdiff_t bytes) {
        for (ptrdiff_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i);
        __asm__ volatile("");
    }
    """
    void fetch "fnn_fetch"(const void* source, Py_ssize_t bytes) nogil
