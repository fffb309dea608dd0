"""Tiles of Winograd's F(4 x 4, 3 x 3), shared by the forward pass and the gradient of the filters."""

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.runtime cimport real
from fastnn._kernels.walk cimport Walk

cdef enum:
    PRODUCTS = 36

cdef void tile_walk(Walk* walk, Py_ssize_t* offsets, const Py_ssize_t* shape, const Py_ssize_t* strides,
                    Py_ssize_t size, Py_ssize_t p, Py_ssize_t q, Py_ssize_t pad_h,
                    Py_ssize_t pad_w) noexcept
cdef void tile_pixels(const real* y, Py_ssize_t p, Py_ssize_t q, Py_ssize_t k, Py_ssize_t tile,
                      const void** pixels) noexcept nogil
cdef int winograd_forward(Arrays* arrays, Py_ssize_t pad_h, Py_ssize_t pad_w, bint accumulate,
                          int relu) noexcept
