"""Gradient of 3 x 3 filters by the transpose of Winograd's algorithm, see winograd.pyx.

With Y = A^T [(G g G^T) * (B^T d B)] A, summed over channels, the gradient of a filter is

    dg = G^T [ sum over tiles of (B^T d B) * (A dY A^T) ] G

so that the sum over pixels becomes 36 products over tiles, a quarter of the multiplications (with stride 2 81
or 25, .56 or .69 of them)::

    V[36][T][C]   the tiles' inputs, transformed             as forward
    Z[36][T][K]   the tiles' output gradients, transformed, in panels
    S[36][C][K]  += V[i]^T Z[i]                              gemm_columns

With stride 2 products with the same factor have one sum: of 81 there are 36, of 25 16.

Tiles are transformed a round at a time, by all threads; then the products are shared, and at the end the
channels of S that are transformed back. Each sum has its terms in the order of the tiles, in a round those of
one product after the other's, whoever adds them.

S is four times the filters. Where one round has all tiles a task sums a block of S, in L2, and transforms it
back at once: S is never in memory (AVX-512, one thread, 512 -> 512 at 28 x 28 9.6 -> 5.8 ms, 16 images of
7 x 7 8.4 -> 7.1). Where S is small the tiles are cut in slices with an S each, added at the end: a long sum
loses digits.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport filters_first
from fastnn._kernels.runtime cimport (
    CACHE_LINE, Watch, ceil_div, fnn_kernels, fnn_tile, fnn_tile_factors, go_on, kernels, like_parts,
    lines_apart, multiply_ns, odd_lines, real, start, team_size
)
from fastnn._kernels.share cimport share_pieces
from fastnn._kernels.transposed cimport column_tiles
from fastnn._kernels.walk cimport Pixel
from fastnn._kernels.winograd cimport (
    MOST_OUTPUTS, MOST_PRODUCTS, Tiling, cut_tiles, fetch_pixels, fetch_sources, first_output, products_of,
    tile_pixels, tile_sources
)

cdef enum:
    DEPTH = 128                     # tiles of a product: a panel of so many lies in L1
    ROUND_BYTES = 2 * 1024 * 1024   # V and Z of a round, in L3; of wide layers more: a pass over S costs
    SLICES = 4                      # of the tiles, where ...
    SMALL_SUMS = 128 * 128          # ... S has no more elements
    GROUP = 8                       # tiles of a task that transforms
    ROWS = 128                      # channels of a task that multiplies
    CHANNELS = 16                   # of a task that transforms back: 9 lines of each filter
    SIDE = 64                       # channels and filters of a block of S, in L2


# What all threads know; x, grad_y, zeros and the matrices hold the dtype of the data.
cdef struct Job:
    const fnn_kernels* kern
    const Tiling* tiling
    int size, products, factors   # of a tile, see winograd.pyx
    Py_ssize_t c, k, itemsize
    const void* x
    const void* zeros
    const void* grad_y
    void* grad_weight
    Py_ssize_t tiles
    Py_ssize_t slices, slice      # slices of the tiles, and tiles of each
    Py_ssize_t round              # tiles of a round
    Py_ssize_t tile0, tile1       # those of this one
    Py_ssize_t parts              # of the channels of S
    Py_ssize_t blocks, width      # of the filters of S, and filters of each, where it is summed by blocks
    Py_ssize_t v_tile             # from one tile of V to the next
    Py_ssize_t v_stride, z_stride, panel
    Py_ssize_t matrix             # from one of the sums S to the next
    void* v
    void* z
    void* sums
    void* taps                    # room for what a thread transforms back,
    Py_ssize_t taps_room          # and numbers of a thread's
    Watch watch


cdef void plan(Job* job, const fnn_kernels* kern, const Tiling* tiling, Py_ssize_t tiles, Py_ssize_t c,
               Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    cdef Py_ssize_t panels = ceil_div(k, kern.nr), blocks
    job.kern, job.tiling, job.tiles, job.c, job.k = kern, tiling, tiles, c, k
    job.size, job.itemsize = tiling.size, itemsize
    job.products, job.factors = job.size * job.size, fnn_tile_factors(job.size) ** 2
    # An odd number of lines: a column of V, as products read it, lies in all sets of L1. (Zen 3, 8 images of
    # 7 x 7, 512 channels: with the lines of 128 tiles in 2 of 64 sets 20.8 ms, so 18.6.)
    job.v_tile = c if c * itemsize < 4 * CACHE_LINE else odd_lines(c, itemsize)
    job.slices = max(<Py_ssize_t>1, min(<Py_ssize_t>SLICES, tiles // DEPTH)) if c * k <= SMALL_SUMS else 1
    job.slice = ceil_div(tiles, job.slices)
    blocks = ROUND_BYTES // (job.products * (job.v_tile + panels * kern.nr) * itemsize * DEPTH)
    blocks = max(<Py_ssize_t>1, blocks)
    job.round = ceil_div(job.slice, ceil_div(job.slice, blocks * DEPTH))
    job.blocks, job.width = 0, k
    if job.round == tiles and c * k > SMALL_SUMS:
        job.width = max(SIDE // kern.nr, <Py_ssize_t>1) * kern.nr
        job.blocks = ceil_div(k, job.width)
    job.parts = like_parts(c, SIDE if job.blocks else ROWS)
    # 16 numbers apart from a power of two, lest the stores of a tile fall into one cache set.
    job.v_stride = job.round * job.v_tile + 16
    job.panel = job.round * kern.nr
    job.z_stride = panels * job.panel + 16
    job.matrix = (ceil_div(c, job.parts) if job.blocks else c) * job.width + 16
    job.taps_room = lines_apart(9 * CHANNELS * job.width, itemsize)


cdef void transform(const Job* job, Py_ssize_t begin, Py_ssize_t end, const real* of_dtype) noexcept nogil:
    """V and Z of a few tiles of the round."""
    cdef const void* sources[2][MOST_PRODUCTS]
    cdef const void* pixels[2][MOST_OUTPUTS]
    cdef void* products[MOST_PRODUCTS]
    cdef Py_ssize_t t, i
    cdef int now
    find_pixels(job, begin, sources[begin % 2], pixels[begin % 2], of_dtype)
    for t in range(begin, end):
        now = t % 2
        if job.tile0 + t + 1 < job.tiles:
            find_pixels(job, t + 1, sources[1 - now], pixels[1 - now], of_dtype)
            fetch_sources(job.tiling, sources[1 - now], job.c * sizeof(real))
            fetch_pixels(job.tiling, pixels[1 - now], job.k * sizeof(real))
        for i in range(job.products):
            products[i] = <real*>job.v + i * job.v_stride + t * job.v_tile
        job.kern.winograd_input(job.size, sources[now], job.c, products)
        job.kern.winograd_gradient(job.size, pixels[now], job.k, <real*>job.z + t * job.kern.nr, job.panel,
                                   job.z_stride)


cdef void find_pixels(const Job* job, Py_ssize_t tile, const void** sources, const void** pixels,
                      const real* of_dtype) noexcept nogil:
    """Where a tile of the round has its inputs and the gradients of its outputs."""
    cdef Pixel first = first_output(job.tiling, job.tile0 + tile)
    tile_sources(job.tiling, <const real*>job.x, <const real*>job.zeros, first, sources)
    tile_pixels(job.tiling, <const real*>job.grad_y, job.k, first, pixels)


cdef void multiply(Job* job, Py_ssize_t task, const real* of_dtype) noexcept nogil:
    """Some channels of the sums of a factor, over the tiles of a round.

    The last factors have the most products with stride 2, up to 16: begun first, they leave small ones to
    share at the end.
    """
    cdef int factor = <int>(job.factors - 1 - task // job.parts)
    cdef Py_ssize_t part = task % job.parts, c0 = part * job.c // job.parts
    cdef real* sums = <real*>job.sums + (job.tile0 // job.slice * job.factors + factor) * job.matrix
    sum_factor(job, factor, c0, (part + 1) * job.c // job.parts, 0, job.k, sums + c0 * job.k)


cdef void sum_block(Job* job, Py_ssize_t task, int thread, const real* of_dtype) noexcept nogil:
    """grad_weight of some channels of a few filters: all their sums, then their transform."""
    cdef Py_ssize_t part = task % job.parts
    cdef Py_ssize_t c0 = part * job.c // job.parts, c1 = (part + 1) * job.c // job.parts, c = c0
    cdef Py_ssize_t k0 = task // job.parts * job.width, width = min(job.width, job.k - k0)
    cdef real* sums = <real*>job.sums + thread * job.factors * job.matrix
    cdef int factor
    for factor in range(job.factors):
        sum_factor(job, factor, c0, c1, k0, k0 + width, sums + factor * job.matrix)
    while c < c1:
        turn_back(job, c, min(<Py_ssize_t>CHANNELS, c1 - c), k0, width, sums + (c - c0) * width, thread)
        c += CHANNELS


cdef void sum_factor(Job* job, int factor, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t k0, Py_ssize_t k1,
                     real* sums) noexcept nogil:
    """[c1 - c0][k1 - k0] of the sums of a factor: all its products."""
    cdef int side = fnn_tile_factors(job.size), a = factor // side, b = factor % side, i, j
    for i in range(a, a + products_of(a, job.size)):
        for j in range(b, b + products_of(b, job.size)):
            if not go_on(&job.watch):
                return
            add_product(job, i * job.size + j, i == a and j == b, c0, c1, k0, k1, sums)


cdef void add_product(const Job* job, Py_ssize_t product, bint first, Py_ssize_t c0, Py_ssize_t c1,
                      Py_ssize_t k0, Py_ssize_t k1, real* sums) noexcept nogil:
    """sums += V^T Z of one product, or = where it is the first of its slice."""
    cdef const void* tiles[DEPTH]
    cdef const real* v = <const real*>job.v + product * job.v_stride
    cdef const real* z = <const real*>job.z + product * job.z_stride + k0 // job.kern.nr * job.panel
    cdef Py_ssize_t count = job.tile1 - job.tile0, blocks = ceil_div(count, DEPTH)
    cdef Py_ssize_t depth = ceil_div(count, blocks), block, t0, t
    cdef fnn_tile tile
    tile.a = tiles
    tile.b_step, tile.b_panel, tile.columns = job.kern.nr, job.panel, k1 - k0
    tile.next_b = tile.next_step = tile.next_a = 0
    for block in range(blocks):
        t0 = block * depth
        tile.depth = min(depth, count - t0)
        tile.accumulate = not first or job.tile0 % job.slice + t0 > 0
        tile.b = z + t0 * job.kern.nr
        for t in range(tile.depth):
            tiles[t] = v + (t0 + t) * job.v_tile
        column_tiles(job.kern, &tile, c0, 0, c1 - c0, sums, k1 - k0)


cdef void transform_back(const Job* job, Py_ssize_t c0, Py_ssize_t c1, int thread,
                         const real* of_dtype) noexcept nogil:
    """grad_weight of a few channels."""
    cdef Py_ssize_t i
    cdef real* sums = <real*>job.sums + c0 * job.k
    for i in range(job.factors):
        job.kern.add_rows(job.slices - 1, (c1 - c0) * job.k, sums + (job.factors + i) * job.matrix,
                          job.factors * job.matrix, sums + i * job.matrix, 0)
    turn_back(job, c0, c1 - c0, 0, job.k, sums, thread)


cdef void turn_back(const Job* job, Py_ssize_t c0, Py_ssize_t channels, Py_ssize_t k0, Py_ssize_t filters,
                    const real* sums, int thread) noexcept nogil:
    """grad_weight of a few channels of some filters from their sums [factor][channels][filters]."""
    cdef Py_ssize_t n = channels * filters
    cdef real* taps = <real*>job.taps + thread * job.taps_room
    job.kern.winograd_filter_gradient(job.size, sums, job.matrix, n, taps)
    filters_first(taps, 9, channels, filters, filters, <real*>job.grad_weight + (k0 * job.c + c0) * 9,
                  job.c * 9)


# The loops' bodies, see share.pxd: tiles, channels of factors, blocks, channels.


cdef void transform_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        transform(<const Job*>job, first, last, <float*>NULL)
    else:
        transform(<const Job*>job, first, last, <double*>NULL)


cdef void multiply_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        multiply(<Job*>job, first, <float*>NULL)
    else:
        multiply(<Job*>job, first, <double*>NULL)


cdef void sum_block_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        sum_block(<Job*>job, first, thread, <float*>NULL)
    else:
        sum_block(<Job*>job, first, thread, <double*>NULL)


cdef void transform_back_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Job*>job).itemsize == sizeof(float):
        transform_back(<const Job*>job, first, last, thread, <float*>NULL)
    else:
        transform_back(<const Job*>job, first, last, thread, <double*>NULL)


cdef int filter_gradient(const Tiling* tiling, const real* x, const real* grad_y, Py_ssize_t c, Py_ssize_t k,
                         real* grad_weight) noexcept nogil:
    """grad_weight [k][c][3][3]. Returns -1 when memory is short or interrupted."""
    cdef Job job
    cdef Py_ssize_t tiles = tiling.n * tiling.rows * tiling.columns, bytes
    cdef int threads = team_size(multiply_ns(<double>tiling.size * tiling.size * tiles * c * k))
    cdef real* memory
    cdef real* taps
    cdef real* zeros = <real*>calloc(c, sizeof(real))
    plan(&job, kernels(sizeof(real)), tiling, tiles, c, k, sizeof(real))
    taps = <real*>malloc(threads * job.taps_room * sizeof(real))
    bytes = (job.products * (job.v_stride + job.z_stride)
             + (threads if job.blocks else job.slices) * job.factors * job.matrix) * sizeof(real)
    memory = <real*>take(bytes)
    if memory is NULL or taps is NULL or zeros is NULL:
        give(memory, bytes)
        free(taps)
        free(zeros)
        return -1
    job.x, job.zeros, job.grad_y, job.grad_weight = x, zeros, grad_y, grad_weight
    job.v, job.taps = memory, taps
    job.z = memory + job.products * job.v_stride
    job.sums = <real*>job.z + job.products * job.z_stride
    start(&job.watch)
    job.tile0 = 0
    while job.tile0 < tiles and go_on(&job.watch):
        job.tile1 = min(min(tiles, job.tile0 + job.round), (job.tile0 // job.slice + 1) * job.slice)
        share_pieces(threads, transform_body, &job, job.tile1 - job.tile0, GROUP, &job.watch)
        if job.blocks:
            share_pieces(threads, sum_block_body, &job, job.blocks * job.parts, 1, &job.watch)
        else:
            share_pieces(threads, multiply_body, &job, job.factors * job.parts, 1, &job.watch)
        job.tile0 = job.tile1
    if not job.blocks:
        share_pieces(threads, transform_back_body, &job, c, CHANNELS, &job.watch)
    give(memory, bytes)
    free(taps)
    free(zeros)
    return -1 if job.watch.interrupted else 0


def backward_weight(grad_y, x, grad_weight, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                    Py_ssize_t dilation_h, Py_ssize_t dilation_w):
    """grad_weight (K, C, 3, 3) from grad_y (N, P, Q, K) and x (N, H, W, C) with contiguous channels.

    grad_weight and grad_y are contiguous.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Tiling tiling
    cdef const Py_buffer* of_y
    cdef const Py_buffer* of_x
    cdef int status
    acquire_all(&arrays, (grad_y, x), (grad_weight,))
    of_y, of_x = &arrays.item[0], &arrays.item[1]
    cut_tiles(&tiling, size, of_x.shape, of_x.strides, of_x.itemsize, of_y.shape[1], of_y.shape[2], pad_h,
              pad_w, dilation_h, dilation_w)
    if of_y.itemsize == sizeof(float):
        status = run_backward[float](&arrays, NULL, &tiling)
    else:
        status = run_backward[double](&arrays, NULL, &tiling)
    finish(status, "conv2d_backward")


cdef int run_backward(const Arrays* arrays, const real* of_dtype, const Tiling* tiling) noexcept:
    """The operands grad_y, x and grad_weight."""
    cdef const Py_buffer* grad_y = &arrays.item[0]
    cdef const Py_buffer* x = &arrays.item[1]
    cdef const Py_buffer* grad_weight = &arrays.item[2]
    if grad_y.len == 0:
        memset(grad_weight.buf, 0, grad_weight.len)
        return 0
    with nogil:
        return filter_gradient(tiling, <const real*>x.buf, <const real*>grad_y.buf, x.shape[3],
                               grad_y.shape[3], <real*>grad_weight.buf)
