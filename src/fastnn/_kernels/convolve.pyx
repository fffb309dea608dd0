"""Convolution as an implicit matrix product: rows are grid pixels, columns are filters.

Under the register tile lie MR pixels at once; for every tap of the filter a table says where each pixel's
channels start (walk.pyx), so stride, padding and dilation cost nothing inside the tile and no im2col buffer
exists. It serves several groups, whose sums are short (AVX2, 512 channels in 32 groups, 14 x 14: 606 -> 470
us). Where the pixels of a 1 x 1 filter lie evenly and its sums are short, there is no table either
(csrc/even_tile.h). Filters are packed as [group][panel of NR filters][tap][channel][NR].

The same drivers serve the forward pass, where the walk goes over the input, and the gradient of the input,
where it goes over grad_y. The blocks are those of gemm.pyx.
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from fastnn._kernels.gemm cimport (
    A_COPY, BEYOND_L2_BYTES, KC, MAX_MR, MC, NC, PITCH, even_tiles, fetch_ahead, is_short, next_rows,
    rows_collide
)
from fastnn._kernels.pack cimport panel_elements
from fastnn._kernels.rows cimport tiles_go_past
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, kernels, like_parts, lines_apart, multiply_ns,
    next_task, real, start, team_for, team_size
)
from fastnn._kernels.walk cimport Pixel, Walk, interior_rows, pixel_at, source_rows, target_rows


# Where a group's pixels are one task or a few, its filters are cut so that there are so many in all, an even
# number for two threads, but not more: each reads the pixels anew. AVX2, 40 tasks, then 8: 320 -> 1280 1 x 1,
# 7 x 7 429 -> 414 us; 8, then 4, two threads: ResNet-50's of 14 x 14 and 7 x 7 1.04 to 1.1 times as fast.
cdef enum:
    FEW_TASKS = 4

cdef enum:
    FEW_FILTERS = 128        # filters of a task that has all pixels: its block of them and the next fit L2
    GROUPS_BYTES = 192 * 1024  # of the filters of groups whose pixels are found but once, in L2 ...
    GROUP_TASKS = 8          # ... but so many tasks at least, for several threads


# Groups of one task, and elements of x, y and the filters from one to the next.
cdef struct Groups:
    Py_ssize_t count, depth, columns, panels


cdef void at_group(fnn_tile* tile, const fnn_tile* first, const Groups* groups, Py_ssize_t group,
                   const real* of_dtype) noexcept nogil:
    """The same of another group."""
    tile.a_offset = first.a_offset + group * groups.depth
    tile.c_offset = first.c_offset + group * groups.columns
    tile.b = <const real*>first.b + group * groups.panels
    tile.bias = NULL if first.bias is NULL else <const real*>first.bias + group * groups.columns


cdef void tiles(const Convolution* c, fnn_tile* tile, const real* x, real* y, Py_ssize_t tap0,
                Py_ssize_t tap1, Py_ssize_t m0, Py_ssize_t m1, Py_ssize_t following, const Groups* groups,
                const void** table) noexcept nogil:
    """The grid pixels m0..m1, with the taps tap0..tap1 as the reduction; `tile` is of the first group."""
    cdef const Walk* walk = c.walk
    cdef fnn_tile of_group = tile[0]
    cdef Py_ssize_t group
    cdef bint even = even_pixels(walk)
    cdef bint far = (even and groups.depth == walk.x_w
                     and walk.n * walk.x_n * <Py_ssize_t>sizeof(real) > BEYOND_L2_BYTES)
    if even and is_short(c.kern, m1 - m0, tile.columns, tile.depth, walk.x_w * sizeof(real)):
        for group in range(groups.count):
            at_group(&of_group, tile, groups, group, x)
            even_tiles(c.kern, &of_group, x + m0 * walk.x_w, walk.x_w, y + walk.y_start + m0 * walk.y_q,
                       walk.y_q, m1 - m0, far, c.past)
    else:
        tile.next_a = next_rows(c.kern, walk.x_w) if far else 0
        table_tiles(c, tile, x, y, tap0, tap1, m0, m1, following, groups, table)


cdef bint even_pixels(const Walk* walk) noexcept nogil:
    """Whether all pixels lie evenly, where they are read through one tap and where they are written."""
    return (walk.taps == 1 and walk.tap_h[0] == walk.tap_w[0] == 0 and walk.stride_h == walk.stride_w == 1
            and walk.h == walk.p and walk.w == walk.q
            and walk.x_h == walk.w * walk.x_w and walk.x_n == walk.h * walk.x_h
            and walk.y_p == walk.q * walk.y_q and walk.y_n == walk.p * walk.y_p)


cdef void table_tiles(const Convolution* c, fnn_tile* tile, const real* x, real* y, Py_ssize_t tap0,
                      Py_ssize_t tap1, Py_ssize_t m0, Py_ssize_t m1, Py_ssize_t following,
                      const Groups* groups, const void** table) noexcept nogil:
    """`tiles` wherever pixels lie, a register tile of them at a time through a table of rows."""
    cdef const fnn_kernels* kern = c.kern
    cdef const Walk* walk = c.walk
    cdef void* targets[MAX_MR]
    cdef const void* b = tile.b
    cdef fnn_tile of_group
    cdef Py_ssize_t first, last, group, left = m1 - m0
    cdef Py_ssize_t skipped, step = 0, steps = ceil_div(left, kern.mr)
    cdef Pixel pixel = pixel_at(walk, m0), after
    cdef bint copied = rows_collide(left, walk.stride_w * walk.x_w * sizeof(real), tile.columns,
                                    kern)
    tile.a = table
    tile.c = targets
    while left:
        tile.rows = tile_height(walk, kern, pixel, left)
        left -= tile.rows
        after = pixel
        target_rows(walk, y, &after, tile.rows, targets)
        first, last = tap0, tap1
        if interior_rows(walk, x, pixel, tile.rows, table):
            tile.tap_offset = walk.tap_offset + tap0
        else:
            live_taps(walk, pixel, after, &first, &last)
            source_rows(walk, x, <const real*>c.zeros, pixel, tile.rows, kern.mr, first, last, table)
            tile.tap_offset = NULL
        tile.taps = last - first
        skipped = (first - tap0) * tile.depth * kern.nr
        tile.b = <const real*>b + skipped
        fetch_ahead(kern, tile, following - skipped if following else 0, (tap1 - tap0) * tile.depth, step,
                    steps)
        step += 1
        pixel = after
        of_group = tile[0]
        for group in range(groups.count):
            at_group(&of_group, tile, groups, group, x)
            if copied:
                copied_tile(kern, &of_group, <real*>NULL)
            else:
                kern.gemm_rows(&of_group)


cdef int tile_height(const Walk* walk, const fnn_kernels* kern, Pixel pixel, Py_ssize_t left) noexcept nogil:
    """How many of the pixels left, from `pixel` on, to compute at once: like tiles, the fewest there can be.

    But a first row of outputs that nearly fills a tile is one by itself, for it leaves out the taps above the
    image: 256 -> 512 filters of 3 x 3 with stride 2, 7 x 7 outputs: 112 -> 116 GFLOP/s.
    """
    if pixel.q == 0 and pixel.p < walk.p0 and walk.q <= kern.mr <= 2 * walk.q and walk.q < left:
        return <int>walk.q
    return <int>ceil_div(left, ceil_div(left, kern.mr))


cdef void live_taps(const Walk* walk, Pixel pixel, Pixel after, Py_ssize_t* first,
                    Py_ssize_t* last) noexcept nogil:
    """Leave out taps at the ends of first..last through which the pixels up to `after` read padding alone.

    So does the row of a filter above the image's top row: a third of a 3 x 3 filter at one row in 14.
    """
    cdef Py_ssize_t bottom = after.p if after.q else after.p - 1  # the row of the last pixel
    if after.n == pixel.n + 1 and after.p == after.q == 0:
        bottom = walk.p - 1
    elif after.n != pixel.n:
        return
    while first[0] < last[0] and bottom * walk.stride_h + walk.tap_h[first[0]] < 0:
        first[0] += 1
    while first[0] < last[0] and pixel.p * walk.stride_h + walk.tap_h[last[0] - 1] >= walk.h:
        last[0] -= 1


cdef void copied_tile(const fnn_kernels* kern, const fnn_tile* tile, const real* of_dtype) noexcept nogil:
    """The same tile from a copy of its rows, all taps one after the other."""
    cdef real rows[A_COPY]
    cdef const void* table[MAX_MR]
    cdef fnn_tile whole = tile[0]
    cdef const real* source
    cdef Py_ssize_t i, tap
    for i in range(tile.rows):
        table[i] = rows + i * PITCH
        for tap in range(tile.taps):
            if tile.tap_offset is NULL:
                source = <const real*>tile.a[tap * kern.mr + i]
            else:
                source = <const real*>tile.a[i] + tile.tap_offset[tap]
            memcpy(rows + i * PITCH + tap * tile.depth, source + tile.a_offset, tile.depth * sizeof(real))
    whole.a = table
    whole.a_offset = whole.next_a = 0
    whole.tap_offset = NULL
    whole.depth = tile.taps * tile.depth
    whole.taps = 1
    kern.gemm_rows(&whole)


cdef void convolve_task(const Convolution* c, const real* x, real* y, Py_ssize_t group, Py_ssize_t count,
                        Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t m0, Py_ssize_t m1,
                        const void** table) noexcept nogil:
    """Filters n0..n1 of `count` groups, from `group` on, at the grid pixels m0..m1.

    Block by block of the reduction.
    """
    cdef const fnn_kernels* kern = c.kern
    cdef const Walk* walk = c.walk
    cdef const real* bias = <const real*>c.bias
    cdef const real* panels
    cdef Py_ssize_t depth = c.depth, columns = c.columns, panel_taps = c.panel_taps
    cdef fnn_tile tile
    cdef Groups groups
    cdef Py_ssize_t channel_blocks = max(ceil_div(depth, KC), <Py_ssize_t>1)
    cdef Py_ssize_t channels = ceil_div(depth, channel_blocks)
    cdef Py_ssize_t tap_step = max(KC // max(depth, <Py_ssize_t>1), <Py_ssize_t>1)
    cdef Py_ssize_t tap_blocks = ceil_div(walk.taps, tap_step)
    cdef Py_ssize_t blocks = tap_blocks * channel_blocks, block, place, following, tap0, tap1, c0
    # No other task reads these filters, and this one group after group.
    cdef bint all_pixels = m1 - m0 == walk.n * walk.p * walk.q and count == 1
    groups.count, groups.depth, groups.columns = count, depth, columns
    groups.panels = panel_elements(columns, panel_taps * depth, sizeof(real))
    panels = <const real*>c.panels + group * groups.panels
    tile.b_panel = panel_taps * depth * kern.nr
    tile.c_offset = group * columns + n0
    tile.columns = n1 - n0
    for block in range(blocks):
        tap0 = block // channel_blocks * tap_step
        tap1 = min(tap0 + tap_step, walk.taps)
        c0 = block % channel_blocks * channels
        tile.depth = min(channels, depth - c0)
        tile.a_offset = group * depth + c0
        place = (tap0 * depth + c0) * kern.nr
        tile.b = panels + n0 * panel_taps * depth + place
        tile.accumulate = c.accumulate or block > 0
        tile.bias = NULL if bias is NULL or block > 0 else bias + group * columns + n0
        tile.relu = c.relu if block == blocks - 1 else 0
        following = 0
        if all_pixels and block < blocks - 1:
            following = ((block + 1) // channel_blocks * tap_step * depth
                         + (block + 1) % channel_blocks * channels) * kern.nr - place
        elif all_pixels and n1 < columns:
            following = (n1 - n0) * panel_taps * depth - place
        tiles(c, &tile, x, y, tap0, tap1, m0, m1, following, &groups, table)


# How all of it is cut, filters and pixels of `together` groups at a time, and who does what.
cdef struct Cut:
    Py_ssize_t together, n_tasks, m_tasks
    fnn_tasks tasks
    Watch watch


cdef int convolve(const Walk* walk, const real* x, const real* panels, Py_ssize_t panel_taps,
                  Py_ssize_t depth, const real* bias, real* y, Py_ssize_t columns, Py_ssize_t groups,
                  bint accumulate, int relu) noexcept nogil:
    """All groups and grid pixels. Returns -1 when memory is short or the call was interrupted.

    `panels` points at the first tap of this walk; a panel holds `panel_taps` taps, of all walks together.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t pixels = walk.n * walk.p * walk.q
    cdef Py_ssize_t m_tasks = like_parts(pixels, MC // kern.mr * kern.mr)
    cdef Py_ssize_t count = ceil_div(columns, kern.nr), n_tasks = like_parts(count, NC // kern.nr)
    cdef Py_ssize_t table_size = lines_apart(walk.taps * kern.mr, sizeof(void*))
    cdef Py_ssize_t together = groups_together(panel_taps * depth, columns, groups, sizeof(real))
    cdef Py_ssize_t clusters = groups // together
    cdef int threads = team_size(pixels * columns * groups * (multiply_ns(walk.taps * depth) + 0.12)), thread
    cdef const void** tables
    cdef void* zeros
    cdef Convolution c
    cdef Cut cut
    if pixels == 0 or columns == 0 or groups == 0:
        return 0
    if m_tasks <= 4:
        # Few pixels: share the filters as well, an even number of tasks.
        n_tasks = max(n_tasks, min(count, ceil_div(max(<Py_ssize_t>FEW_TASKS, threads), clusters * m_tasks)))
        if m_tasks == 1:
            n_tasks = max(n_tasks, like_parts(count, FEW_FILTERS // kern.nr))
        if clusters * m_tasks % 2:
            n_tasks = min(count, n_tasks + n_tasks % 2)
    if m_tasks == 1 and clusters * n_tasks % 2 and pixels > kern.mr:
        m_tasks = 2
    threads = team_for(clusters * n_tasks * m_tasks, threads)
    tables = <const void**>malloc(threads * table_size * sizeof(void*))
    zeros = calloc(depth * groups + 1, sizeof(real))
    if tables is NULL or zeros is NULL:
        free(tables)
        free(zeros)
        return -1
    c.kern, c.walk, c.zeros, c.panels, c.bias = kern, walk, zeros, panels, bias
    c.depth, c.columns, c.panel_taps, c.accumulate, c.relu = depth, columns, panel_taps, accumulate, relu
    c.past = depth <= KC and tiles_go_past(walk, columns, y, accumulate)
    cut.together, cut.n_tasks, cut.m_tasks = together, n_tasks, m_tasks
    start(&cut.watch)
    deal(&cut.tasks, clusters * n_tasks * m_tasks, threads)
    if threads == 1:
        convolve_share(&c, &cut, 0, x, y, tables)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            convolve_share(&c, &cut, thread, x, y, tables + thread * table_size)
    free(tables)
    free(zeros)
    return -1 if cut.watch.interrupted else 0


cdef Py_ssize_t groups_together(Py_ssize_t k, Py_ssize_t columns, Py_ssize_t groups,
                                Py_ssize_t itemsize) noexcept nogil:
    """How many groups a task takes at each place of its pixels, whose table serves all of them."""
    cdef Py_ssize_t size = panel_elements(columns, k, itemsize) * itemsize
    cdef Py_ssize_t together = min(GROUPS_BYTES // max(size, <Py_ssize_t>1), groups // GROUP_TASKS)
    together = max(together, <Py_ssize_t>1)
    while groups % together:
        together -= 1
    return together


cdef void convolve_share(const Convolution* c, Cut* cut, int thread, const real* x, real* y,
                         const void** table) noexcept nogil:
    """One thread's share: some groups first, then blocks of filters, then of pixels."""
    cdef Py_ssize_t pixels = c.walk.n * c.walk.p * c.walk.q, count = ceil_div(c.columns, c.kern.nr)
    cdef Py_ssize_t group, m, n
    cdef Py_ssize_t task = next_task(&cut.tasks, thread, &cut.watch)
    while task >= 0:
        group = task // (cut.n_tasks * cut.m_tasks) * cut.together
        m = task % cut.m_tasks
        n = task // cut.m_tasks % cut.n_tasks
        convolve_task(c, x, y, group, cut.together, n * count // cut.n_tasks * c.kern.nr,
                      min(c.columns, (n + 1) * count // cut.n_tasks * c.kern.nr), m * pixels // cut.m_tasks,
                      (m + 1) * pixels // cut.m_tasks, table)
        task = next_task(&cut.tasks, thread, &cut.watch)
