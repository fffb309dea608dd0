"""Matrix products on the register tile, for the drivers of Linear, convolution and the recurrences."""

from fastnn._kernels.runtime cimport fnn_kernels, real

cdef Py_ssize_t panel_elements(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil

cdef void pack(const real* b, const Py_ssize_t* taps, Py_ssize_t n_taps, Py_ssize_t depth,
               Py_ssize_t depth_stride, Py_ssize_t n, Py_ssize_t n_stride, real* panels) noexcept nogil

cdef void multiply_task(const fnn_kernels* kern, const real* a, Py_ssize_t a_stride, const real* panels,
                        const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m0, Py_ssize_t m1,
                        Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t k, bint accumulate,
                        bint relu) noexcept nogil

cdef void multiply(const real* a, Py_ssize_t a_stride, const real* panels, const real* bias,
                   real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                   bint accumulate, bint relu, int threads) noexcept nogil

cdef Py_ssize_t gradient_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                                   Py_ssize_t itemsize) noexcept nogil

cdef void multiply_transposed(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride,
                              real* c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                              real* workspace, int threads) noexcept nogil

cdef void column_sums(const real* a, Py_ssize_t a_stride, real* sums, Py_ssize_t m,
                      Py_ssize_t n) noexcept nogil
