"""Gradient of an input of few channels."""

from fastnn._kernels.runtime cimport real

cdef struct Image:
    # A convolution without groups, undilated along W: images [n][h][w][c], outputs [n][p][q][k], filters
    # [k][c][r][s].
    Py_ssize_t n, h, w, c, p, q, k
    Py_ssize_t r, s, stride_h, stride_w, pad_h, pad_w, dilation_h

cdef int input_gradient(const Image* image, const real* grad_y, const real* weight,
                        real* grad_x) noexcept nogil
