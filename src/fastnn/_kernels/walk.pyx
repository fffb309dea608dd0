"""Fills the tables of row pointers that the register tile reads and writes through."""

from fastnn._kernels.runtime cimport ceil_div, real


cdef struct Pixel:
    Py_ssize_t n, p, q


cdef inline Pixel pixel_at(const Walk* walk, Py_ssize_t m) noexcept nogil:
    """The m-th pixel of the grid, images counted through."""
    cdef Pixel pixel
    pixel.n, pixel.p, pixel.q = m // (walk.q * walk.p), m // walk.q % walk.p, m % walk.q
    return pixel


cdef inline void advance(const Walk* walk, Pixel* pixel) noexcept nogil:
    """Go to the next pixel: divisions for each would cost more than a small filter's products."""
    pixel.q += 1
    if pixel.q == walk.q:
        pixel.q = 0
        pixel.p += 1
        if pixel.p == walk.p:
            pixel.p = 0
            pixel.n += 1


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


cdef bint interior_rows(const Walk* walk, const real* x, Py_ssize_t m, int rows,
                        const void** table) noexcept nogil:
    """table[i] = the source of grid pixel m + i through tap 0, if none of them reads padding."""
    cdef Pixel pixel = pixel_at(walk, m)
    cdef int i
    for i in range(rows):
        if not (walk.p0 <= pixel.p < walk.p1 and walk.q0 <= pixel.q < walk.q1):
            return False
        table[i] = (x + pixel.n * walk.x_n + (pixel.p * walk.stride_h + walk.tap_h[0]) * walk.x_h
                    + (pixel.q * walk.stride_w + walk.tap_w[0]) * walk.x_w)
        advance(walk, &pixel)
    return True


cdef void source_rows(const Walk* walk, const real* x, const real* zeros, Py_ssize_t m, int rows, int mr,
                      Py_ssize_t tap0, Py_ssize_t tap1, const void** table) noexcept nogil:
    """table[(tap - tap0) * mr + i] = the source of grid pixel m + i through `tap`, or `zeros`."""
    cdef Pixel pixel = pixel_at(walk, m)
    cdef Py_ssize_t tap, h, w
    cdef const real* image
    cdef int i
    for i in range(rows):
        image = x + pixel.n * walk.x_n
        for tap in range(tap0, tap1):
            h = pixel.p * walk.stride_h + walk.tap_h[tap]
            w = pixel.q * walk.stride_w + walk.tap_w[tap]
            if 0 <= h < walk.h and 0 <= w < walk.w:
                table[(tap - tap0) * mr + i] = image + h * walk.x_h + w * walk.x_w
            else:
                table[(tap - tap0) * mr + i] = zeros
        advance(walk, &pixel)


cdef void target_rows(const Walk* walk, real* y, Py_ssize_t m, int rows, void** table) noexcept nogil:
    """table[i] = where grid pixel m + i is written."""
    cdef Pixel pixel = pixel_at(walk, m)
    cdef int i
    for i in range(rows):
        table[i] = y + walk.y_start + pixel.n * walk.y_n + pixel.p * walk.y_p + pixel.q * walk.y_q
        advance(walk, &pixel)
