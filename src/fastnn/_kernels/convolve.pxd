"""The driver of the forward pass and of the gradient of the input."""

from fastnn._kernels.runtime cimport fnn_kernels, real
from fastnn._kernels.walk cimport Walk

cdef int convolve(const Walk* walk, const real* x, const real* panels, Py_ssize_t panel_taps,
                  Py_ssize_t depth, const real* bias, real* y, Py_ssize_t columns, Py_ssize_t groups,
                  bint accumulate, int relu) noexcept nogil
cdef void convolve_task(const fnn_kernels* kern, const Walk* walk, const real* x, const real* zeros,
                        const real* panels, Py_ssize_t panel_taps, Py_ssize_t depth, const real* bias,
                        real* y, Py_ssize_t group, Py_ssize_t count, Py_ssize_t columns, Py_ssize_t n0,
                        Py_ssize_t n1, Py_ssize_t m0, Py_ssize_t m1, bint accumulate, int relu,
                        const void** table) noexcept nogil
