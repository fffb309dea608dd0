"""Gradient of the filters: a matrix product transposed, whose sum runs over pixels.

Rows are (tap, channel), columns are filters: grad[tap, c, k] = sum over pixels of x[pixel through tap, c]
grad_y[pixel, k]. A table of a chunk's pixels gives the rows of x: one for all taps, or where some read
padding one for each (which took a fifth of the time where channels are few, and copied with their padding).
Where the gradient is too small to be shared among threads, the pixels are cut in slices, whose partial
gradients are added in order; the cut depends on the shapes alone.
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free

from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport finish_gradients, pack, panel_elements
from fastnn._kernels.runtime cimport (
    CACHE_LINE, Watch, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, go_on, kernels, like_parts,
    lines_apart, multiply_ns, next_task, odd_lines, real, start, team_for, team_size
)
from fastnn._kernels.transposed cimport columns_in_place, copy_columns, fetch_rows, tiles_in_place
from fastnn._kernels.walk cimport Walk, interior_rows, pixel_at, source_rows

cdef enum:
    GRADIENT_PIXELS = 256   # pixels of a chunk: its panel of 32 filters, 32 KB, stays in L2


cdef struct Slices:
    Py_ssize_t count       # slices of the pixels, each with a partial gradient of its own
    Py_ssize_t pixels      # pixels in a slice
    Py_ssize_t parts       # parts of the (tap, channel) rows


cdef Slices gradient_slices(const fnn_kernels* kern, Py_ssize_t pixels, Py_ssize_t taps, Py_ssize_t depth,
                            Py_ssize_t columns) noexcept nogil:
    """How the work is shared: by pixels where the gradient is small, by its rows where it is large.

    The slices are alike, and an even number: with slices of 512 and 272 pixels two threads took 1.3 times as
    long (AVX2, 64 -> 128, 1 x 1 with stride 2 at 56 x 56, now 127 us).
    """
    cdef Slices cut
    cdef Py_ssize_t row_tiles = taps * ceil_div(depth, kern.mr)
    cut.count = 1
    if taps * depth * columns < 256 * 1024:
        cut.count = min(<Py_ssize_t>8, like_parts(pixels, GRADIENT_PIXELS))
    cut.pixels = max(ceil_div(pixels, cut.count), <Py_ssize_t>1)
    cut.count = max(ceil_div(pixels, cut.pixels), <Py_ssize_t>1)
    cut.parts = max(<Py_ssize_t>1, min(8 // cut.count, row_tiles // 8))
    return cut


cdef struct Gradient:
    # What all tasks share; zeros hold the dtype of x and grad_y.
    const fnn_kernels* kern
    const Walk* walk
    const void* zeros            # where pixels read padding
    Py_ssize_t groups, depth, columns
    Py_ssize_t pixels, row_tiles
    Py_ssize_t pitch             # from pixel to pixel of a copy; 0 for none
    Slices cut


cdef void gradient_task(const Gradient* g, Py_ssize_t task, const real* x, const real* grad_y, real* sums,
                        real* panels, Watch* watch) noexcept nogil:
    """sums[tap, channel, filter] of one group over a slice of the pixels, for a part of the row tiles."""
    cdef const fnn_kernels* kern = g.kern
    cdef const Walk* walk = g.walk
    cdef Py_ssize_t depth = g.depth, columns = g.columns, y_pixel = g.groups * columns, parts = g.cut.parts
    cdef Py_ssize_t group = task // (g.cut.count * parts), slice = task // parts % g.cut.count
    cdef Py_ssize_t tile0 = task % parts * g.row_tiles // parts
    cdef Py_ssize_t tile1 = (task % parts + 1) * g.row_tiles // parts
    cdef Py_ssize_t m0 = slice * g.cut.pixels, m1 = min(g.pixels, m0 + g.cut.pixels)
    cdef const void* sources[GRADIENT_PIXELS]
    cdef fnn_tile tile
    cdef Py_ssize_t tiles_per_tap = ceil_div(depth, kern.mr)
    cdef Py_ssize_t chunks = ceil_div(m1 - m0, GRADIENT_PIXELS), length = ceil_div(m1 - m0, max(chunks, 1))
    cdef Py_ssize_t chunk, m, tap, c0, c1, offset, zero = 0
    cdef Py_ssize_t in_place = columns_in_place(kern, (tile1 - tile0) * kern.mr, columns, y_pixel,
                                                sizeof(real))
    cdef real* copy = panels + panel_elements(columns, GRADIENT_PIXELS, sizeof(real))
    cdef const real* b
    cdef bint inside
    sums += task // parts * walk.taps * depth * columns
    tile.a, tile.next_a = sources, 0
    for chunk in range(chunks):
        if not go_on(watch):
            return
        m = m0 + chunk * length
        tile.depth = min(length, m1 - m)
        tile.accumulate = chunk > 0
        b = grad_y + m * y_pixel + group * columns
        pack(b + in_place, NULL, 1, tile.depth, y_pixel, columns - in_place, 1, panels)
        fetch_rows(kern, &tile, y_pixel, in_place, tile1 - tile0, g.pixels * y_pixel * sizeof(real))
        inside = not g.pitch and interior_rows(walk, x, pixel_at(walk, m), <int>tile.depth, sources)
        for tap in range(tile0 // tiles_per_tap, ceil_div(tile1, tiles_per_tap)):
            c0 = max(tile0 - tap * tiles_per_tap, zero) * kern.mr
            c1 = min((tile1 - tap * tiles_per_tap) * kern.mr, depth)
            offset = group * depth
            if inside:
                offset += walk.tap_offset[tap]
            else:
                source_rows(walk, x, <const real*>g.zeros, pixel_at(walk, m), <int>tile.depth, 0, tap,
                            tap + 1, sources)
            if g.pitch:
                copy_columns(sources, tile.depth, offset + c0, c1 - c0, copy, g.pitch)
                offset = -c0
            tiles_in_place(kern, &tile, b, y_pixel, in_place, panels, columns, offset, c0, c1,
                           sums + tap * depth * columns, columns)


cdef void gradient_share(const Gradient* g, fnn_tasks* tasks, int thread, const real* x, const real* grad_y,
                         real* sums, real* panels, Watch* watch) noexcept nogil:
    """One thread's share."""
    cdef Py_ssize_t task = next_task(tasks, thread, watch)
    while task >= 0:
        gradient_task(g, task, x, grad_y, sums, panels, watch)
        task = next_task(tasks, thread, watch)


