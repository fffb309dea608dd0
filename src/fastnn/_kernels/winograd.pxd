"""Tiles of Winograd's algorithm, shared by the forward pass and the gradient of the filters."""

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.runtime cimport fnn_tile_factors, real
from fastnn._kernels.walk cimport Walk

cdef enum:
    MOST_PRODUCTS = 81   # of a tile of 4 x 4 outputs with stride 2

cdef void tile_walk(Walk* walk, int size, Py_ssize_t* offsets, const Py_ssize_t* shape,
                    const Py_ssize_t* strides, Py_ssize_t itemsize, Py_ssize_t p, Py_ssize_t q,
                    Py_ssize_t pad_h, Py_ssize_t pad_w) noexcept
cdef void tile_pixels(int size, const real* y, Py_ssize_t p, Py_ssize_t q, Py_ssize_t k, Py_ssize_t tile,
                      const void** pixels) noexcept nogil
cdef int winograd_forward(Arrays* arrays, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                          bint accumulate, int relu) noexcept

cdef inline int products_of(int factor, int size) noexcept nogil:
    """Products of a tile along an axis that have this factor: with stride 2 all of odd inputs the last."""
    cdef int last = fnn_tile_factors(size) - 1
    return size - last if factor == last else 1
