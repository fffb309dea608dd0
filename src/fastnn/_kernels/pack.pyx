"""Packing: a right-hand side B becomes panels of NR columns, so that each step of the tile reads on.

Filters lie filter by filter, [filter][channel][tap]; the tile wants NR filters side by side. Both ways
between them are transpositions of 16 x 16 blocks in registers (csrc/transpose.h).
"""

from libc.string cimport memcpy, memset

from fastnn._kernels.runtime cimport Watch, ceil_div, fnn_kernels, go_on, kernels, real

cdef enum:
    BLOCK = 16      # rows of a block on its way
    BUFFER = 512    # their elements: panels have at most 32 columns
    ROWS = 64       # packed before signals are looked for


cdef Py_ssize_t panel_elements(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    """Elements of a packed B of k x n: whole panels of NR columns."""
    cdef Py_ssize_t nr = kernels(itemsize).nr
    return ceil_div(n, nr) * nr * k


cdef void pack(const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps, Py_ssize_t depth,
               Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, real* panels,
               Watch* watch) noexcept nogil:
    """Panels [n / NR][tap][depth][NR] of B[(tap, d), j] = b[taps[tap] + d * depth_stride + j * n_stride].

    The columns past n in the last panel are zero. One of three axes is contiguous: columns (n_stride 1),
    depth with its taps (depth_stride is the number of taps in memory), or columns with theirs (n_stride is).
    `watch`, asked before each panel or some rows of all, is NULL where B is a block of a task.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t nr = kern.nr, panel, j0, width
    cdef real* to
    if n_stride == 1:
        pack_rows(kern, b, taps, n_taps, depth, depth_stride, n, panels, watch)
        return
    for panel in range(ceil_div(n, nr)):
        if not go_on(watch):
            return
        j0 = panel * nr
        width = min(nr, n - j0)
        to = panels + j0 * n_taps * depth
        if depth_stride < n_stride:
            pack_columns(kern, b + j0 * n_stride, taps, n_taps, depth, depth_stride, width, n_stride, to)
        else:
            pack_taps(kern, b + j0 * n_stride, taps, n_taps, depth, depth_stride, width, n_stride, to)


cdef void pack_rows(const fnn_kernels* kern, const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps,
                    Py_ssize_t depth, Py_ssize_t depth_stride, Py_ssize_t n, real* panels,
                    Watch* watch) noexcept nogil:
    """All panels, whose rows are contiguous."""
    cdef Py_ssize_t panel = n_taps * depth * kern.nr, tap, block, d
    for tap in range(n_taps):
        for block in range(ceil_div(depth, ROWS)):
            if not go_on(watch):
                return
            d = block * ROWS
            kern.pack_rows(min(<Py_ssize_t>ROWS, depth - d), n, b + taps[tap] + d * depth_stride,
                           depth_stride, panel, panels + (tap * depth + d) * kern.nr)


cdef void pack_columns(const fnn_kernels* kern, const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps,
                       Py_ssize_t depth, Py_ssize_t depth_stride, Py_ssize_t width, Py_ssize_t n_stride,
                       real* to) noexcept nogil:
    """A panel whose columns are contiguous runs of [depth][tap], the taps all there, in either order."""
    cdef real rows[BUFFER]
    cdef Py_ssize_t nr = kern.nr, run = depth * n_taps, block, e0, e, d = 0, tap = 0
    cdef bint backwards = taps[0] > 0
    if n_taps == 1:
        if width < nr:
            memset(to, 0, depth * nr * sizeof(real))
        for block in range(ceil_div(depth, BLOCK)):
            e0 = block * BLOCK
            kern.transpose(width, min(<Py_ssize_t>BLOCK, depth - e0), b + e0, n_stride, to + e0 * nr, nr)
        return
    memset(rows, 0, BLOCK * nr * sizeof(real))
    for block in range(ceil_div(run, BLOCK)):
        e0 = block * BLOCK
        kern.transpose(width, min(<Py_ssize_t>BLOCK, run - e0), b + e0, n_stride, rows, nr)
        for e in range(min(<Py_ssize_t>BLOCK, run - e0)):
            memcpy(to + ((n_taps - 1 - tap if backwards else tap) * depth + d) * nr, rows + e * nr,
                   nr * sizeof(real))
            tap += 1
            if tap == n_taps:
                tap = 0
                d += 1


cdef void pack_taps(const fnn_kernels* kern, const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps,
                    Py_ssize_t depth, Py_ssize_t depth_stride, Py_ssize_t width, Py_ssize_t n_stride,
                    real* to) noexcept nogil:
    """A panel of which each step of the depth is a contiguous [column][tap], any of whose taps are wanted."""
    cdef real rows[BUFFER]
    cdef Py_ssize_t nr = kern.nr, block, t0, i, d
    memset(rows, 0, BLOCK * nr * sizeof(real))
    for d in range(depth):
        for block in range(ceil_div(n_stride, BLOCK)):
            t0 = block * BLOCK
            kern.transpose(width, min(<Py_ssize_t>BLOCK, n_stride - t0), b + d * depth_stride + t0, n_stride,
                           rows, nr)
            for i in range(n_taps):
                if t0 <= taps[i] < t0 + BLOCK:
                    memcpy(to + (i * depth + d) * nr, rows + (taps[i] - t0) * nr, nr * sizeof(real))


cdef void filters_first(const real* sums, Py_ssize_t taps, Py_ssize_t depth, Py_ssize_t columns,
                        real* grad_weight, Py_ssize_t filter_step, Watch* watch) noexcept nogil:
    """From [tap][channel][filter] to [filter][channel][tap], `filter_step` from one filter to the next."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef real rows[BUFFER]
    cdef Py_ssize_t run = depth * taps, k_block, block, k0, e0, e, width, count, c, tap
    for k_block in range(ceil_div(columns, BLOCK)):
        if not go_on(watch):
            return
        k0 = k_block * BLOCK
        width = min(<Py_ssize_t>BLOCK, columns - k0)
        c = tap = 0
        for block in range(ceil_div(run, BLOCK)):
            e0 = block * BLOCK
            count = min(<Py_ssize_t>BLOCK, run - e0)
            for e in range(count):
                memcpy(rows + e * BLOCK, sums + (tap * depth + c) * columns + k0, width * sizeof(real))
                tap += 1
                if tap == taps:
                    tap = 0
                    c += 1
            kern.transpose(count, width, rows, BLOCK, grad_weight + k0 * filter_step + e0, filter_step)
