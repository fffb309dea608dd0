"""Packing: a right-hand side B becomes panels of NR columns, so that each step of the tile reads on.

Filters lie filter by filter, [filter][channel][tap]; the tile wants NR filters side by side. Both ways
between them are transpositions of blocks in registers (csrc/transpose.h), whose rows a table finds.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fetch, fnn_kernels, fnn_tasks, kernels, next_task, real, team_for
)

cdef enum:
    FILTERS = 16    # whose gradients are put in order together: a cache line
    PARTS = 32      # into which all of B is cut, about, to be packed by several threads
    FINISHED = 32   # filters of a task that puts a gradient in order
    AHEAD = 8       # steps of the depth by which rows are fetched before they are turned ...
    LONGEST = 4096  # ... if of no more bytes: more would drive each other out of L1


cdef Py_ssize_t panel_elements(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    """Elements of a packed B of k x n: whole panels of NR columns."""
    cdef Py_ssize_t nr = kernels(itemsize).nr
    return ceil_div(n, nr) * nr * k


cdef void pack(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
               Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, real* panels) noexcept nogil:
    """Panels [n / NR][tap][depth][NR] of B[(places[tap], d), j] = b[tap + d * depth_stride + j * n_stride].

    Without places the taps stay in order. The columns past n in the last panel are zero. One of three axes
    is contiguous: columns (n_stride 1, one tap), depth with its taps (depth_stride is the number of taps), or
    columns with theirs (n_stride is).
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    if n_stride == 1:
        kern.pack_rows(depth, n, b, depth_stride, depth * kern.nr, panels)
    else:
        pack_panels(b, places, n_taps, depth, depth_stride, n, n_stride, kern.nr, panels)


cdef void pack_panels(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                      Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, Py_ssize_t width,
                      real* panels) noexcept nogil:
    """`pack` in panels of `width` columns, whichever of the axes are contiguous."""
    cdef Py_ssize_t panel, j0, used
    cdef real* to
    for panel in range(ceil_div(n, width)):
        j0 = panel * width
        used = min(width, n - j0)
        to = panels + j0 * n_taps * depth
        if used < width:
            memset(to, 0, n_taps * depth * width * sizeof(real))
        pack_columns(b + j0 * n_stride, places, n_taps, depth, depth_stride, used, n_stride, to, width)


cdef void pack_columns(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                       Py_ssize_t depth_stride, Py_ssize_t width, Py_ssize_t n_stride, real* to,
                       Py_ssize_t row) noexcept nogil:
    """to[(places[tap] * depth + d) * row + j] = b[tap + d * depth_stride + j * n_stride], j < width.

    Where columns have their taps, as where the gradient of the input takes filters for channels, the rows lie
    a filter apart, too far for a processor to foresee. One thread, with nine taps turned in registers: 512 ->
    512 at 7 x 7 .43 of the time, 256 -> 512 with stride 2 at 14 x 14 .56.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t table[PLACES]
    cdef Py_ssize_t block, first, taps, together, step, d
    if n_taps == depth_stride == 1:
        kern.transpose(width, depth, b, n_stride, to, row)
        return
    for block in range(ceil_div(n_taps, PLACES)):
        first = block * PLACES
        taps = min(<Py_ssize_t>PLACES, n_taps - first)
        # Where the taps of the depth's next step follow, those of several are one row.
        together = steps_together(n_taps, depth) if depth_stride == n_taps else 1
        place_taps(places, first, taps, together, depth, row, table)
        for step in range(ceil_div(depth, together)):
            d = step * together
            if n_stride == n_taps and width * n_taps * <Py_ssize_t>sizeof(real) <= LONGEST:
                fetch(b + (d + AHEAD) * depth_stride, width * n_taps * sizeof(real))
            kern.transpose_rows(width, min(together, depth - d) * taps, b + first + d * depth_stride,
                                n_stride, NULL, to + d * row, 0, table)


cdef Py_ssize_t steps_together(Py_ssize_t taps, Py_ssize_t depth) noexcept nogil:
    """Steps of the depth all of whose taps are in a table; one where it is too short for that."""
    return max(min(depth, PLACES // taps), <Py_ssize_t>1)


cdef void place_taps(const Py_ssize_t* places, Py_ssize_t first, Py_ssize_t taps, Py_ssize_t steps,
                     Py_ssize_t depth, Py_ssize_t row, Py_ssize_t* table) noexcept nogil:
    """table[step][tap] = where [place of tap `first` + tap][step] of [taps][depth][row] begins."""
    cdef Py_ssize_t step, tap, place
    for step in range(steps):
        for tap in range(taps):
            place = first + tap if places is NULL else places[first + tap]
            table[step * taps + tap] = (place * depth + step) * row


cdef double pack_ns(Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Serial time of packing."""
    return 0.5 * n * k