cdef Py_ssize_t pitch_of_pixels(const fnn_kernels* kern, const Walk* walk, Py_ssize_t depth,
                                Py_ssize_t columns, Py_ssize_t itemsize) noexcept nogil:
    """From one copied pixel to the next, an odd number of lines; or 0 where pixels are read where they are.

    A product reads a few channels of all pixels of a chunk. Where these are a multiple of 8 lines apart, they
    fall into an eighth of the sets of L1, which holds 64 of them or fewer, and each panel of filters reads
    them from L2 again (Zen 3, 8 images of 28 x 28, 128 -> 256 with stride 2: 18.9 ms, copied 13.2).
    """
    cdef Py_ssize_t step = walk.x_w * walk.stride_w * itemsize
    if step % (8 * CACHE_LINE) or columns <= 2 * kern.nr or walk.n * walk.p * walk.q <= 64:
        return 0
    return odd_lines(depth, itemsize)


cdef int weight_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t groups,
                         Py_ssize_t depth, Py_ssize_t columns, real* grad_weight) noexcept nogil:
    """grad_weight [group * columns][depth][taps] = sum over pixels of grad_y x.

    Returns -1 when memory is short or the call was interrupted.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t rows = walk.taps * depth, panel_size, count
    cdef int threads, thread
    cdef Gradient g
    cdef fnn_tasks tasks
    cdef Watch watch
    cdef real* panels
    cdef real* sums
    cdef void* zeros
    cdef size_t panels_size, sums_size
    g.kern, g.walk, g.groups, g.depth, g.columns = kern, walk, groups, depth, columns
    g.pixels, g.row_tiles = walk.n * walk.p * walk.q, walk.taps * ceil_div(depth, kern.mr)
    g.pitch = pitch_of_pixels(kern, walk, depth, columns, sizeof(real))
    g.cut = gradient_slices(kern, g.pixels, walk.taps, depth, columns)
    count = groups * g.cut.count * g.cut.parts
    threads = team_for(count, team_size(multiply_ns(<double>g.pixels * columns * groups * rows)))
    panel_size = lines_apart(
        panel_elements(columns, GRADIENT_PIXELS, sizeof(real)) + GRADIENT_PIXELS * g.pitch, sizeof(real))
    panels_size = threads * panel_size * sizeof(real)
    panels = <real*>take(panels_size)
    sums_size = groups * g.cut.count * rows * columns * sizeof(real)
    sums = <real*>take(sums_size)
    zeros = calloc(depth * groups + 1, sizeof(real))
    g.zeros = zeros
    if panels is NULL or sums is NULL or zeros is NULL:
        give(panels, panels_size)
        give(sums, sums_size)
        free(zeros)
        return -1
    start(&watch)
    deal(&tasks, count, threads)
    if threads == 1:
        gradient_share(&g, &tasks, 0, x, grad_y, sums, panels, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            gradient_share(&g, &tasks, thread, x, grad_y, sums, panels + thread * panel_size, &watch)
    finish_gradients(sums, g.cut.count, walk.taps, depth, columns, groups, grad_weight, threads, &watch)
    give(panels, panels_size)
    give(sums, sums_size)
    free(zeros)
    return -1 if watch.interrupted else 0
