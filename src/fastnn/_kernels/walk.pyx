"""Fills the tables of row pointers that the register tile reads and writes through."""

from fastnn._kernels.runtime cimport real


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
