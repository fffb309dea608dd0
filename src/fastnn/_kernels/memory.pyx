"""Arrays and workspaces in memory that was used before: see csrc/blocks.h."""

from math import prod

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free, malloc
from numpy import empty as _empty
from numpy import empty_like as _empty_like
from numpy import frombuffer, ndarray

cdef extern from "blocks.h" nogil:
    void* fnn_block_take(size_t size)
    void fnn_block_give(void* data)
    void fnn_block_release()

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    # Bytes from which on glibc asks the system, which fills its pages with zeros, time and again. Forward and
    # backward of an RNN, (100, 32, 64, 128), whose arrays take 1.6 MB each: 8.6 ms before, 5.8 where kept.
    SMALLEST = 128 << 10
    LARGEST = 1 << 30    # beyond, keeping it would be most of a small machine


cdef void* take(size_t size) noexcept nogil:
    """Memory for `size` bytes, or NULL; due to `give` with the same size."""
    return malloc(max(size, <size_t>1)) if size < SMALLEST else fnn_block_take(size)


cdef void give(void* data, size_t size) noexcept nogil:
    """Give back what `take` returned for this size; NULL is nothing."""
    if size < SMALLEST:
        free(data)
    elif data is not NULL:
        fnn_block_give(data)


cdef class Block:
    """Bytes for one array, given back when the last array that views them is gone."""

    cdef void* data
    cdef Py_ssize_t size

    def __cinit__(self, Py_ssize_t size):
        self.data = fnn_block_take(size)
        if self.data is NULL:
            raise MemoryError(f"no memory for an array of {size} bytes")
        self.size = size

    def __dealloc__(self):
        if self.data is not NULL:
            fnn_block_give(self.data)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 0, flags)


def empty(tuple shape, dtype):
    """numpy.empty, in memory that was used before where the array is large."""
    size = dtype.itemsize * prod(shape)
    if size > PY_SSIZE_T_MAX:  # of which NumPy says that it is a wrong value
        raise MemoryError(f"no memory for an array of shape {shape} and dtype {dtype}")
    if not SMALLEST <= size <= LARGEST:
        return _empty(shape, dtype)
    return frombuffer(Block(size), dtype).reshape(shape)


cdef bint is_dense(const Py_buffer* array) noexcept:
    """Whether the elements fill the memory they lie in, in whatever order of the axes."""
    cdef Py_ssize_t stride = array.itemsize
    cdef int axis, left = 0
    if array.len == 0:
        return True
    for axis in range(array.ndim):
        left += array.shape[axis] > 1
    while left:
        for axis in range(array.ndim):
            if array.strides[axis] == stride and array.shape[axis] > 1:
                break
        else:
            return False
        stride *= array.shape[axis]
        left -= 1
    return True


def empty_like(x):
    """Likewise of the shape and dtype of x, each element where x has it; None where x is not dense."""
    cdef Py_buffer buffer
    cdef bint dense
    PyObject_GetBuffer(x, &buffer, PyBUF_STRIDES)
    dense, size = is_dense(&buffer), buffer.len
    PyBuffer_Release(&buffer)
    if not dense:
        return None
    if not SMALLEST <= size <= LARGEST:
        return _empty_like(x)
    return ndarray(x.shape, x.dtype, Block(size), 0, x.strides)


def release():
    """Give the system back what is kept for arrays to come."""
    fnn_block_release()
