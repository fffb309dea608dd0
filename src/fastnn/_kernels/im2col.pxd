"""The gradient of the filters where pixels are few."""

from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef int filter_gradient_by_filters(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t groups,
                                    Py_ssize_t depth, Py_ssize_t columns, real* grad_weight) noexcept nogil
