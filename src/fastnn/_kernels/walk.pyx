"""Fills the tables of row pointers that the register tile reads and writes through."""

from fastnn._kernels.runtime cimport real


cdef void source_rows(const Walk* walk, const real* x, const real* zeros, Py_ssize_t m, int rows, int mr,
                      Py_ssize_t tap0, Py_ssize_t tap1, const void** table) noexcept nogil:
    """table[(tap - tap0) * mr + i] = the source of grid pixel m + i through `tap`, or `zeros`."""
    cdef Py_ssize_t q = m % walk.q, p = m // walk.q % walk.p, n = m // (walk.q * walk.p)
    cdef Py_ssize_t tap, h, w
    cdef const real* image
    cdef int i
    for i in range(rows):
        image = x + n * walk.x_n
        for tap in range(tap0, tap1):
            h = p * walk.stride_h + walk.tap_h[tap]
            w = q * walk.stride_w + walk.tap_w[tap]
            if 0 <= h < walk.h and 0 <= w < walk.w:
                table[(tap - tap0) * mr + i] = image + h * walk.x_h + w * walk.x_w
            else:
                table[(tap - tap0) * mr + i] = zeros
        q += 1
        if q == walk.q:
            q = 0
            p += 1
            if p == walk.p:
                p = 0
                n += 1


cdef void target_rows(const Walk* walk, real* y, Py_ssize_t m, int rows, void** table) noexcept nogil:
    """table[i] = where grid pixel m + i is written."""
    cdef Py_ssize_t q = m % walk.q, p = m // walk.q % walk.p, n = m // (walk.q * walk.p)
    cdef int i
    for i in range(rows):
        table[i] = y + walk.y_start + n * walk.y_n + p * walk.y_p + q * walk.y_q
        q += 1
        if q == walk.q:
            q = 0
            p += 1
            if p == walk.p:
                p = 0
                n += 1
