"""Gradient of the filters where pixels are few: it is written as it lies, filter by filter.

    grad_weight[k, (c, tap)] = sum over pixels of grad_y[pixel, k] x[pixel through tap, c]

Rows are filters, columns are (channel, tap) pairs, in the order of the filters in memory, so that nothing
is left to do after the product. conv_gradient.pyx has them the other way about: it reads x where it lies,
and pays with a pass over a gradient in the wrong order, which is most of the work where there are fewer
pixels than filters. Here a block of columns of the im2col matrix is packed, for all filters, a chunk of
pixels at a time::

    for each task (group, block of channels)                     threads share the tasks
        for each chunk of pixels
            pack x as panels of [pixel][NR columns]
            for each MR filters                                  gemm_columns
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastnn._kernels.memory cimport give, take
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, go_on, kernels, like_parts, lines_apart,
    multiply_ns, next_task, real, start, team_for, team_size
)
from fastnn._kernels.transposed cimport column_tiles
from fastnn._kernels.walk cimport Walk, pixel_at, source_rows

cdef enum:
    CHUNK = 384      # pixels of a chunk
    COLUMNS = 288    # of a block, about: with CHUNK 432 KB, in L2


cdef struct Block:
    Py_ssize_t groups, depth, columns   # channels and filters of a group
    Py_ssize_t count, channels          # blocks of a group, channels of a block
    Py_ssize_t pixels                   # of a chunk
    Py_ssize_t run, panel               # elements of a thread's workspaces


cdef void pack_chunk(const fnn_kernels* kern, const Walk* walk, const real* x, const real* zeros,
                     Py_ssize_t m, Py_ssize_t pixels, Py_ssize_t channels,
                     const void** sources, real* run, real* panels) noexcept nogil:
    """Panels [(c, tap) / NR][pixel][NR] of `pixels` pixels from the m-th; x and zeros start at the channels.

    `run` has room for a pixel's [tap][c], then [c][tap].
    """
    cdef Py_ssize_t columns = channels * walk.taps, nr = kern.nr, i, tap, j
    cdef real* turned = run + columns
    for i in range(pixels):
        source_rows(walk, x, zeros, pixel_at(walk, m + i), 1, 1, 0, walk.taps, sources)
        for tap in range(walk.taps):
            memcpy((turned if walk.taps == 1 else run) + tap * channels, sources[tap],
                   channels * sizeof(real))
        if walk.taps > 1:
            kern.transpose(walk.taps, channels, run, channels, turned, walk.taps)
        for j in range(ceil_div(columns, nr)):
            memcpy(panels + (j * pixels + i) * nr, turned + j * nr, min(nr, columns - j * nr) * sizeof(real))


cdef void block_task(const fnn_kernels* kern, const Walk* walk, const Block* block, const real* x,
                     const real* zeros, const real* grad_y, Py_ssize_t y_pixel, Py_ssize_t channels,
                     real* grad_weight, const void** sources, real* run, real* panels,
                     Watch* watch) noexcept nogil:
    """Some channels of all filters of a group; x, grad_y and grad_weight start at the first of them."""
    cdef const void* pixels[CHUNK]
    cdef fnn_tile tile
    cdef Py_ssize_t total = walk.n * walk.p * walk.q, chunk, m, i
    tile.a = pixels
    tile.b, tile.b_step, tile.columns = panels, kern.nr, channels * walk.taps
    tile.next_b = tile.next_step = tile.next_a = 0
    for chunk in range(ceil_div(total, block.pixels)):
        if not go_on(watch):
            return
        m = chunk * block.pixels
        tile.depth = min(block.pixels, total - m)
        tile.b_panel = tile.depth * kern.nr
        tile.accumulate = chunk > 0
        pack_chunk(kern, walk, x, zeros, m, tile.depth, channels, sources, run, panels)
        for i in range(tile.depth):
            pixels[i] = grad_y + (m + i) * y_pixel
        column_tiles(kern, &tile, 0, 0, block.columns, grad_weight, block.depth * walk.taps)


cdef int filter_gradient_by_filters(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t groups,
                                    Py_ssize_t depth, Py_ssize_t columns, real* grad_weight) noexcept nogil:
    """grad_weight [group * columns][depth][taps]. Returns -1 when memory is short or Ctrl-C was pressed."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t total = walk.n * walk.p * walk.q, blocks, table_size, size
    cdef size_t bytes
    cdef int threads, thread
    cdef Block block
    cdef const void** tables
    cdef real* workspace
    cdef real* zeros = <real*>calloc(depth * groups, sizeof(real))
    cdef fnn_tasks tasks
    cdef Watch watch
    block.groups, block.depth, block.columns = groups, depth, columns
    blocks = min(depth, like_parts(depth * walk.taps, COLUMNS))
    if groups == blocks == 1 < depth and depth * walk.taps >= 4 * kern.nr:
        blocks = 2  # for two threads
    block.channels = ceil_div(depth, blocks)
    block.pixels = min(total, <Py_ssize_t>CHUNK)
    block.run = 2 * block.channels * walk.taps
    block.panel = ceil_div(block.channels * walk.taps, kern.nr) * kern.nr * block.pixels
    block.count = ceil_div(depth, block.channels)
    threads = team_for(groups * block.count,
                       team_size(multiply_ns(<double>total * columns * groups * depth * walk.taps)))
    table_size = lines_apart(walk.taps, sizeof(void*))
    size = lines_apart(block.run + block.panel, sizeof(real))
    tables = <const void**>malloc(threads * table_size * sizeof(void*))
    bytes = threads * size * sizeof(real)
    workspace = <real*>take(bytes)
    if tables is NULL or workspace is NULL or zeros is NULL:
        free(tables)
        give(workspace, bytes)
        free(zeros)
        return -1
    start(&watch)
    deal(&tasks, groups * block.count, threads)
    if threads == 1:
        gradient_share(&tasks, 0, walk, &block, x, zeros, grad_y, grad_weight, tables, workspace, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            gradient_share(&tasks, thread, walk, &block, x, zeros, grad_y, grad_weight,
                           tables + thread * table_size, workspace + thread * size, &watch)
    free(tables)
    give(workspace, bytes)
    free(zeros)
    return -1 if watch.interrupted else 0


cdef void gradient_share(fnn_tasks* tasks, int thread, const Walk* walk, const Block* block, const real* x,
                         const real* zeros, const real* grad_y, real* grad_weight, const void** sources,
                         real* workspace, Watch* watch) noexcept nogil:
    """One thread's share of the groups and their blocks of channels."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t depth = block.depth, columns = block.columns, group, c0
    cdef Py_ssize_t task = next_task(tasks, thread, watch)
    # Columns of the last panel that no channel has are multiplied, too: not by what was there before.
    memset(workspace, 0, block.panel * sizeof(real))
    while task >= 0:
        group, c0 = task // block.count, task % block.count * block.channels
        block_task(kern, walk, block, x + group * depth + c0, zeros, grad_y + group * columns,
                   block.groups * columns, min(block.channels, depth - c0),
                   grad_weight + (group * columns * depth + c0) * walk.taps, sources,
                   workspace + block.panel, workspace, watch)
        task = next_task(tasks, thread, watch)
