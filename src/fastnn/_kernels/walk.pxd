"""Which input pixels an output pixel reads: the geometry shared by convolution, forward and backward.

A convolution's output pixel (p, q) reads, through tap t, the source pixel
(p * stride_h + tap_h[t], q * stride_w + tap_w[t]), or zeros where that lies outside. The gradient of the
input is the same walk over grad_y, one for each residue class of input pixels modulo the stride; the strides
of its target say which pixels those are.
"""

from fastnn._kernels.runtime cimport Watch, real

cdef struct Walk:
    # The grid of pixels computed, and where pixel (n, p, q) of it is written.
    Py_ssize_t n, p, q
    Py_ssize_t images                            # of the array that is written, n or more
    Py_ssize_t y_n, y_p, y_q, y_start            # elements
    # The source, its size and strides in elements; channels are contiguous.
    Py_ssize_t h, w
    Py_ssize_t x_n, x_h, x_w
    Py_ssize_t stride_h, stride_w
    # Taps: their number, and offsets of each in the source.
    Py_ssize_t taps
    Py_ssize_t* tap_h
    Py_ssize_t* tap_w
    # Pixels p0 <= p < p1, q0 <= q < q1 read no padding: from tap 0 of such a pixel the others lie at these
    # places.
    Py_ssize_t* tap_offset
    Py_ssize_t p0, p1, q0, q1

cdef struct Pixel:
    Py_ssize_t n, p, q

cdef Pixel pixel_at(const Walk* walk, Py_ssize_t m) noexcept nogil
cdef void find_interior(Walk* walk) noexcept nogil
cdef bint interior_rows(const Walk* walk, const real* x, Pixel first, int rows,
                        const void** table) noexcept nogil
cdef void source_rows(const Walk* walk, const real* x, const real* zeros, Pixel first, int rows, int mr,
                      Py_ssize_t tap0, Py_ssize_t tap1, const void** table) noexcept nogil
cdef void target_rows(const Walk* walk, real* y, Pixel* first, int rows, void** table) noexcept nogil

cdef struct Padding:
    # Images [n][h][w][c] with any strides, and the padded ones around them.
    Py_ssize_t n, h, w, c, x_n, x_h, x_w, x_c
    Py_ssize_t top, left, padded_h, padded_w

cdef int pad_images(const real* x, const Padding* pad, real* y, int threads) noexcept nogil
cdef void pad_rows(const real* images, const Padding* pad, Py_ssize_t first, Py_ssize_t last, real* y,
                   Watch* watch) noexcept nogil
