"""Normalisation: moments of columns and affine maps for batch norm, rows for layer norm.

Sums over many rows are taken in blocks of BLOCK rows, in the dtype of the data; the blocks' sums are added in
float64, in order. So a float32 sum of a million numbers keeps its digits, and the bits do not depend on the
number of threads.

Arrays come as they are (arrays.pxd): contiguous and of one dtype, sums in float64.
"""

from libc.math cimport isfinite, sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastnn._kernels.arrays cimport HeldArrays, acquire, acquire_or_none, at, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport (
    CACHE_LINE, LARGE_BYTES, ceil_div, fetch, fills_caches, first_line, fnn_kernels, kernels, raise_interrupt,
    real, rows_abreast, whole_lines
)
from fastnn._kernels.share cimport share

cdef enum:
    BLOCK = 64
    LONG_ROW = 256      # numbers, of batch norm's affine map
    WHOLE_VECTORS = 16  # the most numbers of a vector

cdef double NS_ELEMENT = 0.15   # an element of memory-bound work


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


# --- Columns: x [..., c] as m rows


cdef struct Columns:
    const fnn_kernels* kern
    Py_ssize_t m, c, itemsize, bytes    # bytes of a row
    Py_ssize_t block                    # rows of a task of an affine map
    const char* x
    const char* center
    const char* a
    const char* b
    const char* g
    const char* d
    char* out                       # sums of the blocks, or y
    Py_ssize_t sums                 # bytes of the sums of a block


# What is known of the channels. Statistics may be float64 whatever the data are.
cdef struct Channels:
    const Py_buffer* mean
    const Py_buffer* var
    const Py_buffer* weight         # at NULL: ones
    const Py_buffer* bias           # at NULL: zeros
    double eps


