"""Elementwise functions over contiguous memory, losses over it, and softmax and cross entropy over rows.

Memory-bound work: a run is cut in blocks small enough to leave room for others in L2 and large enough that
a block's cost hides the loop's; threads share the blocks, or the rows. The cut depends on the length alone.

Arrays come as they are (arrays.pxd): contiguous and of one dtype, which functional/ has seen to.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire, acquire_or_none, at
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport (
    ceil_div, fills_caches, fnn_kernels, kernels, raise_interrupt, rows_abreast
)
from fastnn._kernels.share cimport share

cdef extern from "kernels.h" nogil:
    int FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_SILU, FNN_GELU, FNN_GELU_TANH
    int FNN_HARDTANH, FNN_HARDSIGMOID, FNN_HARDSWISH, FNN_ELU, FNN_SOFTPLUS, FNN_EXP
    bint fnn_is_short(int op)
    bint fnn_is_short_back(int op)
    int FNN_SQUARED, FNN_HALF_SQUARED, FNN_BINARY_CROSS_ENTROPY, FNN_HUBER

RELU, LEAKY_RELU, SIGMOID, TANH = FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH
SILU, GELU, GELU_TANH, EXP = FNN_SILU, FNN_GELU, FNN_GELU_TANH, FNN_EXP
HARDTANH, HARDSIGMOID, HARDSWISH = FNN_HARDTANH, FNN_HARDSIGMOID, FNN_HARDSWISH
ELU, SOFTPLUS = FNN_ELU, FNN_SOFTPLUS
SQUARED, HALF_SQUARED, HUBER = FNN_SQUARED, FNN_HALF_SQUARED, FNN_HUBER
BINARY_CROSS_ENTROPY = FNN_BINARY_CROSS_ENTROPY

cdef Py_ssize_t BLOCK = 16384   # elements
cdef double NS_STREAM = 0.2     # a number read, written, or compared
cdef double NS_FUNCTION = 1.0   # a number through exp or its kin


# --- Functions


cdef struct Map:
    const fnn_kernels* kern
    Py_ssize_t itemsize, size
    int op
    double alpha, beta
    const char* x
    const char* grad_y
    char* y
    bint past                       # y is to be written past the caches


cdef void map_blocks(const void* map_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Map* job = <const Map*>map_
    cdef Py_ssize_t block, n, o
    for block in range(first, last):
        n = min(BLOCK, job.size - block * BLOCK)
        o = block * BLOCK * job.itemsize
        if job.grad_y is NULL:
            job.kern.map(job.op, n, job.alpha, job.beta, job.x + o, job.y + o, job.past)
        else:
            job.kern.map_backward(job.op, n, job.alpha, job.beta, job.grad_y + o, job.x + o, job.y + o,
                                  job.past)


cdef void run_map(int op, double alpha, double beta, const Py_buffer* grad_y, const Py_buffer* x,
                  const Py_buffer* y) noexcept nogil:
    cdef bint is_short = fnn_is_short(op) if grad_y is NULL else fnn_is_short_back(op)
    cdef Map job
    job.kern = kernels(x.itemsize)
    job.itemsize, job.size = x.itemsize, x.len // x.itemsize
    job.op, job.alpha, job.beta = op, alpha, beta
    job.x, job.y, job.past = <const char*>x.buf, <char*>y.buf, y.buf != x.buf and fills_caches(y.buf, y.len)
    job.grad_y = NULL if grad_y is NULL else <const char*>grad_y.buf
    share(map_blocks, &job, ceil_div(job.size, BLOCK), job.size * (NS_STREAM if is_short else NS_FUNCTION))


def map(int op, double alpha, double beta, x, y):
    """y = f(x); `op` names f, `alpha` and `beta` are its numbers: see csrc/elementwise.h."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire(&arrays, x, False)
    acquire(&arrays, y, True)
    with nogil:
        run_map(op, alpha, beta, NULL, &arrays.item[0], &arrays.item[1])
    raise_interrupt()


