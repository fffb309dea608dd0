"""Products whose right-hand side B is used but once: a layer's weights in training, which each step changes.

To pack all of B beforehand would take it through memory once more, and with the few rows of a mini-batch
for longer than the product. A task packs one block of B at a time, which stays in L2 while the rows of A
pass by::

    for each block of columns                          threads share them
        for each block of k
            pack B[k, n]
            C[:, n] += A[:, k] B[k, n]                 multiply_task of gemm.pyx

A step of training VGG-11 with few images: 1.87 -> 1.13 s. Sums are in the order of k as in gemm.pyx: the
same bits.

The gradient of few rows of inputs takes the rows of the weights as they lie, `multiply_few`: to pack them
would take as long as six rows' product (AVX2, 1024 x 1024: one row 310 -> 100 us, 4 rows 330 -> 180, 8 rows
590 -> 300; of 12 rows no faster).
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, acquire_floats, acquire_others, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport (
    KC, LONGEST_KC, NC, TASKS, column_sums, multiply, multiply_task, product_ns
)
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack, pack_by_all, panel_elements
from fastnn._kernels.runtime cimport (
    CACHE_LINE, LARGE_BYTES, Watch, balanced, ceil_div, deal, first_line, fnn_kernels, fnn_tasks, go_on,
    kernels, lines_apart, next_task, real, start, team_for, team_size
)
from fastnn._kernels.transposed cimport gradient_workspace, multiply_transposed

cdef enum:
    MANY_ROWS = 448              # from which B is packed beforehand: blocks of rows share it
    FEW_ROWS = 8                 # up to which B is multiplied as it lies
    FEW_COLUMNS = 1024           # of it at once: four of its rows are half of an L1, or all of it
    FEW_UNIT = 16                # columns of a share: whole lines
    FEW_BYTES = 32 * 1024        # of a block for few rows, in L1
    FEW_PANELS = 4               # of it: what a tile of one row takes at once


cdef struct Block:
    Py_ssize_t depth, columns    # of a block of B, in L2, or for few rows in L1
    bint in_l1


cdef Block block_of(const fnn_kernels* kern, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint columns_lie,
                    Py_ssize_t itemsize) noexcept nogil:
    """Few rows are bound by memory: where columns of B lie contiguous, a block of a large one has few, for
    long runs (8 rows, 4096 x 4096: 16.9 -> 14.2 ms); of one that stays in the caches it is short, to lie in
    L1 (one row, Zen 5: 512 -> 1000 72 -> 48 us, AVX2 73 -> 56; 1024 -> 1024 150 -> 110, 155 -> 140).

    Blocks are of a like length, of whole panels, and enough for some threads.
    """
    cdef bint narrow = columns_lie and m <= kern.mr
    cdef Py_ssize_t nr = kern.nr, most = max(NC // nr, 1) * nr
    cdef Block block
    block.in_l1 = narrow and n * k * itemsize < LARGE_BYTES
    if narrow:
        most = FEW_PANELS * nr if block.in_l1 else nr
    block.columns = balanced(n, max(nr, min(most, ceil_div(ceil_div(n, TASKS), nr) * nr)), nr)
    if block.in_l1:
        block.depth = FEW_BYTES // (block.columns * itemsize)
        return block
    block.depth = KC * NC // nr if narrow else LONGEST_KC
    block.depth = ceil_div(k, max(ceil_div(k, block.depth), <Py_ssize_t>1))
    return block


cdef Py_ssize_t block_elements(const Block* block, Py_ssize_t itemsize) noexcept nogil:
    """Elements of a thread's workspace: one packed block."""
    return lines_apart(block.depth * block.columns, itemsize)


cdef Py_ssize_t unpacked_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint columns_lie,
                                   Py_ssize_t itemsize, int threads) noexcept nogil:
    """Elements of workspace for multiply_unpacked: a block of B a thread, all of it, or none."""
    cdef Block block
    if m <= FEW_ROWS and not columns_lie:
        return 0
    if m >= MANY_ROWS:
        return panel_elements(n, k, itemsize)
    block = block_of(kernels(itemsize), m, n, k, columns_lie, itemsize)
    return threads * block_elements(&block, itemsize)


cdef struct Product:
    # What the threads share of C[m, n] = f(A[m, k] B + bias); the arrays hold the dtype of the data.
    const fnn_kernels* kern
    const void* a
    const void* b
    const void* bias
    void* c
    Py_ssize_t a_stride, depth_stride, n_stride, c_stride, m, n, k
    Block block
    int relu


