"""The interface of Winograd's convolution, see winograd.pyx, and its drivers for few tiles and few channels.

Where tiles are few the filters are what there is to share, and U, four times the filters, is the cost::

    for each round of tiles
        V[36][T][C]     their inputs, transformed, by all threads; in L3
        for each block of filters                     threads share them
            for each block of channels
                U[36][c][k]                           the filters, transformed, if they are not yet
                M[36][T][k] += V[i] U[i]              gemm.pyx
            y               the products transformed back, + bias, f

Filters that serve one call are transformed here, block by block: to write a large U to memory and to read it
again takes longer than the products of few tiles. (AVX-512, one thread, forward and gradient of the input:
512 -> 512 at 28 x 28 8.1 and 11.0 -> 5.2 and 5.3 ms, at 14 x 14 2.8 and 5.5 -> 2.1 and 2.2. From 256 tiles on
a U in memory is as fast or faster.) A block of U is little more than an L2 of 1 MB: halved in channels or in
filters it takes as long or longer, for V and M are then read more often.

Sums have their terms in the order of the channels, whoever adds them.

Images of three channels go strip by strip, four rows of outputs (csrc/winograd_strip.h); the rows that a
strip reads are copied first, with their padding, so that the image may have any strides.
"""

from libc.stdlib cimport calloc, free

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_floats, acquire_others, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.runtime cimport (
    CACHE_LINE, FNN_STRIP_BEYOND, FNN_STRIP_CHANNELS, FNN_STRIP_TILES, LARGE_BYTES, ceil_div, fnn_kernels,
    fnn_strip, fnn_tile_factors, go_on, kernels, lines_apart, real, start, team_size
)
from fastnn._kernels.share cimport share_among, share_pieces
from fastnn._kernels.walk cimport Padding, pad_rows
from fastnn._kernels.winograd cimport (
    CHANNELS, MOST_PRODUCTS, Forward, Plan, Tiling, convolve_many, cut_blocks, cut_tiles, first_output,
    matrix_elements, matrix_room, multiply_tiles, pack_panel, place_products, product_row, tile_sources,
    transform_outputs, winograd_threads
)

cdef enum:
    FEW_PACKED = 28                 # tiles, with filters that are transformed already, and ...
    FEW_WIDE = 64                   # ... where pairs of channels and filters ...
    WIDE_PAIRS = 256 * 256          # ... are so many
    WIDEST_PAIRS = 512 * 512        # whose U is beyond any cache
    ROUND_BYTES = 8 * 1024 * 1024   # V of a round, but ...
    ROUND = 64                      # ... of so many tiles at least, ...
    MOST = 256                      # ... and at most
    PAST_BYTES = 4 * LARGE_BYTES    # of outputs that are written past the caches
    DEPTH = 128                     # channels and ...
    WIDTH = 64                      # ... filters of a block of U
    BLOCKS = 4                      # of filters for each thread: where they are fewer, and uneven, ...
    SHARED = 16                     # ... tiles are shared, if a thread gets so many, or blocks are halved
    GROUP = 4                       # tiles of a task that transforms inputs
    STRIP = 4                       # rows of outputs of a strip,
    STRIP_INPUTS = 6                # and of inputs

cdef double STRIP_NS = 0.12         # that an output of a strip takes


cdef void transform_inputs(const Forward* job, Py_ssize_t begin, Py_ssize_t end,
                           const real* of_dtype) noexcept nogil:
    """V of a few tiles of the round, by blocks of channels: a product reads on and on.

    The next tile is not fetched, as in winograd.pyx: images of few tiles are small, and it gains nothing.
    """
    cdef const void* sources[MOST_PRODUCTS]
    cdef void* products[MOST_PRODUCTS]
    cdef Py_ssize_t t, block, c0, channels
    cdef real* v
    cdef int i
    for t in range(begin, end):
        tile_sources(job.tiling, <const real*>job.x, <const real*>job.zeros,
                     first_output(job.tiling, job.tile0 + t), sources)
        for block in range(ceil_div(job.plan.c, job.depth)):
            c0 = block * job.depth
            channels = min(job.depth, job.plan.c - c0)
            v = <real*>job.v + block * job.v_block
            for i in range(job.plan.products):
                products[i] = product_row(&job.plan, v, channels, t, i)
            job.kern.winograd_input(job.plan.size, sources, channels, products)
            for i in range(job.plan.products):
                sources[i] = <const real*>sources[i] + channels


