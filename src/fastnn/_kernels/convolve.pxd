"""The driver of the forward pass and of the gradient of the input."""

from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef int convolve(const Walk* walk, const real* x, const real* panels, Py_ssize_t panel_taps,
                  Py_ssize_t depth, const real* bias, real* y, Py_ssize_t columns, Py_ssize_t groups,
                  bint accumulate, int relu) noexcept nogil
