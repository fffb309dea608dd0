"""What other drivers of convolutions need of the interface: windows."""

from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef struct Filter:
    # The window of a convolution, in the order in which the interface takes it.
    Py_ssize_t r, s, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups
    bint by_rows   # copy the images with their padding, so that a filter row is one run of S * C numbers

cdef Filter window(tuple geometry)
cdef Py_ssize_t padded(Py_ssize_t size, Py_ssize_t pad, Py_ssize_t output, Py_ssize_t stride,
                       Py_ssize_t reach) noexcept nogil
cdef int allocate_taps(Walk* walk, Py_ssize_t taps) noexcept nogil
cdef void fill_taps(Walk* walk, const Filter* f, bint by_rows) noexcept nogil
cdef real* padded_source(Walk* walk, const real* x, Py_ssize_t h, Py_ssize_t w, Py_ssize_t c, Py_ssize_t x_n,
                         Py_ssize_t x_h, Py_ssize_t x_w, Py_ssize_t x_c, const Filter* f) noexcept nogil
cdef int source_walk(Walk* walk, const real* x, const Py_ssize_t* shape, const Py_ssize_t* strides,
                     const Filter* f, Py_ssize_t p, Py_ssize_t q, Py_ssize_t y_pixel,
                     real** copy) noexcept nogil
cdef void free_walk(Walk* walk, void* copy, Py_ssize_t pixel) noexcept nogil
