"""The driver of the gradient of the filters."""

from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef int weight_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t groups,
                         Py_ssize_t depth, Py_ssize_t columns, real* grad_weight) noexcept nogil