cdef void convolve_block(Forward* job, Py_ssize_t task, int thread, const real* of_dtype) noexcept nogil:
    """The outputs of a share of the round's tiles for a block of filters."""
    cdef const Plan* plan = &job.plan
    cdef Py_ssize_t share = task % job.shares, tiles = job.tile1 - job.tile0
    cdef Py_ssize_t begin = share * tiles // job.shares, end = (share + 1) * tiles // job.shares
    cdef Py_ssize_t k0 = task // job.shares * plan.filters, k1 = min(plan.k, k0 + plan.filters)
    cdef Py_ssize_t block, depth
    cdef int factors = fnn_tile_factors(plan.size) ** 2
    cdef real* u = <real*>job.workspace + thread * job.room
    cdef real* m = u
    cdef Py_ssize_t matrix
    if begin == end:  # the last round may have fewer tiles than there are shares
        return
    if job.panels is NULL:
        matrix = matrix_elements(plan.filters, job.depth, sizeof(real))
        m += factors * matrix
    else:
        matrix = matrix_elements(plan.k, plan.c, sizeof(real))
        u = <real*>job.panels + k0 * plan.c
    for block in range(ceil_div(plan.c, job.depth)):
        depth = min(job.depth, plan.c - block * job.depth)
        if job.panels is NULL:
            transform_filters(job, block * job.depth, depth, k0, k1, matrix, u,
                              m + matrix_room(plan, plan.filters))
        if not multiply_tiles(job.kern, plan, <real*>job.v + block * job.v_block, begin, end, depth, u,
                              matrix, k1 - k0, block > 0, m, &job.watch):
            return
    transform_outputs(job, m, job.tile0 + begin, job.tile0 + end, k0, k1)


cdef void transform_filters(const Forward* job, Py_ssize_t c0, Py_ssize_t depth, Py_ssize_t k0, Py_ssize_t k1,
                            Py_ssize_t matrix, real* u, real* taps) noexcept nogil:
    """U of a block of channels and filters."""
    cdef Py_ssize_t nr = job.kern.nr, panel
    for panel in range(ceil_div(k1 - k0, nr)):
        pack_panel(job.kern, job.plan.size, <const real*>job.weight, job.transposed, job.plan.k, job.plan.c,
                   k0 + panel * nr, c0, depth, matrix, u + panel * nr * depth, taps)


# The loops' bodies, see share.pxd.


cdef void inputs_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Forward*>job).itemsize == sizeof(float):
        transform_inputs(<const Forward*>job, first, last, <float*>NULL)
    else:
        transform_inputs(<const Forward*>job, first, last, <double*>NULL)


cdef void blocks_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Forward*>job).itemsize == sizeof(float):
        convolve_block(<Forward*>job, first, thread, <float*>NULL)
    else:
        convolve_block(<Forward*>job, first, thread, <double*>NULL)