cdef void multiply_unpacked(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride,
                            bint columns_lie, const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m,
                            Py_ssize_t n, Py_ssize_t k, int relu, real* workspace, int threads,
                            Watch* watch) noexcept nogil:
    """C[m, n] = f(A[m, k] B + bias), the columns of B contiguous or, without bias and f, its rows.

    `b_stride` is from one of them to the next. `columns_lie`, which a stride of 1 does not tell, is that of
    unpacked_workspace, whose elements `workspace` holds.
    """
    cdef Product p
    cdef Py_ssize_t room, count
    cdef fnn_tasks tasks
    cdef int thread
    if m == 0 or n == 0:
        return
    if m <= FEW_ROWS and not columns_lie:
        multiply_few(a, a_stride, b, b_stride, c, c_stride, m, n, k, threads, watch)
        return
    p.depth_stride, p.n_stride = 1 if columns_lie else b_stride, b_stride if columns_lie else 1
    if m >= MANY_ROWS:
        pack_by_all(b, NULL, 1, k, p.depth_stride, n, p.n_stride, 1, 0, workspace, threads, watch)
        multiply(a, a_stride, workspace, bias, c, c_stride, m, n, k, False, relu, threads, watch)
        return
    p.kern = kernels(sizeof(real))
    p.a, p.b, p.bias, p.c = a, b, bias, c
    p.a_stride, p.c_stride, p.m, p.n, p.k, p.relu = a_stride, c_stride, m, n, k, relu
    p.block = block_of(p.kern, m, n, k, columns_lie, sizeof(real))
    room = block_elements(&p.block, sizeof(real))
    count = ceil_div(n, p.block.columns)
    threads = team_for(count, threads)
    deal(&tasks, count, threads)
    if threads == 1:
        unpacked_share(&p, &tasks, 0, workspace, watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            unpacked_share(&p, &tasks, thread, workspace + thread * room, watch)


cdef Py_ssize_t until_line(const real* b, Py_ssize_t n_stride) noexcept nogil:
    """How many numbers of each column come before a line of the caches; 0 where that differs, or for none.

    NumPy's arrays begin 16 bytes into a line: columns of 1024 numbers, lines of which share a set of L1, were
    read twice so, and 4 MB of them turned in 89 us, not 65.
    """
    cdef Py_ssize_t size = sizeof(real), before = first_line(<void*>b) - <char*>b
    return 0 if n_stride * size % CACHE_LINE or before % size else before // size


cdef void unpacked_share(const Product* p, fnn_tasks* tasks, int thread, real* panels,
                         Watch* watch) noexcept nogil:
    """One thread's share of the blocks of columns."""
    cdef const real* b = <const real*>p.b
    cdef const real* bias = <const real*>p.bias
    cdef Py_ssize_t first = until_line(b, p.n_stride) if p.block.in_l1 else 0
    cdef Py_ssize_t task = next_task(tasks, thread, watch), n0, columns, k0, depth
    cdef bint last
    while task >= 0:
        n0 = task * p.block.columns
        columns = min(p.block.columns, p.n - n0)
        k0, last = 0, False
        while not last:
            if not go_on(watch):
                break
            depth = min(first if first and k0 == 0 else p.block.depth, p.k - k0)
            last = k0 + depth == p.k
            pack(b + k0 * p.depth_stride + n0 * p.n_stride, NULL, 1, depth, p.depth_stride, columns,
                 p.n_stride, panels)
            multiply_task(p.kern, <const real*>p.a + k0, p.a_stride, panels,
                          NULL if bias is NULL or k0 else bias + n0, <real*>p.c + n0, p.c_stride, 0, p.m, 0,
                          columns, depth, k0 > 0, p.relu if last else 0)
            k0 += depth
        task = next_task(tasks, thread, watch)


cdef void multiply_few(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride, real* c,
                       Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, int threads,
                       Watch* watch) noexcept nogil:
    """C[m, n] = A[m, k] B[k, n] for few rows of A, those of B multiplied as they lie: n numbers each."""
    cdef Py_ssize_t width = min(<Py_ssize_t>FEW_COLUMNS, n if threads == 1 else ceil_div(n, 4 * threads))
    cdef Py_ssize_t count
    cdef fnn_tasks tasks
    cdef int thread
    width = ceil_div(width, FEW_UNIT) * FEW_UNIT
    count = ceil_div(n, width)
    threads = team_for(count, threads)
    deal(&tasks, count, threads)
    if threads == 1:
        few_share(&tasks, 0, a, a_stride, b, b_stride, c, c_stride, m, n, k, width, watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            few_share(&tasks, thread, a, a_stride, b, b_stride, c, c_stride, m, n, k, width, watch)


cdef void few_share(fnn_tasks* tasks, int thread, const real* a, Py_ssize_t a_stride, const real* b,
                    Py_ssize_t b_stride, real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n,
                    Py_ssize_t k, Py_ssize_t width, Watch* watch) noexcept nogil:
    """One thread's share of the blocks of `width` columns."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t task = next_task(tasks, thread, watch), j, i, block, k0, columns
    while task >= 0:
        j = task * width
        columns = min(width, n - j)
        for i in range(m):
            memset(c + i * c_stride + j, 0, columns * sizeof(real))
        for block in range(ceil_div(k, KC)):
            if not go_on(watch):
                break
            k0 = block * KC
            kern.few_rows(m, min(<Py_ssize_t>KC, k - k0), columns, a + k0, a_stride, b + k0 * b_stride + j,
                          b_stride, c + j, c_stride)
        task = next_task(tasks, thread, watch)


def linear(x, weight, bias, y, int relu):
    """y [m, n] = f(x [m, k] W^T + bias), W [n, k], all contiguous; bias may be None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_floats(&arrays, x)
    acquire_others(&arrays, weight, y, bias)
    if arrays.item[0].itemsize == sizeof(float):
        status = run_linear[float](&arrays, NULL, relu)
    else:
        status = run_linear[double](&arrays, NULL, relu)
    finish(status, "linear")


cdef int run_linear(Arrays* arrays, const real* of_dtype, int relu) noexcept:
    """Returns -1 when memory is short."""
    cdef Py_buffer* x = &arrays.item[0]
    cdef Py_buffer* y = &arrays.item[2]
    cdef const real* bias = <const real*>arrays.item[3].buf if arrays.count == 4 else NULL
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = y.shape[1]
    cdef int threads = team_size(product_ns(m, n, k))
    cdef Py_ssize_t size = max(unpacked_workspace(m, n, k, True, sizeof(real), threads), <Py_ssize_t>1)
    cdef real* workspace = <real*>take(size * sizeof(real))
    cdef Watch watch
    if workspace is NULL:
        return -1
    with nogil:
        start(&watch)
        multiply_unpacked(<const real*>x.buf, k, <const real*>arrays.item[1].buf, k, True, bias, <real*>y.buf,
                          n, m, n, k, relu, workspace, threads, &watch)
    give(workspace, size * sizeof(real))
    return 0


def linear_backward(grad_y, x, weight, grad_x, grad_weight, grad_bias, bint accumulate):
    """grad_x = grad_y W, grad_weight = or += grad_y^T x, grad_bias = the column sums of grad_y.

    All are contiguous. grad_x and grad_bias may be None: they are then not computed. weight is not empty.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_all(&arrays, (grad_y, x, weight), (grad_x, grad_weight, grad_bias))
    if arrays.item[0].itemsize == sizeof(float):
        status = run_backward[float](&arrays, NULL, accumulate)
    else:
        status = run_backward[double](&arrays, NULL, accumulate)
    finish(status, "linear_backward")


cdef int run_backward(const Arrays* arrays, const real* of_dtype, bint accumulate) noexcept:
    """The operands of linear_backward. Returns -1 when memory is short."""
    cdef const real* grad_y = <const real*>arrays.item[0].buf
    cdef const real* x = <const real*>arrays.item[1].buf
    cdef const real* weight = <const real*>arrays.item[2].buf
    cdef real* grad_x = <real*>arrays.item[3].buf
    cdef real* grad_weight = <real*>arrays.item[4].buf
    cdef real* grad_bias = <real*>arrays.item[5].buf
    cdef Py_ssize_t m = arrays.item[1].shape[0], n = arrays.item[2].shape[0], k = arrays.item[2].shape[1]
    cdef int threads = team_size(product_ns(m, n, k))
    cdef Py_ssize_t size = max(unpacked_workspace(m, k, n, False, sizeof(real), threads),
                               gradient_workspace(n, k, m, sizeof(real), threads), <Py_ssize_t>1)
    cdef real* workspace = <real*>take(size * sizeof(real))
    cdef Watch watch
    if workspace is NULL:
        return -1
    with nogil:
        start(&watch)
        if grad_x is not NULL:
            multiply_unpacked(grad_y, n, weight, k, False, <const real*>NULL, grad_x, k, m, k, n, False,
                              workspace, threads, &watch)
        multiply_transposed(grad_y, n, x, k, grad_weight, n, k, m, accumulate, workspace, threads, &watch)
        if grad_bias is not NULL:
            column_sums(grad_y, grad_bias, m, n, &watch)
    give(workspace, size * sizeof(real))
    return 0
