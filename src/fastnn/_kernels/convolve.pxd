"""The driver of the forward pass and of the gradient of the input."""

from fastnn._kernels.runtime cimport fnn_kernels, real
from fastnn._kernels.walk cimport Walk

# What the tasks of a walk share; zeros, panels and bias hold the dtype of x and y.
cdef struct Convolution:
    const fnn_kernels* kern
    const Walk* walk
    const void* zeros           # where pixels read padding: channels of all groups
    const void* panels          # from the first tap of this walk on
    const void* bias            # [groups * columns] or NULL
    Py_ssize_t depth, columns   # channels and filters of a group
    Py_ssize_t panel_taps       # taps of a panel, those of all walks together
    bint accumulate
    int relu
    bint past                   # tiles of short sums write past the caches

cdef int convolve(const Walk* walk, const real* x, const real* panels, Py_ssize_t panel_taps,
                  Py_ssize_t depth, const real* bias, real* y, Py_ssize_t columns, Py_ssize_t groups,
                  bint accumulate, int relu) noexcept nogil
cdef void convolve_task(const Convolution* c, const real* x, real* y, Py_ssize_t group, Py_ssize_t count,
                        Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t m0, Py_ssize_t m1,
                        const void** table) noexcept nogil
