"""Winograd's algorithm with filters that serve one call: they are transformed as the products read them.

U, see winograd.pyx, is four times the filters. Where tiles are few, to write it to memory and to read it
again takes longer than the products. Here a block of it is made, read and forgotten in L2::

    for each round of tiles
        V[36][T][C]     their inputs, transformed, by all threads; in L3
        for each block of filters                     threads share them
            for each block of channels
                U[36][c][k]                           the filters, transformed
                M[36][T][k] += V[i] U[i]              gemm.pyx
            y               the products transformed back, + bias, f

(AVX-512, one thread, forward and gradient of the input: 512 -> 512 at 28 x 28 8.1 and 11.0 -> 5.2 and
5.3 ms, at 14 x 14 2.8 and 5.5 -> 2.1 and 2.2. From 256 tiles on a U in memory is as fast or faster.)

Sums have their terms in the order of the channels, whoever adds them.
"""

from libc.stdlib cimport calloc, free

from fastnn._kernels.arrays cimport Arrays, acquire, acquire_others, finish, release
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport multiply_task
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, fnn_kernels, fnn_tile_factors, go_on, kernels, lines_apart, real, start, team_size
)
from fastnn._kernels.share cimport share_pieces
from fastnn._kernels.winograd cimport (
    CHANNELS, MOST_PRODUCTS, Plan, Tiling, cut_tiles, first_output, matrix_elements, matrix_room, pack_panel,
    place_products, product_row, tile_sources, transform_outputs
)

cdef enum:
    ROUND_BYTES = 8 * 1024 * 1024   # V of a round
    DEPTH = 128                     # channels and ...
    WIDTH = 64                      # ... filters of a block of U
    GROUP = 4                       # tiles of a task that transforms inputs


# What all threads know; x, zeros, weight, bias, y and the workspaces hold the dtype of the data.
cdef struct Job:
    const fnn_kernels* kern
    const Tiling* tiling
    Plan plan
    Py_ssize_t itemsize
    const void* x
    const void* zeros
    const void* weight
    const void* bias
    void* y
    Py_ssize_t k_stride, c_stride     # from one filter to the next, from one of its channels to the next
    bint transposed                   # filters and channels are exchanged, and each filter rotated
    int relu
    Py_ssize_t depth                  # channels of a block
    Py_ssize_t tile0, tile1           # of the round
    void* v
    Py_ssize_t v_block                # from the V of one block of channels to the next
    void* workspace                   # U, M and room for taps of each thread,
    Py_ssize_t room                   # and the numbers of one
    Watch watch


cdef void transform_inputs(const Job* job, Py_ssize_t begin, Py_ssize_t end,
                           const real* of_dtype) noexcept nogil:
    """V of a few tiles of the round, by blocks of channels: a product reads on and on."""
    cdef const void* sources[MOST_PRODUCTS]
    cdef void* products[MOST_PRODUCTS]
    cdef Py_ssize_t t, c0, channels
    cdef real* v
    cdef int i
    for t in range(begin, end):
        c0, v = 0, <real*>job.v
        while c0 < job.plan.c:
            channels = min(job.depth, job.plan.c - c0)
            tile_sources(job.tiling, <const real*>job.x + c0, <const real*>job.zeros,
                         first_output(job.tiling, job.tile0 + t), sources)
            for i in range(job.plan.products):
                products[i] = product_row(&job.plan, v, channels, t, i)
            job.kern.winograd_input(job.plan.size, sources, channels, products)
            c0 += job.depth
            v += job.v_block


cdef void convolve_block(Job* job, Py_ssize_t block, int thread, const real* of_dtype) noexcept nogil:
    """The outputs of the round's tiles for a block of filters."""
    cdef const fnn_kernels* kern = job.kern
    cdef const Plan* plan = &job.plan
    cdef int side = fnn_tile_factors(plan.size), i, product
    cdef Py_ssize_t k0 = block * plan.filters, width = min(plan.filters, plan.k - k0), c0 = 0, depth, panel, k
    cdef Py_ssize_t matrix = matrix_elements(plan.filters, job.depth, sizeof(real))
    cdef const real* weight = <const real*>job.weight + k0 * job.k_stride
    cdef real* u = <real*>job.workspace + thread * job.room
    cdef real* m = u + side * side * matrix
    cdef real* taps = m + matrix_room(plan, plan.filters)
    cdef real* v = <real*>job.v
    while c0 < plan.c:
        depth = min(job.depth, plan.c - c0)
        for panel in range(ceil_div(width, kern.nr)):
            k = panel * kern.nr
            pack_panel(kern, plan.size, weight + k * job.k_stride + c0 * job.c_stride, job.k_stride,
                       job.c_stride, job.transposed, depth, min(width - k, kern.nr), matrix, u + k * depth,
                       taps)
        for i in range(side * side):
            if not go_on(&job.watch):
                return
            product = i // side * plan.size + i % side
            multiply_task(kern, product_row(plan, v, depth, 0, product), depth, u + i * matrix,
                          <const real*>NULL, product_row(plan, m, width, 0, product), width, 0,
                          (job.tile1 - job.tile0) * plan.rows[product], 0, width, depth, c0 > 0, False,
                          matrix if i + 1 < side * side else 0)
        c0 += job.depth
        v += job.v_block
    transform_outputs(kern, plan, job.tiling, m, <const real*>job.bias, <real*>job.y, job.tile0, job.tile1,
                      k0, k0 + width, False, job.relu)


