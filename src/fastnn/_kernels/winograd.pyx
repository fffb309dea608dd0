"""Convolution with 3 x 3 filters and stride 1 or 2 by Winograd's algorithm.

The image is cut in tiles of 4 x 4 outputs. With stride 1, for a block of T tiles and a block of filters::

    V[36][T][C]   the tiles' inputs, transformed            csrc/winograd.h
    M[36][T][K]   = V[i] U[i], 36 products on the tile      gemm.pyx; U[36] are the transformed filters
    y             the products transformed back, + bias, f

V and M stay in L2, or in L3 where channels are many. The multiplications are a quarter of the direct sum's;
the price is an error of a few 1e-6 of the largest output in float32 where the direct sum has 1e-6, for sums
and differences of inputs weighted by up to 5 come before the products.

U is four times the filters, and where tiles are few reading it is the cost. Tiles of 2 x 2 outputs have 16
products: U is less than twice the filters, the multiplications 4 / 9 of the direct sum's.

Here are the tiles, the filters, and the loop over many tiles, of which a task takes some and all filters;
winograd_forward.pyx is the interface and has few tiles.

With stride 2 a tile of 4 x 4 outputs has 81 products, one of 2 x 2 has 25: .56 and .69 of the direct sum's
multiplications. Those that share a factor are one product of more rows, so that U is as large as with
stride 1. (On Zen 3, 256 -> 512 at 14 x 14, 81 products one by one 2370 us, 36 so 1800.)

With dilation d outputs that are d apart are a convolution by themselves, so a tile has outputs, and inputs,
that are d apart.

`size` says which tiles are meant, by their inputs along each axis: 6 (4 x 4 outputs) or 4 (2 x 2) with
stride 1, 9 (4 x 4) or 5 (2 x 2) with stride 2.
"""

from libc.stdlib cimport calloc, free, malloc

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport multiply_task
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack, panel_elements
from fastnn._kernels.runtime cimport (
    Watch, balanced, ceil_div, fetch, fnn_kernels, fnn_tile_factors, fnn_tile_outputs, go_on, kernels,
    lines_apart, multiply_ns, real, start, team_size
)
from fastnn._kernels.share cimport share_among, share_pieces
from fastnn._kernels.walk cimport Pixel

cdef enum:
    LINE = 16                # numbers between one matrix and the next: a cache line of float32
    L2_BYTES = 768 * 1024    # for V and M of one task, but ...
    LEAST_TILES = 28         # ... of a block, so that U is not read too often, even if they leave L2


cdef void cut_tiles(Tiling* tiling, int size, const Py_ssize_t* shape, const Py_ssize_t* strides,
                    Py_ssize_t itemsize, Py_ssize_t p, Py_ssize_t q, Py_ssize_t pad_h, Py_ssize_t pad_w,
                    Py_ssize_t dilation_h, Py_ssize_t dilation_w) noexcept nogil:
    """The tiles of x (N, H, W, C), of whose `shape` and `strides`, in bytes, and of p x q outputs."""
    tiling.size, tiling.outputs, tiling.stride = size, fnn_tile_outputs(size), 2 if size % 2 else 1
    tiling.dilation_h, tiling.dilation_w = dilation_h, dilation_w
    tiling.n, tiling.p, tiling.q = shape[0], p, q
    tiling.rows = tiles_along(p, dilation_h, tiling.outputs)
    tiling.columns = tiles_along(q, dilation_w, tiling.outputs)
    tiling.h, tiling.w, tiling.pad_h, tiling.pad_w = shape[1], shape[2], pad_h, pad_w
    tiling.x_n, tiling.x_h = strides[0] // itemsize, strides[1] // itemsize
    tiling.x_w = strides[2] // itemsize


cdef Py_ssize_t tiles_along(Py_ssize_t outputs, Py_ssize_t dilation, Py_ssize_t side) noexcept nogil:
    """How many tiles of `side` outputs: those that are `dilation` apart have tiles of their own."""
    return min(outputs, dilation) * ceil_div(ceil_div(outputs, dilation), side)


