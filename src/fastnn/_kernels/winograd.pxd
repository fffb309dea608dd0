"""Tiles of Winograd's algorithm, shared by the forward pass and the gradient of the filters."""

from fastnn._kernels.arrays cimport Arrays
from fastnn._kernels.runtime cimport fnn_tile_factors, real
from fastnn._kernels.walk cimport Pixel, Walk

cdef enum:
    MOST_PRODUCTS = 81   # of a tile of 4 x 4 outputs with stride 2

cdef struct Tiling:
    int size                          # inputs of a tile along each axis
    int outputs                       # of a tile along each axis
    Py_ssize_t n, rows, columns       # images, and tiles of each
    Py_ssize_t p, q                   # outputs of an image
    Py_ssize_t dilation_h, dilation_w

cdef void tile_walk(Tiling* tiling, Walk* walk, int size, Py_ssize_t* offsets, const Py_ssize_t* shape,
                    const Py_ssize_t* strides, Py_ssize_t itemsize, Py_ssize_t p, Py_ssize_t q,
                    Py_ssize_t pad_h, Py_ssize_t pad_w, Py_ssize_t dilation_h,
                    Py_ssize_t dilation_w) noexcept
cdef Pixel first_output(const Tiling* tiling, Py_ssize_t tile) noexcept nogil
cdef void tile_pixels(const Tiling* tiling, const real* y, Py_ssize_t y_pixel, Pixel first,
                      const void** pixels) noexcept nogil
cdef int winograd_forward(Arrays* arrays, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                          Py_ssize_t dilation_h, Py_ssize_t dilation_w, bint accumulate, int relu) noexcept

cdef inline int products_of(int factor, int size) noexcept nogil:
    """Products of a tile along an axis that have this factor: with stride 2 all of odd inputs the last."""
    cdef int last = fnn_tile_factors(size) - 1
    return size - last if factor == last else 1