# The loops' bodies, see share.pxd.


cdef void inputs_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        transform_inputs(<const Job*>job, first, last, <float*>NULL)
    else:
        transform_inputs(<const Job*>job, first, last, <double*>NULL)


cdef void blocks_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        convolve_block(<Job*>job, first, thread, <float*>NULL)
    else:
        convolve_block(<Job*>job, first, thread, <double*>NULL)


cdef int convolve_once(Job* job) noexcept nogil:
    """Returns -1 when memory is short or interrupted."""
    cdef Plan* plan = &job.plan
    cdef Py_ssize_t tiles = job.tiling.n * job.tiling.rows * job.tiling.columns, itemsize = job.itemsize
    cdef Py_ssize_t nr = job.kern.nr, v_bytes, bytes
    cdef int factors = fnn_tile_factors(plan.size) ** 2
    cdef int threads = team_size(0.02 * plan.products * tiles * plan.c * plan.k)
    cdef char* memory
    cdef void* zeros
    plan.block = max(<Py_ssize_t>1, ROUND_BYTES // (plan.products * plan.c * itemsize))
    plan.block = ceil_div(tiles, ceil_div(tiles, plan.block))
    plan.filters = max(WIDTH // nr, <Py_ssize_t>1) * nr
    place_products(plan)
    job.depth = ceil_div(plan.c, ceil_div(plan.c, DEPTH))
    job.v_block = lines_apart(matrix_room(plan, job.depth), itemsize)
    job.room = lines_apart(factors * matrix_elements(plan.filters, job.depth, itemsize)
                           + matrix_room(plan, plan.filters) + 9 * CHANNELS * nr, itemsize)
    v_bytes = ceil_div(plan.c, job.depth) * job.v_block * itemsize
    bytes = v_bytes + threads * job.room * itemsize
    memory = <char*>take(bytes)
    zeros = calloc(job.depth, itemsize)
    if memory is NULL or zeros is NULL:
        give(memory, bytes)
        free(zeros)
        return -1
    job.zeros, job.v, job.workspace = zeros, memory, memory + v_bytes
    start(&job.watch)
    job.tile0 = 0
    while job.tile0 < tiles and go_on(&job.watch):
        job.tile1 = min(tiles, job.tile0 + plan.block)
        share_pieces(threads, inputs_body, job, job.tile1 - job.tile0, GROUP, &job.watch)
        share_pieces(threads, blocks_body, job, ceil_div(plan.k, plan.filters), 1, &job.watch)
        job.tile0 = job.tile1
    give(memory, bytes)
    free(zeros)
    return -1 if job.watch.interrupted else 0


def forward(x, weight, bias, y, bint transposed, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
            Py_ssize_t dilation_h, Py_ssize_t dilation_w, int relu):
    """y (N, P, Q, K) = f(filters * x + bias), x (N, H, W, C) with contiguous channels, the others contiguous.

    weight is (K, C, 3, 3); if `transposed` (C, K, 3, 3), and each filter is rotated by 180 degrees: the
    gradient of an input. `bias` may be None.
    """
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef int status
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire_others(&arrays, weight, y, bias)
        status = run_forward(&arrays, transposed, size, pad_h, pad_w, dilation_h, dilation_w, relu)
    finally:
        release(&arrays)
    finish(status, "conv2d")


cdef int run_forward(Arrays* arrays, bint transposed, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                     Py_ssize_t dilation_h, Py_ssize_t dilation_w, int relu) noexcept:
    cdef Py_buffer* x = &arrays.item[0]
    cdef Py_buffer* y = &arrays.item[2]
    cdef Tiling tiling
    cdef Job job
    cdef int status
    if y.len == 0:
        return 0
    cut_tiles(&tiling, size, x.shape, x.strides, x.itemsize, y.shape[1], y.shape[2], pad_h, pad_w, dilation_h,
              dilation_w)
    job.kern, job.tiling, job.itemsize = kernels(x.itemsize), &tiling, x.itemsize
    job.plan.size, job.plan.products = size, size * size
    job.plan.c, job.plan.k, job.plan.y_pixel = x.shape[3], y.shape[3], y.shape[3]
    job.x, job.weight, job.y = x.buf, arrays.item[1].buf, y.buf
    job.bias = arrays.item[3].buf if arrays.count == 4 else NULL
    job.k_stride = 9 if transposed else 9 * x.shape[3]
    job.c_stride = 9 * y.shape[3] if transposed else 9
    job.transposed, job.relu = transposed, relu
    with nogil:
        status = convolve_once(&job)
    return status
