"""Drivers of the forward pass and of the gradient of the input."""

from fastnn._kernels.runtime cimport fnn_kernels, fnn_tile, real
from fastnn._kernels.walk cimport Walk

cdef void tiles(const fnn_kernels* kern, void (*body)(const fnn_tile*) noexcept nogil, const Walk* walk,
                fnn_tile* tile, const real* x, const real* zeros, real* y, Py_ssize_t tap0, Py_ssize_t tap1,
                Py_ssize_t m0, Py_ssize_t m1, const void** table) noexcept nogil
cdef int convolve(const Walk* walk, const real* x, const real* panels, Py_ssize_t panel_taps,
                  Py_ssize_t depth, const real* bias, real* y, Py_ssize_t columns, Py_ssize_t groups,
                  bint relu) noexcept nogil
cdef int convolve_depthwise(const Walk* walk, const real* x, const real* filters, const real* bias, real* y,
                            Py_ssize_t channels, bint relu) noexcept nogil