def map_backward(int op, double alpha, double beta, grad_y, saved, grad_x):
    """grad_x = grad_y f', from what was saved: the output of RELU, SIGMOID, TANH, EXP, else the input."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire(&arrays, grad_y, False)
    acquire(&arrays, saved, False)
    acquire(&arrays, grad_x, True)
    with nogil:
        run_map(op, alpha, beta, &arrays.item[0], &arrays.item[1], &arrays.item[2])
    raise_interrupt()


# --- Sums


cdef struct Sum:
    const fnn_kernels* kern
    Py_ssize_t itemsize, size
    bint relu, past
    const char* a
    const char* b
    char* y


cdef void add_blocks(const void* sum_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Sum* job = <const Sum*>sum_
    cdef Py_ssize_t block, o
    for block in range(first, last):
        o = block * BLOCK * job.itemsize
        job.kern.add(min(BLOCK, job.size - block * BLOCK), job.a + o, job.b + o, job.relu, job.y + o,
                     job.past)


def add(a, b, bint relu, y):
    """y = a + b or, with `relu`, what of it is above 0."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Sum job
    acquire(&arrays, a, False)
    acquire(&arrays, b, False)
    acquire(&arrays, y, True)
    job.itemsize = arrays.item[0].itemsize
    job.kern, job.size, job.relu = kernels(job.itemsize), arrays.item[0].len // job.itemsize, relu
    job.a, job.b = <const char*>arrays.item[0].buf, <const char*>arrays.item[1].buf
    job.y = <char*>arrays.item[2].buf
    job.past = job.y != job.a and job.y != job.b and fills_caches(job.y, arrays.item[2].len)
    with nogil:
        share(add_blocks, &job, ceil_div(job.size, BLOCK), 2 * NS_STREAM * job.size)
    raise_interrupt()


# --- PReLU: rows of channels


cdef struct Slopes:
    const fnn_kernels* kern
    Py_ssize_t itemsize, size
    Py_ssize_t row, block       # numbers of a row, and of a block of whole rows
    const char* x
    const char* slope
    const char* grad_y          # NULL: forward
    char* y                     # or grad_x
    char* sums                  # [blocks, row]


