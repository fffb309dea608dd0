"""Operands in the form that the register tile reads, and gradients out of the form that it leaves."""

from fastnn._kernels.runtime cimport Watch, real

cdef Py_ssize_t panel_elements(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil

cdef void pack(const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps, Py_ssize_t depth,
               Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, real* panels,
               Watch* watch) noexcept nogil

cdef void filters_first(const real* sums, Py_ssize_t taps, Py_ssize_t depth, Py_ssize_t columns,
                        real* grad_weight, Py_ssize_t filter_step, Watch* watch) noexcept nogil