cdef void moments_blocks(const void* columns_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Columns* job = <const Columns*>columns_
    cdef Py_ssize_t block, o
    for block in range(first, last):
        o = block * BLOCK * job.bytes
        job.kern.column_moments(min(<Py_ssize_t>BLOCK, job.m - block * BLOCK), job.c, job.x + o, job.center,
                                at(job.g, o), job.out + block * job.sums)


cdef void affine_blocks(const void* columns_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Columns* job = <const Columns*>columns_
    cdef bint past = (job.out != job.x and job.out != job.g and job.bytes % CACHE_LINE == 0
                      and fills_caches(job.out, job.m * job.bytes))
    cdef Py_ssize_t block, o
    for block in range(first, last):
        o = block * job.block * job.bytes
        job.kern.column_affine(min(job.block, job.m - block * job.block), job.c, job.x + o, job.center,
                               job.a, job.b, at(job.g, o), job.d, job.out + o, past)


cdef void describe_columns(Columns* job, const Py_buffer* x) noexcept:
    job.kern = kernels(x.itemsize)
    job.itemsize, job.c = x.itemsize, x.shape[x.ndim - 1]
    job.bytes = job.c * x.itemsize
    job.m = x.len // job.bytes if x.len else 0
    job.block = BLOCK
    job.x, job.g, job.d = <const char*>x.buf, NULL, NULL


cdef int measure(Columns* job, double* total) noexcept nogil:
    """The sums of `column_moments`. Returns -1 where there is no memory, or the call was interrupted."""
    cdef Py_ssize_t blocks = ceil_div(job.m, BLOCK), width = (2 if job.g is NULL else 3) * job.c
    cdef int status = 0
    job.sums = width * job.itemsize
    job.out = <char*>malloc(max(blocks * job.sums, <Py_ssize_t>1))
    if job.out is NULL:
        return -1
    if job.c:
        status = share(moments_blocks, job, blocks, NS_ELEMENT * job.m * job.c)
    if status == 0:
        add_parts(job.out, job.itemsize, blocks, width, total)
    free(job.out)
    return status


cdef double number(const Py_buffer* array, Py_ssize_t i) noexcept nogil:
    return (<const float*>array.buf)[i] if array.itemsize == sizeof(float) else (<const double*>array.buf)[i]


cdef void put(char* array, Py_ssize_t itemsize, Py_ssize_t i, double x) noexcept nogil:
    if itemsize == sizeof(float):
        (<float*>array)[i] = <float>x
    else:
        (<double*>array)[i] = x


cdef double rounded(double x, Py_ssize_t itemsize) noexcept nogil:
    return <double><float>x if itemsize == sizeof(float) else x


cdef double scale_of(const Channels* of, Py_ssize_t j) noexcept nogil:
    cdef double inverse = 1 / sqrt(number(of.var, j) + of.eps)
    return inverse if of.weight.buf is NULL else inverse * number(of.weight, j)


def column_moments(x, center, g, sums):
    """With d_ij = x_ij - center_j: sums of d_ij g_ij, of d_ij and of g_ij over i, [3, C].

    Where g is None, of d_ij^2 and of d_ij, [2, C].
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Columns job
    cdef int status
    acquire(&arrays, x, False)
    acquire(&arrays, center, False)
    acquire_or_none(&arrays, g, False)
    acquire(&arrays, sums, True)
    describe_columns(&job, &arrays.item[0])
    job.center, job.g = <const char*>arrays.item[1].buf, <const char*>arrays.item[2].buf
    with nogil:
        status = measure(&job, <double*>arrays.item[3].buf)
    finish(status, "batch_norm")


cdef void find_pilot(const real* x, Py_ssize_t m, Py_ssize_t c, double* sum, real* pilot) noexcept nogil:
    """The mean of m rows, in float64."""
    cdef Py_ssize_t i, j
    memset(sum, 0, c * sizeof(double))
    for i in range(m):
        for j in range(c):
            sum[j] += x[i * c + j]
    for j in range(c):
        pilot[j] = <real>(sum[j] / m)


cdef int run_statistics(Columns* job, double* mean, double* var) noexcept nogil:
    """Returns -1 where `measure` does, else whether a pilot was far from its mean, or no number."""
    cdef double* sums = <double*>malloc(3 * job.c * sizeof(double) + 1)
    cdef char* pilot
    cdef Py_ssize_t j
    cdef double shift
    cdef int status
    if sums is NULL:
        return -1
    pilot = <char*>(sums + 2 * job.c)
    if job.itemsize == sizeof(float):
        find_pilot(<const float*>job.x, min(job.m, <Py_ssize_t>BLOCK), job.c, sums, <float*>pilot)
    else:
        find_pilot(<const double*>job.x, min(job.m, <Py_ssize_t>BLOCK), job.c, sums, <double*>pilot)
    job.center = pilot
    status = measure(job, sums)
    for j in range(job.c if status == 0 else 0):
        shift = sums[job.c + j] / job.m
        mean[j] = shift + ((<float*>pilot)[j] if job.itemsize == sizeof(float) else (<double*>pilot)[j])
        var[j] = sums[j] / job.m - shift * shift
        if not shift * shift <= 4 * var[j]:
            status = 1
    free(sums)
    return status


def statistics(x, mean, var):
    """Mean and biased variance [C], in float64, of the m rows of x, m > 0, from deviations from a pilot.

    The pilot is the mean of the first BLOCK rows. Returns whether it was near enough; else digits were lost.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Columns job
    cdef int status
    acquire(&arrays, x, False)
    acquire(&arrays, mean, True)
    acquire(&arrays, var, True)
    describe_columns(&job, &arrays.item[0])
    with nogil:
        status = run_statistics(&job, <double*>arrays.item[1].buf, <double*>arrays.item[2].buf)
    finish(status < 0, "batch_norm")
    return status == 0


def column_affine(x, center, a, b, g, d, y):
    """y_ij = (x_ij - center_j) a_j + b_j, plus d_j g_ij where g and d are not None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Columns job
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
    raise_interrupt()


cdef Py_ssize_t rows_in_one(Py_ssize_t m, Py_ssize_t c) noexcept nogil:
    """How many short rows to take for one, so that vectors are full and loops not short.

    Zen 3, 64 images of 28 x 28, 16 channels: 171 us row by row, 120 so; 4 of 112 x 112, 3 channels: 145, 36.
    """
    cdef Py_ssize_t rows = 1
    while rows <= m // 2 and (rows * c < LONG_ROW or (rows * c % WHOLE_VECTORS and rows * c < 2 * LONG_ROW)):
        rows *= 2
    return rows


cdef int run_batch_norm(Columns* job, const Channels* of) noexcept nogil:
    """y = (x - mean) scale + bias; returns -1 where there is no memory.

    What the mean loses when it is rounded to the dtype of the data is the intercept's: of data far from zero
    it may be many deviations.
    """
    cdef Py_ssize_t rows = rows_in_one(job.m, job.c), whole = job.m // rows, done = whole * rows
    cdef Py_ssize_t size = rows * job.bytes, o = done * job.bytes, i, j
    cdef void* memory = malloc(3 * whole_lines(size) + CACHE_LINE)
    # Each vector of them in one line, for one load: Zen 5, 64 x 56 x 56, by where they lay 24 or 18 us.
    cdef char* center = first_line(memory)
    cdef char* a = center + whole_lines(size)
    cdef char* b = a + whole_lines(size)
    cdef double mean, rest, scale, shift
    if memory is NULL:
        return -1
    for j in range(job.c):
        mean, scale = number(of.mean, j), scale_of(of, j)
        rest = mean - rounded(mean, job.itemsize)
        shift = 0 if of.bias.buf is NULL else number(of.bias, j)
        put(center, job.itemsize, j, mean)
        put(a, job.itemsize, j, scale)
        put(b, job.itemsize, j, shift - rest * scale if rest != 0 and isfinite(rest) else shift)
    for i in range(1, rows):
        memcpy(center + i * job.bytes, center, job.bytes)
        memcpy(a + i * job.bytes, a, job.bytes)
        memcpy(b + i * job.bytes, b, job.bytes)
    job.center, job.a, job.b = center, a, b
    job.kern.column_affine(1, (job.m - done) * job.c, job.x + o, center, a, b, NULL, NULL, job.out + o,
                           False)
    job.m, job.c, job.bytes, job.block = whole, rows * job.c, size, max(BLOCK // rows, <Py_ssize_t>1)
    share(affine_blocks, job, ceil_div(job.m, job.block), NS_ELEMENT * job.m * job.c)
    free(memory)
    return 0


def batch_norm(x, mean, var, weight, bias, double eps, y):
    """y = (x - mean) / sqrt(var + eps) weight + bias along the last axis; weight and bias may be None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef const Py_buffer* item = arrays.item
    cdef Columns job
    cdef Channels of
    cdef int status = 0
    acquire(&arrays, x, False)
    acquire(&arrays, mean, False)
    acquire(&arrays, var, False)
    acquire_or_none(&arrays, weight, False)
    acquire_or_none(&arrays, bias, False)
    acquire(&arrays, y, True)
    describe_columns(&job, &item[0])
    of.mean, of.var, of.weight, of.bias, of.eps = &item[1], &item[2], &item[3], &item[4], eps
    job.out = <char*>item[5].buf
    if job.m:
        with nogil:
            status = run_batch_norm(&job, &of)
    finish(status, "batch_norm")


cdef int run_batch_norm_backward(Columns* job, const Channels* of, bint training, char* grad_x,
                                 double* grads) noexcept nogil:
    """h = x - mean, of which x - center lacks `rest`; see batch_norm_backward in functional/norm.py."""
    cdef Py_ssize_t j, n = job.c
    cdef double* sums = <double*>malloc(3 * n * sizeof(double) + 4 * whole_lines(job.bytes) + CACHE_LINE)
    cdef char* center = first_line(sums + 3 * n)
    cdef char* a = center + whole_lines(job.bytes)
    cdef char* b = a + whole_lines(job.bytes)
    cdef char* d = b + whole_lines(job.bytes)
    cdef double inverse, scale, rest, product, slope
    cdef Py_ssize_t count = max(job.m, <Py_ssize_t>1)
    if sums is NULL:
        return -1
    for j in range(n):
        put(center, job.itemsize, j, number(of.mean, j))
    job.center = center
    if measure(job, sums) != 0:
        free(sums)
        return -1
    for j in range(n):
        inverse, scale = 1 / sqrt(number(of.var, j) + of.eps), scale_of(of, j)
        rest = number(of.mean, j) - rounded(number(of.mean, j), job.itemsize)
        if training:
            rest = sums[n + j] / count      # found again, as the mean may have come in the dtype of x
        elif not isfinite(rest):
            rest = 0
        product = sums[j] - rest * sums[2 * n + j]
        grads[j], grads[n + j] = product * inverse, sums[2 * n + j]
        if training:
            slope = -scale * (inverse * inverse) * product / count
            put(a, job.itemsize, j, slope)
            put(b, job.itemsize, j, -scale * sums[2 * n + j] / count - slope * rest)
            put(d, job.itemsize, j, scale)
        else:
            put(center, job.itemsize, j, 0)
            put(a, job.itemsize, j, scale)
            put(b, job.itemsize, j, 0)
    job.a, job.b, job.d, job.out = a, b, d, grad_x
    if not training:
        job.x, job.g = job.g, NULL
    share(affine_blocks, job, ceil_div(job.m, BLOCK), NS_ELEMENT * job.m * job.c)
    free(sums)
    return 0


def batch_norm_backward(grad_y, x, mean, var, weight, double eps, bint training, grad_x, grads):
    """grad_x along the last axis; grads [2, C] in float64, of the weight and of the bias."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef const Py_buffer* item = arrays.item
    cdef Columns job
    cdef Channels of
    cdef int status
    acquire(&arrays, x, False)
    acquire(&arrays, mean, False)
    acquire(&arrays, var, False)
    acquire_or_none(&arrays, weight, False)
    acquire(&arrays, grad_y, False)
    acquire(&arrays, grad_x, True)
    acquire(&arrays, grads, True)
    describe_columns(&job, &item[0])
    of.mean, of.var, of.weight, of.bias, of.eps = &item[1], &item[2], &item[3], NULL, eps
    job.g = <const char*>item[4].buf
    with nogil:
        status = run_batch_norm_backward(&job, &of, training, <char*>item[5].buf, <double*>item[6].buf)
    finish(status, "batch_norm_backward")


def track(running, found, double rate, double factor):
    """running += rate (factor found - running), `found` in float64."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Py_ssize_t j
    cdef double old
    acquire(&arrays, running, True)
    acquire(&arrays, found, False)
    for j in range(arrays.item[1].shape[0]):
        old = number(&arrays.item[0], j)
        put(<char*>arrays.item[0].buf, arrays.item[0].itemsize, j,
            old + rate * (factor * number(&arrays.item[1], j) - old))


# --- Rows: x [..., n] as m rows


cdef struct Rows:
    const fnn_kernels* kern
    Py_ssize_t m, n, bytes
    Py_ssize_t abreast              # rows of a call; of large arrays one
    double eps
    const char* grad_y
    const char* x
    const char* w
    const char* b
    char* y                         # or grad_x
    char* sums                      # [blocks][2][n]


cdef void fetch_row(const Rows* job, const char* rows, Py_ssize_t row) noexcept nogil:
    """Fetch a row of large arrays while the one before it is taken, which goes over that several times.

    Zen 5, AVX-512, 4096 rows of 768, forward .9 of the time, with backward .85.
    """
    if job.m * job.bytes >= LARGE_BYTES:
        fetch(rows + row * job.bytes, job.bytes)


cdef void norm_rows(const void* rows_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Rows* job = <const Rows*>rows_
    cdef Py_ssize_t row = first, rows
    while row < last:
        rows = min(job.abreast, last - row)
        fetch_row(job, job.x, row + 1)
        job.kern.layer_norm(rows, job.n, job.x + row * job.bytes, job.w, job.b, job.eps,
                            job.y + row * job.bytes)
        row += rows


cdef void norm_backward_blocks(const void* rows_, Py_ssize_t first, Py_ssize_t last,
                               int thread) noexcept nogil:
    cdef const Rows* job = <const Rows*>rows_
    cdef Py_ssize_t block, row, rows, end, o
    cdef char* sums
    for block in range(first, last):
        sums = job.sums + 2 * block * job.bytes
        row, end = block * BLOCK, min(job.m, (block + 1) * BLOCK)
        while row < end:
            o = row * job.bytes
            rows = min(job.abreast, end - row)
            fetch_row(job, job.x, row + 1)
            fetch_row(job, job.grad_y, row + 1)
            job.kern.layer_norm_backward(rows, job.n, job.grad_y + o, job.x + o, job.w, job.eps, job.y + o,
                                         sums, sums + job.bytes)
            row += rows


cdef void describe_rows(Rows* job, const Py_buffer* x, const Py_buffer* w, const Py_buffer* y,
                        double eps) noexcept:
    job.kern = kernels(x.itemsize)
    job.n = y.shape[y.ndim - 1]
    job.m = x.len // (job.n * x.itemsize) if x.len else 0
    job.bytes = job.n * x.itemsize
    job.abreast = rows_abreast(job.bytes, x.len)
    job.eps = eps
    job.x, job.w, job.y = <const char*>x.buf, <const char*>w.buf, <char*>y.buf


def layer_norm(x, w, b, double eps, y):
    """Normalise each row of x, as many numbers as the last axis of y has; w and b may be None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Rows job
    acquire(&arrays, x, False)
    acquire_or_none(&arrays, w, False)
    acquire_or_none(&arrays, b, False)
    acquire(&arrays, y, True)
    describe_rows(&job, &arrays.item[0], &arrays.item[1], &arrays.item[3], eps)
    job.b = <const char*>arrays.item[2].buf
    with nogil:
        share(norm_rows, &job, job.m, 2 * NS_ELEMENT * job.m * job.n)
    raise_interrupt()


def layer_norm_backward(grad_y, x, w, double eps, grad_x, grads):
    """grad_x by rows of its last axis; grads [2, n], of w and of b, summed over blocks of rows in order."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Rows job
    cdef Py_ssize_t blocks, itemsize
    cdef void* memory
    acquire(&arrays, grad_y, False)
    acquire(&arrays, x, False)
    acquire_or_none(&arrays, w, False)
    acquire(&arrays, grad_x, True)
    acquire(&arrays, grads, True)
    describe_rows(&job, &arrays.item[1], &arrays.item[2], &arrays.item[3], eps)
    job.grad_y = <const char*>arrays.item[0].buf
    itemsize, blocks = arrays.item[1].itemsize, ceil_div(job.m, BLOCK)
    memory = calloc(2 * blocks * job.bytes + CACHE_LINE, 1)
    job.sums = first_line(memory)
    if memory is NULL:
        raise MemoryError("layer_norm_backward: no memory for the workspace")
    with nogil:
        share(norm_backward_blocks, &job, blocks, 4 * NS_ELEMENT * job.m * job.n)
        add_parts(job.sums, itemsize, blocks, 2 * job.n, <double*>arrays.item[4].buf)
    free(memory)
    raise_interrupt()