cdef Py_ssize_t output_at(Py_ssize_t tile, Py_ssize_t outputs, Py_ssize_t dilation,
                          Py_ssize_t side) noexcept nogil:
    """Where a tile begins along an axis."""
    cdef Py_ssize_t apart = min(outputs, dilation)
    return tile // apart * side * dilation + tile % apart


cdef Pixel first_output(const Tiling* tiling, Py_ssize_t tile) noexcept nogil:
    """Where a tile begins, images counted through."""
    cdef Pixel pixel
    pixel.n = tile // (tiling.rows * tiling.columns)
    pixel.p = output_at(tile // tiling.columns % tiling.rows, tiling.p, tiling.dilation_h, tiling.outputs)
    pixel.q = output_at(tile % tiling.columns, tiling.q, tiling.dilation_w, tiling.outputs)
    return pixel


cdef Py_ssize_t inputs_read(Py_ssize_t first, Py_ssize_t outputs, Py_ssize_t dilation, Py_ssize_t side,
                            Py_ssize_t stride) noexcept nogil:
    """How many of its inputs along an axis the outputs of a tile read that begins at `first`.

    Of the last tiles some outputs are outside the image, or all.
    """
    cdef Py_ssize_t inside = min(side, ceil_div(outputs - first, dilation))
    return (inside - 1) * stride + 3 if first < outputs else 0


cdef void tile_sources(const Tiling* tiling, const real* x, const real* zeros, Pixel first,
                       const void** sources) noexcept nogil:
    """The inputs of the tile that begins at `first`, `zeros` where these lie outside the image.

    And where no output reads them: a gradient takes such an input zero times, which a NaN survives.
    """
    cdef Py_ssize_t rows = inputs_read(first.p, tiling.p, tiling.dilation_h, tiling.outputs, tiling.stride)
    cdef Py_ssize_t columns = inputs_read(first.q, tiling.q, tiling.dilation_w, tiling.outputs, tiling.stride)
    cdef Py_ssize_t i, j, h, w
    for i in range(tiling.size):
        h = first.p * tiling.stride + i * tiling.dilation_h - tiling.pad_h
        for j in range(tiling.size):
            w = first.q * tiling.stride + j * tiling.dilation_w - tiling.pad_w
            sources[i * tiling.size + j] = zeros
            if i < rows and j < columns and 0 <= h < tiling.h and 0 <= w < tiling.w:
                sources[i * tiling.size + j] = x + first.n * tiling.x_n + h * tiling.x_h + w * tiling.x_w


cdef void fetch_sources(const Tiling* tiling, const void** sources, Py_ssize_t bytes) noexcept nogil:
    """Fetch what a tile reads, but the pixels that the one beside it, the tile before, reads as well.

    The lines of large images, which are in memory, are too far apart for a processor to foresee: 16 x 64 x
    56 x 56, 64 filters, forward .95 of the time, the gradient of the filters, which reads two, .77.
    """
    cdef Py_ssize_t i, j
    for i in range(tiling.size):
        for j in range(tiling.size - tiling.outputs * tiling.stride, tiling.size):
            fetch(sources[i * tiling.size + j], bytes)


cdef void fetch_pixels(const Tiling* tiling, const void** pixels, Py_ssize_t bytes) noexcept nogil:
    """Likewise a tile's outputs, or their gradients (written forward .92 of the time)."""
    cdef Py_ssize_t i
    for i in range(tiling.outputs * tiling.outputs):
        if pixels[i] is not NULL:
            fetch(pixels[i], bytes)


cdef void tile_pixels(const Tiling* tiling, const real* y, Py_ssize_t y_pixel, Pixel first,
                      const void** pixels) noexcept nogil:
    """The output pixels of the tile that begins at `first`, NULL where outside the image."""
    cdef Py_ssize_t i, j, p, q
    for i in range(tiling.outputs):
        for j in range(tiling.outputs):
            p, q = first.p + i * tiling.dilation_h, first.q + j * tiling.dilation_w
            pixels[i * tiling.outputs + j] = (y + ((first.n * tiling.p + p) * tiling.q + q) * y_pixel
                                              if p < tiling.p and q < tiling.q else NULL)


cdef void cut_blocks(const fnn_kernels* kern, Plan* plan, Py_ssize_t tiles,
                     Py_ssize_t itemsize) noexcept nogil:
    """Blocks of many tiles, by shape alone: V and M of a block fit L2; at least two."""
    cdef Py_ssize_t per_tile
    plan.filters = min(plan.k, max(128 // kern.nr, <Py_ssize_t>1) * kern.nr)
    per_tile = plan.products * (plan.c + plan.filters) * itemsize
    plan.block = max(ceil_div(LEAST_TILES, kern.mr), min(8, L2_BYTES // per_tile // kern.mr)) * kern.mr
    plan.block = balanced(tiles, min(plan.block, ceil_div(tiles, 2)), 1)
    place_products(plan)


cdef int winograd_threads(const Plan* plan, Py_ssize_t tiles) noexcept nogil:
    """How many threads so many tiles are worth."""
    return team_size(multiply_ns(<double>plan.products * tiles * plan.c * plan.k))


cdef void place_products(Plan* plan) noexcept nogil:
    """Lay out V and M."""
    cdef int side = fnn_tile_factors(plan.size), a, b, down, across, i, j, product
    cdef Py_ssize_t before = 0
    for a in range(side):
        for b in range(side):
            down, across = products_of(a, plan.size), products_of(b, plan.size)
            for i in range(down):
                for j in range(across):
                    product = (a + i) * plan.size + b + j
                    plan.factor[product] = a * side + b
                    plan.rows[product] = down * across
                    plan.row[product] = before + i * across + j
            before += plan.block * down * across


cdef Py_ssize_t matrix_room(const Plan* plan, Py_ssize_t width) noexcept nogil:
    """Elements of V or M, with rows of `width`."""
    return plan.products * plan.block * width + fnn_tile_factors(plan.size) ** 2 * LINE


cdef real* product_row(const Plan* plan, real* matrix, Py_ssize_t width, Py_ssize_t tile,
                       int product) noexcept nogil:
    """Where a product of a tile of the block lies in V or M.

    Those of different factors are a line apart, lest the stores of a tile fall into one cache set.
    """
    return (matrix + (plan.row[product] + tile * plan.rows[product]) * width
            + plan.factor[product] * LINE)


cdef void block_task(Forward* job, Py_ssize_t tile0, Py_ssize_t tile1, Py_ssize_t k0, Py_ssize_t k1, real* v,
                     real* m) noexcept nogil:
    """The tiles tile0..tile1 and filters k0..k1; V is made for the first filters."""
    cdef const Plan* plan = &job.plan
    cdef const void* sources[2][MOST_PRODUCTS]
    cdef void* products[MOST_PRODUCTS]
    cdef const real* x = <const real*>job.x
    cdef const real* zeros = <const real*>job.zeros
    cdef Py_ssize_t t, tiles = tile1 - tile0
    cdef int i, now
    if k0 == 0:
        tile_sources(job.tiling, x, zeros, first_output(job.tiling, tile0), sources[0])
        for t in range(tiles):
            now = t % 2
            if t + 1 < tiles:
                tile_sources(job.tiling, x, zeros, first_output(job.tiling, tile0 + t + 1), sources[1 - now])
                fetch_sources(job.tiling, sources[1 - now], plan.c * sizeof(real))
            for i in range(plan.products):
                products[i] = product_row(plan, v, plan.c, t, i)
            job.kern.winograd_input(plan.size, sources[now], plan.c, products)
    if multiply_tiles(job.kern, plan, v, 0, tiles, plan.c, <const real*>job.panels + k0 * plan.c,
                      matrix_elements(plan.k, plan.c, sizeof(real)), k1 - k0, False, m, &job.watch):
        transform_outputs(job, m, tile0, tile1, k0, k1)


cdef bint multiply_tiles(const fnn_kernels* kern, const Plan* plan, real* v, Py_ssize_t begin, Py_ssize_t end,
                         Py_ssize_t depth, const real* u, Py_ssize_t matrix, Py_ssize_t width,
                         bint accumulate, real* m, Watch* watch) noexcept nogil:
    """M = or += V U, of the tiles begin..end of V; whether it was not interrupted.

    V and U are of `depth` channels, U and M of `width` filters; M begins with the first of these tiles, and
    from one matrix of U to the next it is `matrix`.
    """
    cdef int side = fnn_tile_factors(plan.size), i, product
    for i in range(side * side):
        if not go_on(watch):
            return False
        product = i // side * plan.size + i % side
        multiply_task(kern, product_row(plan, v, depth, begin, product), depth, u + i * matrix,
                      <const real*>NULL, product_row(plan, m, width, 0, product), width, 0,
                      (end - begin) * plan.rows[product], 0, width, depth, accumulate, False,
                      matrix if i + 1 < side * side else 0)
    return True


cdef void transform_outputs(const Forward* job, real* m, Py_ssize_t tile0, Py_ssize_t tile1, Py_ssize_t k0,
                            Py_ssize_t k1) noexcept nogil:
    """The outputs of the tiles tile0..tile1 and filters k0..k1 from M, which has these alone."""
    cdef const Plan* plan = &job.plan
    cdef const real* bias = NULL if job.bias is NULL else <const real*>job.bias + k0
    cdef const real* y = <const real*>job.y + k0
    cdef void* products[MOST_PRODUCTS]
    cdef void* targets[2][MOST_OUTPUTS]
    cdef Py_ssize_t t
    cdef int i, now
    tile_pixels(job.tiling, y, plan.y_pixel, first_output(job.tiling, tile0), <const void**>targets[0])
    for t in range(tile1 - tile0):
        now = t % 2
        if tile0 + t + 1 < tile1:
            tile_pixels(job.tiling, y, plan.y_pixel, first_output(job.tiling, tile0 + t + 1),
                        <const void**>targets[1 - now])
            fetch_pixels(job.tiling, <const void**>targets[1 - now], (k1 - k0) * sizeof(real))
        for i in range(plan.products):
            products[i] = product_row(plan, m, k1 - k0, t, i)
        job.kern.winograd_output(plan.size, <const void**>products, k1 - k0, bias, job.accumulate, job.relu,
                                 targets[now])


cdef void take_tiles(Forward* job, Py_ssize_t task, int thread, const real* of_dtype) noexcept nogil:
    """The tiles of one task: their inputs are transformed once for all blocks of filters."""
    cdef const Plan* plan = &job.plan
    cdef real* v = <real*>job.workspace + thread * job.room
    cdef Py_ssize_t tile0 = task * plan.block, tile1 = min(job.tiles, tile0 + plan.block), block, k
    for block in range(ceil_div(plan.k, plan.filters)):
        k = block * plan.filters
        block_task(job, tile0, tile1, k, min(plan.k, k + plan.filters), v, v + matrix_room(plan, plan.c))


cdef void tiles_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Forward*>job).itemsize == sizeof(float):
        take_tiles(<Forward*>job, first, thread, <float*>NULL)
    else:
        take_tiles(<Forward*>job, first, thread, <double*>NULL)


cdef int convolve_many(Forward* job) noexcept nogil:
    """A task takes some tiles and all filters. Returns -1 when memory is short or interrupted."""
    cdef Plan* plan = &job.plan
    cdef int threads = winograd_threads(plan, job.tiles)
    cdef void* zeros = calloc(plan.c, job.itemsize)
    cdef size_t bytes
    cut_blocks(job.kern, plan, job.tiles, job.itemsize)
    job.room = lines_apart(matrix_room(plan, plan.c) + matrix_room(plan, plan.filters), job.itemsize)
    bytes = threads * job.room * job.itemsize
    job.workspace = take(bytes)
    job.zeros = zeros
    if job.workspace is NULL or zeros is NULL:
        give(job.workspace, bytes)
        free(zeros)
        return -1
    start(&job.watch)
    share_pieces(threads, tiles_body, job, ceil_div(job.tiles, plan.block), 1, &job.watch)
    give(job.workspace, bytes)
    free(zeros)
    return -1 if job.watch.interrupted else 0


# --- Filters


cdef Py_ssize_t matrix_elements(Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """From one of the packed matrices to the next: a line more than its panels, see product_row."""
    return panel_elements(filters, channels, itemsize) + LINE


def packed_size(int size, Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t itemsize):
    """Elements of the packed transformed filters."""
    return fnn_tile_factors(size) ** 2 * matrix_elements(filters, channels, itemsize)


cdef void pack_panel(const fnn_kernels* kern, int size, const real* weight, bint transposed,
                     Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t k0, Py_ssize_t c0, Py_ssize_t depth,
                     Py_ssize_t matrix, real* panel, real* taps) noexcept nogil:
    """The panel of each of the matrices that begins with filter k0: [channel][nr], `depth` from c0 on.

    `weight` has so many filters and channels in all, see pack_filters; `taps` is room for [9][CHANNELS][nr].
    """
    cdef Py_ssize_t k_stride = 9 if transposed else 9 * channels
    cdef Py_ssize_t c_stride = 9 * filters if transposed else 9
    cdef Py_ssize_t places[9]
    cdef Py_ssize_t i, block, c, count
    for i in range(9):
        places[i] = 8 - i if transposed else i
    weight += k0 * k_stride + c0 * c_stride
    for block in range(ceil_div(depth, CHANNELS)):
        c = block * CHANNELS
        count = min(<Py_ssize_t>CHANNELS, depth - c)
        pack(weight + c * c_stride, places, 9, count, c_stride, min(kern.nr, filters - k0), k_stride, taps)
        kern.winograd_filter(size, taps, count * kern.nr, count * kern.nr, panel + c * kern.nr, matrix)


cdef struct Filters:
    # All filters to transform, a task for each panel of them. The arrays hold the dtype of the data.
    const fnn_kernels* kern
    Py_ssize_t itemsize
    int size
    bint transposed
    const void* weight
    Py_ssize_t k, c
    char* panels
    char* taps           # room of each thread, and its bytes
    Py_ssize_t room


cdef void pack_body(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    if (<const Filters*>job).itemsize == sizeof(float):
        pack_panels_of(<const Filters*>job, first, last, thread, <float*>NULL)
    else:
        pack_panels_of(<const Filters*>job, first, last, thread, <double*>NULL)


cdef void pack_panels_of(const Filters* f, Py_ssize_t first, Py_ssize_t last, int thread,
                         const real* of_dtype) noexcept nogil:
    cdef Py_ssize_t nr = f.kern.nr, panel
    for panel in range(first, last):
        pack_panel(f.kern, f.size, <const real*>f.weight, f.transposed, f.k, f.c, panel * nr, 0, f.c,
                   matrix_elements(f.k, f.c, sizeof(real)), <real*>f.panels + panel * nr * f.c,
                   <real*>(f.taps + thread * f.room))


def pack_filters(int size, weight, bint transposed, panels):
    """Transform and pack (K, C, 3, 3), contiguous; `panels` holds packed_size numbers.

    `transposed`, as the gradient of the input reads them: filters and channels exchanged, each filter
    rotated by 180 degrees.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_all(&arrays, (weight,), (panels,))
    status = pack_all(&arrays, size, transposed)
    finish(status, "conv2d")


cdef int pack_all(const Arrays* arrays, int size, bint transposed) noexcept:
    """The operands weight and panels, of either dtype. Returns -1 when memory is short."""
    cdef const Py_buffer* weight = &arrays.item[0]
    cdef Filters f
    cdef double ns
    cdef int threads
    f.itemsize, f.kern, f.size, f.transposed = weight.itemsize, kernels(weight.itemsize), size, transposed
    f.k, f.c = weight.shape[1 if transposed else 0], weight.shape[0 if transposed else 1]
    f.weight, f.panels = weight.buf, <char*>arrays.item[1].buf
    ns = 8.0 * f.k * f.c
    threads = team_size(ns)
    f.room = lines_apart(9 * CHANNELS * f.kern.nr, f.itemsize) * f.itemsize
    f.taps = <char*>malloc(threads * f.room)
    if f.taps is NULL:
        return -1
    with nogil:
        share_among(threads, pack_body, &f, ceil_div(f.k, f.kern.nr), ns)
    free(f.taps)
    return 0
