"""Drivers of depthwise convolution, and of groups of a few channels."""

from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef Py_ssize_t narrow_group(Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t groups,
                             Py_ssize_t itemsize) noexcept nogil
cdef void pack_rows(const real* weight, Py_ssize_t filters, Py_ssize_t group, Py_ssize_t taps,
                    real* packed) noexcept nogil
cdef void pack_rows_transposed(const real* weight, const Py_ssize_t* order, Py_ssize_t used,
                               Py_ssize_t channels, Py_ssize_t group, Py_ssize_t taps,
                               real* packed) noexcept nogil
cdef int convolve_rows(const Walk* walk, const real* x, const real* filters, const real* bias, real* y,
                       Py_ssize_t channels, Py_ssize_t group, bint accumulate,
                       int relu) noexcept nogil
cdef int rows_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t channels,
                       Py_ssize_t group, real* grad_weight) noexcept nogil
