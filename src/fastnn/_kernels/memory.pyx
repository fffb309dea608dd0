"""Arrays and workspaces in memory that was used before: see csrc/blocks.h."""

from math import prod

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport free, malloc
from numpy import empty as _empty
from numpy import frombuffer

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


def release():
    """Give the system back what is kept for arrays to come."""
    fnn_block_release()
