"""Winograd's convolution with filters that are transformed already, for prepared calls."""

from fastnn._kernels.arrays cimport Arrays

cdef int winograd_forward(Arrays* arrays, int size, Py_ssize_t pad_h, Py_ssize_t pad_w,
                          Py_ssize_t dilation_h, Py_ssize_t dilation_w, bint accumulate, int relu) noexcept
