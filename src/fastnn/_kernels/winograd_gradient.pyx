"""Gradient of 3 x 3 filters by the transpose of Winograd's F(4 x 4, 3 x 3) or F(2 x 2, 3 x 3).

With Y = A^T [(G g G^T) * (B^T d B)] A, summed over channels, the gradient of a filter is

    dg = G^T [ sum over tiles of (B^T d B) * (A dY A^T) ] G

so that the sum over pixels becomes 36 (or 16) products over tiles, a quarter (4 / 9) of the multiplications::

    V[36][T][C]   the tiles' inputs, transformed             as forward
    Z[36][T][K]   the tiles' output gradients, transformed, in panels
    S[36][C][K]  += V[i]^T Z[i]                              gemm_columns

Where S is small, the tiles are cut in slices with an S each, added in order at the end; where it is large,
the products are shared. The cut depends on the shapes alone.
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc

from fastnn._kernels.arrays cimport finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport add_slices, column_tiles
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport filters_first
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, go_on, kernels, next_task, real, start, team_size
)
from fastnn._kernels.walk cimport Walk, pixel_at, source_rows
from fastnn._kernels.winograd cimport MOST_PRODUCTS, tile_pixels, tile_walk

cdef enum:
    MAX_BLOCK = 128
    SHARED_BYTES = 1536 * 1024   # V and Z of a task: some of it in L3, for a longer sum per pass over S


cdef struct Plan:
    int outputs                   # of a tile along each axis: 4 or 2
    Py_ssize_t products           # 36 or 16
    Py_ssize_t c, k, p, q
    Py_ssize_t block              # tiles transformed at once
    Py_ssize_t slices, tiles      # slices of the tiles, and tiles in each
    Py_ssize_t parts              # parts of the products
    Py_ssize_t v_stride, z_stride, panel
    Py_ssize_t matrix             # from one of the sums S to the next


cdef Plan make_plan(const fnn_kernels* kern, const Walk* walk, Py_ssize_t tiles, Py_ssize_t c, Py_ssize_t k,
                    Py_ssize_t itemsize) noexcept nogil:
    cdef Plan plan
    plan.outputs, plan.products = <int>walk.stride_h, walk.taps
    plan.c, plan.k = c, k
    plan.block = SHARED_BYTES // (plan.products * (c + k) * itemsize)
    plan.block = min(max(<Py_ssize_t>32, min(<Py_ssize_t>MAX_BLOCK, plan.block)), tiles)
    plan.slices = max(<Py_ssize_t>1, min(<Py_ssize_t>4, tiles // plan.block)) if c * k <= 128 * 128 else 1
    plan.parts = 1 if plan.slices > 1 else 4
    plan.tiles = ceil_div(tiles, plan.slices)
    plan.v_stride = plan.block * c + 16
    plan.panel = plan.block * kern.nr
    plan.z_stride = ceil_div(k, kern.nr) * plan.panel + 16
    plan.matrix = c * k + 16
    return plan


cdef void gradient_task(const fnn_kernels* kern, const Plan* plan, const Walk* walk, const real* x,
                        const real* zeros, const real* grad_y, Py_ssize_t tile0, Py_ssize_t tile1,
                        Py_ssize_t first, Py_ssize_t last, real* sums, real* v, Watch* watch) noexcept nogil:
    """sums[i][c][k], first <= i < last, over the tiles tile0..tile1."""
    cdef const void* pixels[MAX_BLOCK]
    cdef fnn_tile tile
    cdef real* z = v + plan.products * plan.v_stride
    cdef Py_ssize_t block, t0, t, i
    tile.a = pixels
    tile.taps = 1
    tile.b_panel = plan.panel
    tile.columns = plan.k
    tile.bias = NULL
    tile.relu = False
    for block in range(ceil_div(tile1 - tile0, plan.block)):
        if not go_on(watch):
            return
        t0 = tile0 + block * plan.block
        tile.depth = min(plan.block, tile1 - t0)
        tile.accumulate = block > 0
        for t in range(tile.depth):
            source_rows(walk, x, zeros, pixel_at(walk, t0 + t), 1, 1, 0, plan.products, pixels)
            kern.winograd_input(plan.outputs + 2, pixels, plan.c, v + t * plan.c, plan.v_stride)
            tile_pixels(plan.outputs, grad_y, plan.p, plan.q, plan.k, t0 + t, pixels)
            kern.winograd_gradient(plan.outputs + 2, pixels, plan.k, z + t * kern.nr, plan.panel,
                                   plan.z_stride)
        for i in range(first, last):
            tile.b = z + i * plan.z_stride
            for t in range(tile.depth):
                pixels[t] = v + i * plan.v_stride + t * plan.c
            column_tiles(kern, &tile, 0, 0, plan.c, sums + i * plan.matrix, plan.k)


cdef int filter_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t p, Py_ssize_t q,
                         Py_ssize_t c, Py_ssize_t k, real* grad_weight) noexcept nogil:
    """grad_weight [k][c][3][3]. Returns -1 when memory is short or interrupted."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t tiles = walk.n * walk.p * walk.q
    cdef Plan plan = make_plan(kern, walk, tiles, c, k, sizeof(real))
    cdef Py_ssize_t size = plan.products * (plan.v_stride + plan.z_stride), task
    cdef Py_ssize_t sums_of_slice = plan.products * plan.matrix
    cdef int threads = team_size(0.02 * plan.products * tiles * c * k)
    cdef real* workspace = <real*>malloc(threads * size * sizeof(real))
    cdef size_t sums_size = (plan.slices * sums_of_slice + 9 * c * k) * sizeof(real)
    cdef real* sums = <real*>take(sums_size)
    cdef real* zeros = <real*>calloc(c, sizeof(real))
    cdef real* taps
    cdef fnn_tasks tasks
    cdef Watch watch
    cdef int thread
    if workspace is NULL or sums is NULL or zeros is NULL:
        free(workspace)
        give(sums, sums_size)
        free(zeros)
        return -1
    plan.p, plan.q = p, q
    start(&watch)
    deal(&tasks, plan.slices * plan.parts, threads)
    for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        task = next_task(&tasks, thread, &watch)
        while task >= 0:
            gradient_task(kern, &plan, walk, x, zeros, grad_y, task // plan.parts * plan.tiles,
                          min(tiles, (task // plan.parts + 1) * plan.tiles),
                          task % plan.parts * plan.products // plan.parts,
                          (task % plan.parts + 1) * plan.products // plan.parts,
                          sums + task // plan.parts * sums_of_slice, workspace + thread * size, &watch)
            task = next_task(&tasks, thread, &watch)
    add_slices(sums, sums + sums_of_slice, plan.slices - 1, sums_of_slice)
    taps = sums + plan.slices * sums_of_slice
    kern.winograd_filter_gradient(plan.outputs + 2, sums, plan.matrix, c * k, taps)
    filters_first(taps, 9, c, k, grad_weight, &watch)
    free(workspace)
    give(sums, sums_size)
    free(zeros)
    return -1 if watch.interrupted else 0


def backward_weight(const real[:, :, :, ::1] grad_y, const real[:, :, :, :] x,
                    real[:, :, :, ::1] grad_weight, int outputs, Py_ssize_t pad_h, Py_ssize_t pad_w):
    """grad_weight (K, C, 3, 3) from grad_y (N, P, Q, K) and x (N, H, W, C) with contiguous channels.

    By tiles of `outputs` x `outputs` numbers of grad_y.
    """
    cdef Environment _caller = default_environment()
    cdef Walk walk
    cdef Py_ssize_t offsets[2 * MOST_PRODUCTS]
    cdef int status
    if grad_y.size == 0:
        grad_weight[:] = 0
        return
    tile_walk(&walk, outputs, offsets, x.shape, x.strides, sizeof(real), grad_y.shape[1], grad_y.shape[2],
              pad_h, pad_w)
    with nogil:
        status = filter_gradient(&walk, &x[0, 0, 0, 0] if x.shape[1] * x.shape[2] else NULL,
                                 &grad_y[0, 0, 0, 0], grad_y.shape[1], grad_y.shape[2], x.shape[3],
                                 grad_y.shape[3], &grad_weight[0, 0, 0, 0])
    finish(status, "conv2d_backward")
