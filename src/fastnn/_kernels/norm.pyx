"""Normalisation: moments of columns and affine maps for batch norm, rows for layer norm.

Sums over many rows are taken in blocks of BLOCK rows, in the dtype of the data; the blocks' sums are added in
float64, in order. So a float32 sum of a million numbers keeps its digits, and the bits do not depend on the
number of threads.

Arrays come as they are (arrays.pxd): contiguous and of one dtype, sums in float64.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, acquire, acquire_or_none, release
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport ceil_div, fnn_kernels, kernels, raise_interrupt, real
from fastnn._kernels.share cimport share

cdef enum:
    BLOCK = 64

cdef double NS_ELEMENT = 0.15   # an element of memory-bound work


cdef const char* at(const char* array, Py_ssize_t offset) noexcept nogil:
    return NULL if array is NULL else array + offset


cdef void add_blocks(const real* parts, Py_ssize_t blocks, Py_ssize_t width, double* total) noexcept nogil:
    cdef Py_ssize_t block, j
    for block in range(blocks):
        for j in range(width):
            total[j] += parts[block * width + j]


cdef void add_parts(const char* parts, Py_ssize_t itemsize, Py_ssize_t blocks, Py_ssize_t width,
                    double* total) noexcept nogil:
    """total [width] = the sum of parts [blocks, width], in order."""
    memset(total, 0, width * sizeof(double))
    if itemsize == sizeof(float):
        add_blocks(<const float*>parts, blocks, width, total)
    else:
        add_blocks(<const double*>parts, blocks, width, total)


# --- Columns: x [m, c]


cdef struct Columns:
    const fnn_kernels* kern
    Py_ssize_t m, c, bytes          # of a row
    const char* x
    const char* center
    const char* a
    const char* b
    const char* g
    const char* d
    char* out                       # sums of the blocks, or y
    Py_ssize_t sums                 # bytes of the sums of a block


cdef void moments_blocks(const void* columns_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Columns* job = <const Columns*>columns_
    cdef Py_ssize_t block, o
    for block in range(first, last):
        o = block * BLOCK * job.bytes
        job.kern.column_moments(min(<Py_ssize_t>BLOCK, job.m - block * BLOCK), job.c, job.x + o, job.center,
                                at(job.g, o), job.out + block * job.sums)


cdef void affine_blocks(const void* columns_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Columns* job = <const Columns*>columns_
    cdef Py_ssize_t block, o
    for block in range(first, last):
        o = block * BLOCK * job.bytes
        job.kern.column_affine(min(<Py_ssize_t>BLOCK, job.m - block * BLOCK), job.c, job.x + o, job.center,
                               job.a, job.b, at(job.g, o), job.d, job.out + o)


cdef void describe_columns(Columns* job, const Py_buffer* x) noexcept:
    job.kern = kernels(x.itemsize)
    job.m, job.c = x.shape[0], x.shape[1]
    job.bytes = job.c * x.itemsize
    job.x = <const char*>x.buf


def column_moments(x, center, g, sums):
    """With d_ij = x_ij - center_j: sums of d_ij g_ij, of d_ij and of g_ij over i, [3, C].

    Where g is None, of d_ij^2 and of d_ij, [2, C].
    """
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef Columns job
    cdef Py_ssize_t blocks, width, itemsize
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire(&arrays, center, False)
        acquire_or_none(&arrays, g, False)
        acquire(&arrays, sums, True)
        describe_columns(&job, &arrays.item[0])
        job.center, job.g = <const char*>arrays.item[1].buf, <const char*>arrays.item[2].buf
        itemsize = arrays.item[0].itemsize
        blocks, width = ceil_div(job.m, BLOCK), (2 if job.g is NULL else 3) * job.c
        job.sums = width * itemsize
        job.out = <char*>malloc(max(blocks * job.sums, <Py_ssize_t>1))
        if job.out is NULL:
            raise MemoryError("batch_norm: no memory for the workspace")
        with nogil:
            if job.c:
                share(moments_blocks, &job, blocks, NS_ELEMENT * job.m * job.c)
            add_parts(job.out, itemsize, blocks, width, <double*>arrays.item[3].buf)
        free(job.out)
    finally:
        release(&arrays)
    raise_interrupt()


def column_affine(x, center, a, b, g, d, y):
    """y_ij = (x_ij - center_j) a_j + b_j, plus d_j g_ij where g and d are not None."""
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef Columns job
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire(&arrays, center, False)
        acquire(&arrays, a, False)
        acquire(&arrays, b, False)
        acquire_or_none(&arrays, g, False)
        acquire_or_none(&arrays, d, False)
        acquire(&arrays, y, True)
        describe_columns(&job, &arrays.item[0])
        job.center, job.a = <const char*>arrays.item[1].buf, <const char*>arrays.item[2].buf
        job.b, job.g = <const char*>arrays.item[3].buf, <const char*>arrays.item[4].buf
        job.d, job.out = <const char*>arrays.item[5].buf, <char*>arrays.item[6].buf
        with nogil:
            if job.c:
                share(affine_blocks, &job, ceil_div(job.m, BLOCK), NS_ELEMENT * job.m * job.c)
    finally:
        release(&arrays)
    raise_interrupt()


# --- Rows: x [..., n] as m rows


cdef struct Rows:
    const fnn_kernels* kern
    Py_ssize_t m, n, bytes
    double eps
    const char* grad_y
    const char* x
    const char* w
    const char* b
    char* y                         # or grad_x
    char* sums                      # [blocks][2][n]


cdef void norm_rows(const void* rows_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Rows* job = <const Rows*>rows_
    cdef Py_ssize_t row
    for row in range(first, last):
        job.kern.layer_norm(job.n, job.x + row * job.bytes, job.w, job.b, job.eps,
                            job.y + row * job.bytes)


cdef void norm_backward_blocks(const void* rows_, Py_ssize_t first, Py_ssize_t last,
                               int thread) noexcept nogil:
    cdef const Rows* job = <const Rows*>rows_
    cdef Py_ssize_t block, row, o
    cdef char* sums
    for block in range(first, last):
        sums = job.sums + 2 * block * job.bytes
        for row in range(block * BLOCK, min(job.m, (block + 1) * BLOCK)):
            o = row * job.bytes
            job.kern.layer_norm_backward(job.n, job.grad_y + o, job.x + o, job.w, job.eps, job.y + o, sums,
                                         sums + job.bytes)


cdef void describe_rows(Rows* job, const Py_buffer* x, const Py_buffer* w, const Py_buffer* y,
                        double eps) noexcept:
    job.kern = kernels(x.itemsize)
    job.n = y.shape[y.ndim - 1]
    job.m = x.len // (job.n * x.itemsize) if x.len else 0
    job.bytes = job.n * x.itemsize
    job.eps = eps
    job.x, job.w, job.y = <const char*>x.buf, <const char*>w.buf, <char*>y.buf


def layer_norm(x, w, b, double eps, y):
    """Normalise each row of x, as many numbers as the last axis of y has; w and b may be None."""
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef Rows job
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire_or_none(&arrays, w, False)
        acquire_or_none(&arrays, b, False)
        acquire(&arrays, y, True)
        describe_rows(&job, &arrays.item[0], &arrays.item[1], &arrays.item[3], eps)
        job.b = <const char*>arrays.item[2].buf
        with nogil:
            share(norm_rows, &job, job.m, 2 * NS_ELEMENT * job.m * job.n)
    finally:
        release(&arrays)
    raise_interrupt()


def layer_norm_backward(grad_y, x, w, double eps, grad_x, grads):
    """grad_x by rows of its last axis; grads [2, n], of w and of b, summed over blocks of rows in order."""
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef Rows job
    cdef Py_ssize_t blocks, itemsize
    arrays.count = 0
    try:
        acquire(&arrays, grad_y, False)
        acquire(&arrays, x, False)
        acquire_or_none(&arrays, w, False)
        acquire(&arrays, grad_x, True)
        acquire(&arrays, grads, True)
        describe_rows(&job, &arrays.item[1], &arrays.item[2], &arrays.item[3], eps)
        job.grad_y = <const char*>arrays.item[0].buf
        itemsize, blocks = arrays.item[1].itemsize, ceil_div(job.m, BLOCK)
        job.sums = <char*>calloc(max(2 * blocks * job.bytes, <Py_ssize_t>1), 1)
        if job.sums is NULL:
            raise MemoryError("layer_norm_backward: no memory for the workspace")
        with nogil:
            share(norm_backward_blocks, &job, blocks, 4 * NS_ELEMENT * job.m * job.n)
            add_parts(job.sums, itemsize, blocks, 2 * job.n, <double*>arrays.item[4].buf)
        free(job.sums)
    finally:
        release(&arrays)
    raise_interrupt()