cdef Py_ssize_t block_numbers(Py_ssize_t row) noexcept nogil:
    """Numbers of a block: as many rows as fit, one at least."""
    return max(BLOCK // row, <Py_ssize_t>1) * row


cdef void prelu_task(const void* slopes_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Slopes* job = <const Slopes*>slopes_
    cdef Py_ssize_t block, n, o
    cdef char* sums
    for block in range(first, last):
        n = min(job.block, job.size - block * job.block)
        o = block * job.block * job.itemsize
        if job.grad_y is NULL:
            job.kern.prelu(n, job.row, job.x + o, job.slope, job.y + o)
        else:
            sums = job.sums + block * job.row * job.itemsize
            memset(sums, 0, job.row * job.itemsize)
            job.kern.prelu_backward(n, job.row, job.grad_y + o, job.x + o, job.slope, job.y + o, sums)


cdef int run_prelu(grad_y, x, slope, y, sums) except -1:
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Slopes job
    acquire_or_none(&arrays, grad_y, False)
    acquire(&arrays, x, False)
    acquire(&arrays, slope, False)
    acquire(&arrays, y, True)
    acquire_or_none(&arrays, sums, True)
    job.itemsize = arrays.item[1].itemsize
    job.kern = kernels(job.itemsize)
    job.size, job.row = arrays.item[1].len // job.itemsize, arrays.item[2].len // job.itemsize
    job.grad_y, job.x = <const char*>arrays.item[0].buf, <const char*>arrays.item[1].buf
    job.slope, job.y = <const char*>arrays.item[2].buf, <char*>arrays.item[3].buf
    job.sums = <char*>arrays.item[4].buf
    with nogil:
        if job.size:
            job.block = block_numbers(job.row)
            share(prelu_task, &job, ceil_div(job.size, job.block), 2 * NS_STREAM * job.size)
    raise_interrupt()
    return 0


def prelu(x, slope, y):
    """y = x where x >= 0, else slope x, row by row: `slope` has those of a row. The last may be shorter."""
    cdef Environment _caller = default_environment()
    run_prelu(None, x, slope, y, None)


def prelu_backward(grad_y, x, slope, grad_x, sums):
    """The gradient of x, and in sums [prelu_blocks, row] that of the slopes, each block's by itself."""
    cdef Environment _caller = default_environment()
    run_prelu(grad_y, x, slope, grad_x, sums)


def prelu_blocks(Py_ssize_t size, Py_ssize_t row):
    """The number of blocks of rows, each with sums of its own."""
    return ceil_div(size, block_numbers(row)) if size else 0


# --- Losses, element by element


cdef struct Losses:
    const fnn_kernels* kern
    Py_ssize_t itemsize, size
    int op
    double scale
    double edge, height        # of HUBER alone
    const char* y
    const char* target
    const char* weight          # NULL, or as many numbers as there are losses; likewise
    const char* pos_weight
    char* out                   # losses, or NULL; the gradient
    double* totals              # of the blocks, or NULL for the gradient


cdef void loss_blocks(const void* losses_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Losses* job = <const Losses*>losses_
    cdef Py_ssize_t block, n, o
    for block in range(first, last):
        n = min(BLOCK, job.size - block * BLOCK)
        o = block * BLOCK * job.itemsize
        if job.totals is NULL:
            job.kern.loss_backward(job.op, n, job.scale, job.edge, job.height, job.y + o, job.target + o,
                                   at(job.weight, o), at(job.pos_weight, o), job.out + o)
        else:
            job.totals[block] = job.kern.loss(job.op, n, job.edge, job.height, job.y + o, job.target + o,
                                              at(job.weight, o), at(job.pos_weight, o),
                                              <char*>at(job.out, o))


cdef void describe_losses(Losses* job, const Arrays* arrays) noexcept:
    cdef const Py_buffer* item = arrays.item
    job.kern = kernels(item[0].itemsize)
    job.itemsize, job.size = item[0].itemsize, item[0].len // item[0].itemsize
    job.y, job.target = <const char*>item[0].buf, <const char*>item[1].buf
    job.weight, job.pos_weight = <const char*>item[2].buf, <const char*>item[3].buf
    job.out = <char*>item[4].buf


cdef int acquire_losses(Arrays* arrays, y, target, weight, pos_weight, out) except -1:
    acquire(arrays, y, False)
    acquire(arrays, target, False)
    acquire_or_none(arrays, weight, False)
    acquire_or_none(arrays, pos_weight, False)
    acquire_or_none(arrays, out, True)
    return 0


def loss(int op, y, target, weight, pos_weight, losses, double edge=0, double height=0):
    """The sum of the losses in float64, block by block; each one goes to `losses`, if that is not None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Losses job
    cdef Py_ssize_t blocks, block
    cdef double total = 0
    acquire_losses(&arrays, y, target, weight, pos_weight, losses)
    describe_losses(&job, &arrays)
    job.op, job.scale, job.edge, job.height = op, 1, edge, height
    blocks = ceil_div(job.size, BLOCK)
    job.totals = <double*>malloc(max(blocks, <Py_ssize_t>1) * sizeof(double))
    if job.totals is NULL:
        raise MemoryError("loss: no memory for the workspace")
    with nogil:
        share(loss_blocks, &job, blocks, 2 * NS_FUNCTION * job.size)
    for block in range(blocks):
        total += job.totals[block]
    free(job.totals)
    raise_interrupt()
    return total


def loss_backward(int op, double scale, y, target, weight, pos_weight, grad_y, double edge=0,
                  double height=0):
    """grad_y = scale times the derivative of each loss; of the squared ones y - target."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Losses job
    acquire_losses(&arrays, y, target, weight, pos_weight, grad_y)
    describe_losses(&job, &arrays)
    job.op, job.scale, job.edge, job.height, job.totals = op, scale, edge, height, NULL
    with nogil:
        share(loss_blocks, &job, ceil_div(job.size, BLOCK), 2 * NS_FUNCTION * job.size)
    raise_interrupt()


# --- Rows along the last axis


cdef struct Rows:
    const fnn_kernels* kern
    Py_ssize_t n, bytes
    Py_ssize_t abreast          # rows of a call
    bint log
    const char* x
    const char* grad_y
    char* y


cdef void softmax_rows(const void* rows_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Rows* job = <const Rows*>rows_
    cdef Py_ssize_t row = first, rows = 1, o
    while row < last:
        o = row * job.bytes
        if job.grad_y is NULL:
            rows = min(job.abreast, last - row)
            job.kern.softmax(rows, job.n, job.x + o, job.y + o, job.log)
        else:
            job.kern.softmax_backward(job.n, job.grad_y + o, job.x + o, job.y + o, job.log)
        row += rows


cdef void run_softmax(const Py_buffer* grad_y, const Py_buffer* x, const Py_buffer* y,
                      bint log) noexcept nogil:
    cdef Rows job
    if x.len == 0:
        return
    job.kern = kernels(x.itemsize)
    job.n = x.shape[x.ndim - 1]
    job.bytes = job.n * x.itemsize
    job.abreast = rows_abreast(job.bytes, x.len)
    job.log = log
    job.x, job.y = <const char*>x.buf, <char*>y.buf
    job.grad_y = NULL if grad_y is NULL else <const char*>grad_y.buf
    share(softmax_rows, &job, x.len // job.bytes, NS_FUNCTION * x.len / x.itemsize)


def softmax(x, y, bint log):
    """Softmax along the last axis, or its logarithm."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire(&arrays, x, False)
    acquire(&arrays, y, True)
    with nogil:
        run_softmax(NULL, &arrays.item[0], &arrays.item[1], log)
    raise_interrupt()


def softmax_backward(grad_y, y, grad_x, bint log):
    """The gradient from the output of `softmax`."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire(&arrays, grad_y, False)
    acquire(&arrays, y, False)
    acquire(&arrays, grad_x, True)
    with nogil:
        run_softmax(&arrays.item[0], &arrays.item[1], &arrays.item[2], log)
    raise_interrupt()


# --- Cross entropy: rows x [count, n], a class for each, targets [count]


cdef struct Classes:
    const fnn_kernels* kern
    Py_ssize_t itemsize, n, bytes, ignore
    const char* x
    const Py_ssize_t* targets
    const double* weight        # [n] or NULL
    double scale
    double* losses
    char* grad_x


def class_weights(targets, Py_ssize_t classes, Py_ssize_t ignore, const double[::1] weight):
    """The sum of the targets' weights (1 each without), and the index of the first that is no class, or -1.

    `ignore` marks targets that count for nothing.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef const Py_ssize_t* target
    cdef const double* weights = NULL if weight is None else &weight[0]
    cdef Py_ssize_t i, count, wanted, wrong = -1
    cdef double total = 0
    acquire(&arrays, targets, False)
    target = <const Py_ssize_t*>arrays.item[0].buf
    count = arrays.item[0].len // <Py_ssize_t>sizeof(Py_ssize_t)
    with nogil:
        for i in range(count):
            wanted = target[i]
            if wanted == ignore:
                continue
            if not 0 <= wanted < classes:
                wrong = i
                break
            total += 1 if weights is NULL else weights[wanted]
    return total, wrong


cdef double weight_of(const Classes* job, Py_ssize_t target) noexcept nogil:
    """0 where nothing is asked of the row: 0 times the logarithm of 0 would be no number."""
    if target == job.ignore or not 0 <= target < job.n:
        return 0
    return 1 if job.weight is NULL else job.weight[target]


cdef void cross_entropy_rows(const void* classes_, Py_ssize_t first, Py_ssize_t last,
                             int thread) noexcept nogil:
    cdef const Classes* job = <const Classes*>classes_
    cdef Py_ssize_t row, target
    cdef double weight
    for row in range(first, last):
        target = job.targets[row]   # read once: another thread may write it after it was checked
        weight = weight_of(job, target)
        if job.grad_x is not NULL and weight == 0:
            memset(job.grad_x + row * job.bytes, 0, job.bytes)
        elif job.grad_x is not NULL:
            job.kern.cross_entropy_backward(job.n, job.x + row * job.bytes, target, weight * job.scale,
                                            job.grad_x + row * job.bytes)
        elif weight != 0:
            job.losses[row] = weight * job.kern.cross_entropy(job.n, job.x + row * job.bytes, target)
        else:
            job.losses[row] = 0


cdef Py_ssize_t run_classes(const Arrays* arrays, double* losses, char* grad_x, Py_ssize_t ignore,
                            const double* weight, double scale) noexcept nogil:
    """The arrays are x and targets; returns the number of rows."""
    cdef const Py_buffer* x = &arrays.item[0]
    cdef Classes job
    cdef Py_ssize_t rows = arrays.item[1].len // <Py_ssize_t>sizeof(Py_ssize_t)
    job.kern = kernels(x.itemsize)
    job.n = x.shape[x.ndim - 1]
    job.bytes = job.n * x.itemsize
    job.ignore, job.weight, job.scale = ignore, weight, scale
    job.x, job.targets = <const char*>x.buf, <const Py_ssize_t*>arrays.item[1].buf
    job.losses, job.grad_x = losses, grad_x
    share(cross_entropy_rows, &job, rows, NS_FUNCTION * rows * job.n)
    return rows


def cross_entropy(x, targets, Py_ssize_t ignore, const double[::1] weight, double[::1] losses):
    """losses = -weight[target] log softmax(x)[target] of each row, 0 where ignored; returns their sum."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef const double* weights
    cdef Py_ssize_t row, rows
    cdef double total = 0
    if losses.shape[0] == 0:
        return total
    acquire(&arrays, x, False)
    acquire(&arrays, targets, False)
    weights = NULL if weight is None else &weight[0]
    with nogil:
        rows = run_classes(&arrays, &losses[0], NULL, ignore, weights, 1)
        for row in range(rows):
            total += losses[row]
    raise_interrupt()
    return total


def cross_entropy_backward(x, targets, Py_ssize_t ignore, const double[::1] weight, double scale, grad_x):
    """grad_x = scale weight[target] (softmax(x) - (1 at the target)) of each row, 0 where it is ignored."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef const double* weights
    acquire(&arrays, x, False)
    acquire(&arrays, targets, False)
    acquire(&arrays, grad_x, True)
    weights = NULL if weight is None else &weight[0]
    if arrays.item[0].len:
        with nogil:
            run_classes(&arrays, NULL, <char*>arrays.item[2].buf, ignore, weights, scale)
    raise_interrupt()