cdef void cut(Forward* job, Py_ssize_t tiles, int threads) noexcept nogil:
    """Rounds and blocks. Those of channels are cut by shape alone; how filters are cut changes no sum."""
    cdef Plan* plan = &job.plan
    cdef Py_ssize_t width = max(WIDTH // job.kern.nr, <Py_ssize_t>1), blocks, round
    round = ROUND_BYTES // (plan.products * plan.c * job.itemsize)
    round = min(max(<Py_ssize_t>ROUND, round), <Py_ssize_t>MOST)
    plan.block = ceil_div(tiles, ceil_div(tiles, round))
    job.depth = plan.c if job.panels is not NULL else ceil_div(plan.c, ceil_div(plan.c, DEPTH))
    job.shares = 1
    blocks = ceil_div(plan.k, width * job.kern.nr)
    if blocks % threads and blocks < BLOCKS * threads:
        job.shares = max(min(<Py_ssize_t>threads, plan.block // SHARED), <Py_ssize_t>1)
        if job.shares == 1:
            width = max(width // 2, <Py_ssize_t>1)
    plan.filters = width * job.kern.nr
    place_products(plan)


cdef int convolve_few(Forward* job) noexcept nogil:
    """Returns -1 when memory is short or interrupted."""
    cdef Plan* plan = &job.plan
    cdef Py_ssize_t tiles = job.tiles, itemsize = job.itemsize
    cdef Py_ssize_t tasks, v_bytes, bytes
    cdef int threads = winograd_threads(plan, tiles)
    cdef char* memory
    cdef void* zeros
    cut(job, tiles, threads)
    tasks = ceil_div(plan.k, plan.filters) * job.shares
    job.v_block = lines_apart(matrix_room(plan, job.depth), itemsize)
    job.room = matrix_room(plan, plan.filters)
    if job.panels is NULL:
        job.room += (fnn_tile_factors(plan.size) ** 2 * matrix_elements(plan.filters, job.depth, itemsize)
                     + 9 * CHANNELS * job.kern.nr)
    job.room = lines_apart(job.room, itemsize)
    v_bytes = ceil_div(plan.c, job.depth) * job.v_block * itemsize
    bytes = v_bytes + min(threads, tasks) * job.room * itemsize
    memory = <char*>take(bytes)
    zeros = calloc(plan.c, itemsize)
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
        share_pieces(threads, blocks_body, job, tasks, 1, &job.watch)
        job.tile0 = job.tile1
    give(memory, bytes)
    free(zeros)
    return -1 if job.watch.interrupted else 0


# --- Images of three channels


cdef bint by_strips(int size, Py_ssize_t channels, Py_ssize_t dilation_h, Py_ssize_t dilation_w) noexcept:
    return size == 6 and channels == FNN_STRIP_CHANNELS and dilation_h == dilation_w == 1


cdef struct Strips:
    Padding pad               # of the images; a padded row is as long as csrc/winograd_strip.h reads it
    fnn_strip strip           # what all share
    const char* x
    Py_ssize_t itemsize, count, p, y_n     # strips and rows of outputs of an image; from image to image
    char* rows                # room for a strip's inputs, of each thread
    Py_ssize_t room


cdef int convolve_strips(const Arrays* arrays, Py_ssize_t pad_h, Py_ssize_t pad_w, bint accumulate,
                         int relu) noexcept:
    """The operands x, panels, y and perhaps bias. Returns -1 when memory is short.

    A row of the image ends where no output reads on: a gradient's may be longer.
    """
    cdef const Py_buffer* x = &arrays.item[0]
    cdef const Py_buffer* y = &arrays.item[2]
    cdef Py_ssize_t size = x.itemsize, runs = ceil_div(y.shape[2], 4 * FNN_STRIP_TILES), bytes
    cdef const fnn_kernels* kern = kernels(size)
    cdef double ns = STRIP_NS * y.len / size
    cdef int threads = team_size(ns)
    cdef Strips job
    job.count, job.p, job.y_n = ceil_div(y.shape[1], STRIP), y.shape[1], y.strides[0]
    job.pad.n, job.pad.h, job.pad.w, job.pad.c = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    job.pad.x_n, job.pad.x_h = x.strides[0] // size, x.strides[1] // size
    job.pad.x_w, job.pad.x_c = x.strides[2] // size, x.strides[3] // size
    job.pad.top, job.pad.left = pad_h, pad_w
    job.pad.padded_h = STRIP * job.count + 2
    job.pad.padded_w = 4 * FNN_STRIP_TILES * runs + ceil_div(FNN_STRIP_BEYOND, FNN_STRIP_CHANNELS)
    job.pad.w = min(job.pad.w, job.pad.padded_w - pad_w)
    job.x, job.itemsize = <const char*>x.buf, size
    job.strip.x_row = job.pad.padded_w * FNN_STRIP_CHANNELS
    job.strip.u, job.strip.factor = arrays.item[1].buf, matrix_elements(y.shape[3], FNN_STRIP_CHANNELS, size)
    job.strip.bias = arrays.item[3].buf if arrays.count == 4 else NULL
    job.strip.y, job.strip.y_row, job.strip.y_pixel = y.buf, y.strides[1] // size, y.strides[2] // size
    job.strip.q, job.strip.filters = y.shape[2], y.shape[3]
    job.strip.accumulate, job.strip.relu = accumulate, relu
    job.strip.past = (not accumulate and kern.lanes * size == CACHE_LINE and y.len >= PAST_BYTES
                      and (<Py_ssize_t>y.buf | y.strides[2] | y.shape[3] * size) % CACHE_LINE == 0)
    job.room = lines_apart(STRIP_INPUTS * job.strip.x_row, size) * size
    bytes = threads * job.room
    job.rows = <char*>take(bytes)
    if job.rows is NULL:
        return -1
    with nogil:
        share_among(threads, strips_body, &job, job.pad.n * job.count, ns)
    give(job.rows, bytes)
    return 0


cdef void strips_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Strips*>job).itemsize == sizeof(float):
        take_strips(<const Strips*>job, first, last, thread, <float*>NULL)
    else:
        take_strips(<const Strips*>job, first, last, thread, <double*>NULL)


cdef void take_strips(const Strips* job, Py_ssize_t first, Py_ssize_t last, int thread,
                      const real* of_dtype) noexcept nogil:
    """The strips first .. last - 1, all images' counted through."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef real* rows = <real*>(job.rows + thread * job.room)
    cdef fnn_strip strip = job.strip
    cdef Py_ssize_t i, n, p, row
    strip.x = rows
    for i in range(first, last):
        n, p = i // job.count, i % job.count * STRIP
        row = n * job.pad.padded_h + p
        pad_rows(<const real*>job.x, &job.pad, row, row + STRIP_INPUTS, rows - row * strip.x_row, NULL)
        strip.y = <char*>job.strip.y + n * job.y_n + p * strip.y_row * <Py_ssize_t>sizeof(real)
        strip.rows = min(<Py_ssize_t>STRIP, job.p - p)
        kern.winograd_strip(&strip)


# --- The interface


def goes_by_strips(int size, Py_ssize_t channels, Py_ssize_t dilation_h, Py_ssize_t dilation_w):
    """Whether tiles of images of so many channels do; if so, the images may have any strides."""
    return by_strips(size, channels, dilation_h, dilation_w)


def forward(x, panels, bias, y, int size, Py_ssize_t pad_h, Py_ssize_t pad_w, Py_ssize_t dilation_h,
            Py_ssize_t dilation_w, int relu, bint accumulate=False):
    """y (N, P, Q, K) = f(filters * x + bias), x (N, H, W, C) with contiguous channels, see goes_by_strips.

    `panels` is what winograd.pack_filters made. y is contiguous, or a range of the channels of what is.
    `bias` may be None. With `accumulate` y already holds numbers, which are added before f.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_floats(&arrays, x)
    acquire_others(&arrays, panels, y, bias)
    status = winograd_forward(&arrays, size, pad_h, pad_w, dilation_h, dilation_w, accumulate, relu)
    finish(status, "conv2d")


def forward_once(x, weight, bias, y, bint transposed, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                 Py_ssize_t dilation_h, Py_ssize_t dilation_w, int relu):
    """Likewise by contiguous filters (K, C, 3, 3), which are transformed as they are read, y contiguous.

    If `transposed` they are (C, K, 3, 3), and each is rotated by 180 degrees: the gradient of an input.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Tiling tiling
    cdef Forward job
    cdef int status = 0
    acquire_floats(&arrays, x)
    acquire_others(&arrays, weight, y, bias)
    describe(&job, &tiling, &arrays, size, pad_h, pad_w, dilation_h, dilation_w, relu)
    job.panels, job.weight, job.transposed, job.accumulate = NULL, arrays.item[1].buf, transposed, False
    if arrays.item[2].len:
        with nogil:
            status = convolve_few(&job)
    finish(status, "conv2d")


cdef void describe(Forward* job, Tiling* tiling, const Arrays* arrays, int size, Py_ssize_t pad_h,
                   Py_ssize_t pad_w, Py_ssize_t dilation_h, Py_ssize_t dilation_w, int relu) noexcept:
    """The operands x, filters, y and perhaps bias, of either dtype."""
    cdef const Py_buffer* x = &arrays.item[0]
    cdef const Py_buffer* y = &arrays.item[2]
    cut_tiles(tiling, size, x.shape, x.strides, x.itemsize, y.shape[1], y.shape[2], pad_h, pad_w, dilation_h,
              dilation_w)
    job.kern, job.tiling, job.itemsize = kernels(x.itemsize), tiling, x.itemsize
    job.tiles = tiling.n * tiling.rows * tiling.columns
    job.plan.size, job.plan.products = size, size * size
    job.plan.c, job.plan.k, job.plan.y_pixel = x.shape[3], y.shape[3], y.strides[2] // y.itemsize
    job.x, job.y, job.relu = x.buf, y.buf, relu
    job.bias = arrays.item[3].buf if arrays.count == 4 else NULL


cdef int winograd_forward(Arrays* arrays, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                          Py_ssize_t dilation_h, Py_ssize_t dilation_w, bint accumulate, int relu) noexcept:
    """The operands x, panels, y and perhaps bias, of either dtype."""
    cdef Tiling tiling
    cdef Forward job
    if arrays.item[2].len == 0:
        return 0
    if by_strips(size, arrays.item[0].shape[3], dilation_h, dilation_w):
        return convolve_strips(arrays, pad_h, pad_w, accumulate, relu)
    describe(&job, &tiling, arrays, size, pad_h, pad_w, dilation_h, dilation_w, relu)
    job.panels, job.accumulate = arrays.item[1].buf, accumulate
    with nogil:
        return convolve_few(&job) if are_few(&job) else convolve_many(&job)


cdef bint are_few(const Forward* job) noexcept nogil:
    """Whether the filters are shared rather than the tiles; the sums are the same.

    Where each thread can have a block of tiles they are, for then it reads what it has transformed itself (49
    or 64 tiles, 256 -> 256 and 512, two threads: .66 to .74 of the time on processors without a cache in
    common, 1.0 to 1.03 on others), but for the widest U, which each would read (512 -> 512 .84 and 1.1).
    """
    cdef Py_ssize_t tiles = job.tiles, pairs = job.plan.c * job.plan.k
    cdef Plan plan
    cdef int threads
    if pairs < WIDE_PAIRS or not FEW_PACKED < tiles <= FEW_WIDE:
        return tiles <= FEW_PACKED
    if pairs >= WIDEST_PAIRS:
        return True
    plan = job.plan
    cut_blocks(job.kern, &plan, tiles, job.itemsize)
    threads = winograd_threads(&plan, tiles)
    return threads == 1 or ceil_div(tiles, plan.block) < threads
