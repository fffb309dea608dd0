"""A^T B, and its tiles for the drivers of gradients."""

from fastnn._kernels.runtime cimport Watch, fnn_kernels, fnn_tile, real

cdef Py_ssize_t columns_in_place(const fnn_kernels* kern, Py_ssize_t rows, Py_ssize_t columns,
                                 Py_ssize_t b_stride, Py_ssize_t itemsize) noexcept nogil

cdef void fetch_rows(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t b_stride, Py_ssize_t in_place,
                     Py_ssize_t tiles, Py_ssize_t b_bytes) noexcept nogil

cdef void tiles_in_place(const fnn_kernels* kern, fnn_tile* tile, const real* b, Py_ssize_t b_stride,
                         Py_ssize_t in_place, const real* panels, Py_ssize_t columns, Py_ssize_t offset,
                         Py_ssize_t m0, Py_ssize_t m1, real* c, Py_ssize_t c_stride) noexcept nogil

cdef void column_tiles(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t offset, Py_ssize_t m0,
                       Py_ssize_t m1, real* c, Py_ssize_t c_stride) noexcept nogil

cdef void copy_columns(const void** rows, Py_ssize_t count, Py_ssize_t first, Py_ssize_t columns, real* copy,
                       Py_ssize_t pitch) noexcept nogil

cdef Py_ssize_t gradient_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize,
                                   int threads) noexcept nogil

cdef void multiply_transposed(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride,
                              real* c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint accumulate,
                              real* workspace, int threads, Watch* watch) noexcept nogil