cdef void pack_by_all(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                      Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, Py_ssize_t groups,
                      Py_ssize_t group_stride, real* panels, int threads, Watch* watch) noexcept nogil:
    """`pack` of each group, by up to so many threads.

    Each packs panels that lie beside each other: the next product deals them likewise (csrc/tasks.h).
    """
    cdef Py_ssize_t count = ceil_div(n, kernels(sizeof(real)).nr)
    cdef Py_ssize_t parts = min(count, ceil_div(PARTS, max(groups, <Py_ssize_t>1)))
    cdef int team = team_for(groups * parts, threads), thread
    cdef fnn_tasks tasks
    deal(&tasks, groups * parts, team)
    if team == 1:
        pack_share(&tasks, 0, b, places, n_taps, depth, depth_stride, n, n_stride, group_stride, parts,
                   panels, watch)
    else:
        for thread in prange(team, schedule="static", chunksize=1, num_threads=team):
            pack_share(&tasks, thread, b, places, n_taps, depth, depth_stride, n, n_stride, group_stride,
                       parts, panels, watch)


cdef void pack_share(fnn_tasks* tasks, int thread, const real* b, const Py_ssize_t* places, Py_ssize_t n_taps,
                     Py_ssize_t depth, Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride,
                     Py_ssize_t group_stride, Py_ssize_t parts, real* panels, Watch* watch) noexcept nogil:
    """One thread's share of the parts of all groups."""
    cdef Py_ssize_t nr = kernels(sizeof(real)).nr, count = ceil_div(n, nr), group, j0, j1
    cdef Py_ssize_t task = next_task(tasks, thread, watch)
    while task >= 0:
        group = task // parts
        j0 = task % parts * count // parts * nr
        j1 = min(n, (task % parts + 1) * count // parts * nr)
        pack(b + group * group_stride + j0 * n_stride, places, n_taps, depth, depth_stride, j1 - j0, n_stride,
             panels + (group * count * nr + j0) * n_taps * depth)
        task = next_task(tasks, thread, watch)


cdef void filters_first(const real* sums, Py_ssize_t taps, Py_ssize_t depth, Py_ssize_t columns,
                        Py_ssize_t filters, real* grad_weight, Py_ssize_t filter_step) noexcept nogil:
    """`filters` of the `columns` of [tap][channel][filter] to [filter][channel][tap].

    `sums` and grad_weight begin at the first of them; from one to the next there it is `filter_step`.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t table[PLACES]
    cdef Py_ssize_t block, first, count, together, step, c, k, k_block
    for block in range(ceil_div(taps, PLACES)):
        first = block * PLACES
        count = min(<Py_ssize_t>PLACES, taps - first)
        together = steps_together(taps, depth)
        place_taps(NULL, first, count, together, depth, columns, table)
        for k_block in range(ceil_div(filters, FILTERS)):
            k = k_block * FILTERS
            for step in range(ceil_div(depth, together)):
                c = step * together
                kern.transpose_rows(min(together, depth - c) * count, min(<Py_ssize_t>FILTERS, filters - k),
                                    sums + c * columns + k, 0, table,
                                    grad_weight + k * filter_step + c * taps + first, filter_step, NULL)


cdef void finish_gradients(real* sums, Py_ssize_t slices, Py_ssize_t taps, Py_ssize_t depth,
                           Py_ssize_t columns, Py_ssize_t groups, real* grad_weight, int threads,
                           Watch* watch) noexcept nogil:
    """grad_weight [group][filter][channel][tap] from sums [group][slice][tap][channel][filter].

    The slices are added in order.
    """
    cdef Py_ssize_t blocks = ceil_div(columns, FINISHED)
    cdef int team = team_for(groups * blocks, threads), thread
    cdef fnn_tasks tasks
    deal(&tasks, groups * blocks, team)
    if team == 1:
        finish_share(&tasks, 0, sums, slices, taps, depth, columns, grad_weight, watch)
    else:
        for thread in prange(team, schedule="static", chunksize=1, num_threads=team):
            finish_share(&tasks, thread, sums, slices, taps, depth, columns, grad_weight, watch)


cdef void finish_share(fnn_tasks* tasks, int thread, real* sums, Py_ssize_t slices, Py_ssize_t taps,
                       Py_ssize_t depth, Py_ssize_t columns, real* grad_weight, Watch* watch) noexcept nogil:
    """One thread's share of the blocks of filters."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t rows = taps * depth, blocks = ceil_div(columns, FINISHED), group, k, width, i
    cdef Py_ssize_t task = next_task(tasks, thread, watch)
    cdef real* total
    while task >= 0:
        group = task // blocks
        k = task % blocks * FINISHED
        width = min(<Py_ssize_t>FINISHED, columns - k)
        total = sums + group * slices * rows * columns + k
        for i in range(1, slices):
            kern.add_rows(rows, width, total + i * rows * columns, columns, total, columns)
        filters_first(total, taps, depth, columns, width, grad_weight + (group * columns + k) * rows, rows)
        task = next_task(tasks, thread, watch)
