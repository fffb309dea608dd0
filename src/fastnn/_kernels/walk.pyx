"""Fills the tables of row pointers that the register tile reads and writes through, and copies images with
their padding, so that pixels lie evenly, whatever strides they have.
"""

from cython.parallel cimport prange

from fastnn._kernels.runtime cimport Watch, ceil_div, fnn_kernels, go_on, kernels, real, start


cdef Pixel pixel_at(const Walk* walk, Py_ssize_t m) noexcept nogil:
    """The m-th pixel of the grid, images counted through."""
    cdef Pixel pixel
    pixel.n, pixel.p, pixel.q = m // (walk.q * walk.p), m // walk.q % walk.p, m % walk.q
    return pixel


cdef inline int take_run(const Walk* walk, Pixel* pixel, int rows) noexcept nogil:
    """How many of the next `rows` pixels lie in this row of the grid; go beyond them.

    The tables are filled run by run: a division or a product for each pixel would cost more than the sums of
    a small filter.
    """
    cdef int run = <int>min(<Py_ssize_t>rows, walk.q - pixel.q)
    pixel.q += run
    if pixel.q == walk.q:
        pixel.q = 0
        pixel.p += 1
        if pixel.p == walk.p:
            pixel.p = 0
            pixel.n += 1
    return run


cdef void find_interior(Walk* walk) noexcept nogil:
    """Fill tap_offset and the bounds of the pixels whose taps all lie inside the source."""
    cdef Py_ssize_t tap, top, bottom, left, right
    if walk.taps == 0:
        walk.p0 = walk.p1 = walk.q0 = walk.q1 = 0
        return
    top = bottom = walk.tap_h[0]
    left = right = walk.tap_w[0]
    for tap in range(walk.taps):
        top, bottom = min(top, walk.tap_h[tap]), max(bottom, walk.tap_h[tap])
        left, right = min(left, walk.tap_w[tap]), max(right, walk.tap_w[tap])
        walk.tap_offset[tap] = ((walk.tap_h[tap] - walk.tap_h[0]) * walk.x_h
                                + (walk.tap_w[tap] - walk.tap_w[0]) * walk.x_w)
    walk.p0 = ceil_div(-top, walk.stride_h) if top < 0 else 0
    walk.q0 = ceil_div(-left, walk.stride_w) if left < 0 else 0
    walk.p1 = ceil_div(walk.h - bottom, walk.stride_h) if bottom < walk.h else 0
    walk.q1 = ceil_div(walk.w - right, walk.stride_w) if right < walk.w else 0


cdef bint interior_rows(const Walk* walk, const real* x, Pixel first, int rows,
                        const void** table) noexcept nogil:
    """table[i] = the source of the i-th grid pixel from `first` through tap 0, if none reads padding."""
    cdef Pixel pixel = first, at
    cdef Py_ssize_t step = walk.stride_w * walk.x_w
    cdef const real* source
    cdef int i = 0, j, run
    while i < rows:
        at = pixel
        run = take_run(walk, &pixel, rows - i)
        if not (walk.p0 <= at.p < walk.p1 and walk.q0 <= at.q and at.q + run <= walk.q1):
            return False
        source = (x + at.n * walk.x_n + (at.p * walk.stride_h + walk.tap_h[0]) * walk.x_h
                  + (at.q * walk.stride_w + walk.tap_w[0]) * walk.x_w)
        for j in range(run):
            table[i + j] = source + j * step
        i += run
    return True


cdef void source_rows(const Walk* walk, const real* x, const real* zeros, Pixel first, int rows, int mr,
                      Py_ssize_t tap0, Py_ssize_t tap1, const void** table) noexcept nogil:
    """table[(tap - tap0) * mr + i] = the source of the i-th grid pixel from `first`, or `zeros`."""
    cdef Pixel pixel = first, at
    cdef Py_ssize_t step = walk.stride_w * walk.x_w, tap, h, w, offset
    cdef const void** to
    cdef int i = 0, j, run
    while i < rows:
        at = pixel
        run = take_run(walk, &pixel, rows - i)
        for tap in range(tap0, tap1):
            h = at.p * walk.stride_h + walk.tap_h[tap]
            w = at.q * walk.stride_w + walk.tap_w[tap]
            offset = at.n * walk.x_n + h * walk.x_h + w * walk.x_w
            to = table + (tap - tap0) * mr + i
            for j in range(run):
                to[j] = zeros
                if 0 <= h < walk.h and 0 <= w + j * walk.stride_w < walk.w:
                    to[j] = x + offset + j * step
        i += run


cdef void target_rows(const Walk* walk, real* y, Pixel* first, int rows, void** table) noexcept nogil:
    """table[i] = where the i-th grid pixel from `first` is written; `first` becomes the pixel after them."""
    cdef Pixel at
    cdef real* target
    cdef int i = 0, j, run
    while i < rows:
        at = first[0]
        run = take_run(walk, first, rows - i)
        target = y + walk.y_start + at.n * walk.y_n + at.p * walk.y_p + at.q * walk.y_q
        for j in range(run):
            table[i + j] = target + j * walk.y_q
        i += run


# --- Images with their padding


cdef int pad_images(const real* x, const Padding* pad, real* y, int threads) noexcept nogil:
    """Copy images into [n][padded_h][padded_w][c], zeros around them. Returns -1 when interrupted."""
    cdef Py_ssize_t rows = pad.n * pad.padded_h
    cdef Watch watch
    cdef int thread
    start(&watch)
    if threads == 1:
        pad_rows(x, pad, 0, rows, y, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            pad_rows(x, pad, rows * thread // threads, rows * (thread + 1) // threads, y, &watch)
    return -1 if watch.interrupted else 0


cdef void pad_rows(const real* images, const Padding* pad, Py_ssize_t first, Py_ssize_t last, real* y,
                   Watch* watch) noexcept nogil:
    """The padded rows first..last, all images' counted through."""
    cdef Py_ssize_t n = first // pad.padded_h, h = first % pad.padded_h - pad.top, row
    for row in range(first, last):
        if not go_on(watch):
            return
        pad_row(images, pad, n, h, y + row * pad.padded_w * pad.c)
        h += 1
        if h == pad.padded_h - pad.top:
            h = -pad.top
            n += 1


cdef void pad_row(const real* images, const Padding* pad, Py_ssize_t n, Py_ssize_t h, real* y) noexcept nogil:
    """Row h of image n with the padding beside it; a row of zeros where the image has none."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t c = pad.c, left = pad.left * c, length = pad.w * c
    cdef Py_ssize_t right = pad.padded_w * c - left - length, j, k
    cdef const real* x
    if not 0 <= h < pad.h:
        kern.pad_row(left + length + right, NULL, 0, 0, y)
        return
    x = images + n * pad.x_n + h * pad.x_h
    if (pad.x_c == 1 or c == 1) and pad.x_w == c:
        kern.pad_row(left, x, length, right, y)
        return
    kern.pad_row(left, NULL, 0, 0, y)
    kern.pad_row(0, NULL, 0, right, y + left + length)
    if pad.x_w == 1:
        kern.transpose(c, pad.w, x, pad.x_c, y + left, c)
    else:
        for k in range(c):
            for j in range(pad.w):
                y[left + j * c + k] = x[j * pad.x_w + k * pad.x_c]
