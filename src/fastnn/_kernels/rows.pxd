"""Drivers of depthwise convolution, of groups of a few channels, and of a few channels in all."""

from fastnn._kernels.runtime cimport Watch, fnn_row, real
from fastnn._kernels.walk cimport Walk

cdef Py_ssize_t narrow_group(Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t groups,
                             Py_ssize_t itemsize) noexcept nogil
cdef Py_ssize_t panel_channels(Py_ssize_t channels, Py_ssize_t group, Py_ssize_t itemsize) noexcept nogil
cdef Py_ssize_t filter_elements(Py_ssize_t channels, Py_ssize_t group, Py_ssize_t taps,
                                Py_ssize_t itemsize) noexcept nogil
cdef void pack_narrow(const real* weight, const Py_ssize_t* places, Py_ssize_t channels, Py_ssize_t group,
                      Py_ssize_t taps, real* packed) noexcept nogil
cdef void pack_narrow_transposed(const real* weight, const Py_ssize_t* places, Py_ssize_t channels,
                                 Py_ssize_t group, Py_ssize_t taps, real* packed) noexcept nogil
cdef int convolve_rows(const Walk* walk, const real* x, const real* filters, const real* bias, real* y,
                       Py_ssize_t channels, Py_ssize_t group, Py_ssize_t panel_taps, bint accumulate,
                       int relu) noexcept nogil
cdef bint tiles_go_past(const Walk* walk, Py_ssize_t columns, const real* y, bint accumulate) noexcept nogil
cdef bint runs_fit(const Walk* walk, Py_ssize_t run, Py_ssize_t itemsize) noexcept nogil
cdef bint pixels_fit(const Walk* walk, Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil
cdef int convolve_few_channels(const Walk* walk, const real* x, const real* panels, Py_ssize_t run,
                               const real* bias, real* y, Py_ssize_t columns, bint accumulate,
                               int relu) noexcept nogil
cdef int rows_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t channels,
                       Py_ssize_t group, real* grad_weight) noexcept nogil
cdef void describe(const Walk* walk, fnn_row* task, Py_ssize_t channels, Py_ssize_t group) noexcept nogil
cdef void describe_runs(const Walk* walk, fnn_row* task, Py_ssize_t run, Py_ssize_t columns,
                        Py_ssize_t itemsize) noexcept nogil
cdef void band_task(void (*body)(const fnn_row*) noexcept nogil, const Walk* walk, const fnn_row* shared,
                    const real* x, real* y, real* filters, Py_ssize_t parts, Py_ssize_t first,
                    Py_ssize_t last, const void** table, Watch* watch) noexcept nogil
