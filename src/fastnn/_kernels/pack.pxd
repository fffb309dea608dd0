"""Operands in the form that the register tile reads, and gradients out of the form that it leaves."""

from fastnn._kernels.runtime cimport Watch, real

cdef enum:
    PLACES = 512    # rows in a table

cdef Py_ssize_t panel_elements(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil

cdef void pack(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
               Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, real* panels) noexcept nogil

cdef void pack_panels(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                      Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, Py_ssize_t width,
                      real* panels) noexcept nogil

cdef void pack_columns(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                       Py_ssize_t depth_stride, Py_ssize_t width, Py_ssize_t n_stride, real* to,
                       Py_ssize_t row) noexcept nogil

cdef double pack_ns(Py_ssize_t n, Py_ssize_t k) noexcept nogil

cdef void pack_by_all(const real* b, const Py_ssize_t* places, Py_ssize_t n_taps, Py_ssize_t depth,
                      Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, Py_ssize_t groups,
                      Py_ssize_t group_stride, real* panels, int threads, Watch* watch) noexcept nogil

cdef void filters_first(const real* sums, Py_ssize_t taps, Py_ssize_t depth, Py_ssize_t columns,
                        Py_ssize_t filters, real* grad_weight, Py_ssize_t filter_step) noexcept nogil

cdef void finish_gradients(real* sums, Py_ssize_t slices, Py_ssize_t taps, Py_ssize_t depth,
                           Py_ssize_t columns, Py_ssize_t groups, real* grad_weight, int threads,
                           Watch* watch) noexcept nogil
