"""Arrays at the boundary, by the buffer protocol itself.

A typed memoryview costs 0.4 microseconds an argument, most of it for checks that functional/ has made; this
costs 0.1. For the calls that small networks make by the thousand.
"""

from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer

from libc.string cimport memset

from fastnn._kernels.runtime cimport raise_interrupt

cdef struct Arrays:
    Py_buffer item[12]
    int count

cdef inline int acquire(Arrays* arrays, object array, bint writable) except -1:
    """Hold one more array; `release` is due whatever happens next."""
    PyObject_GetBuffer(array, &arrays.item[arrays.count],
                       PyBUF_STRIDES | PyBUF_WRITABLE if writable else PyBUF_STRIDES)
    arrays.count += 1
    return 0

cdef inline int acquire_or_none(Arrays* arrays, object array, bint writable) except -1:
    """Likewise, where None is an array at NULL."""
    if array is not None:
        return acquire(arrays, array, writable)
    memset(&arrays.item[arrays.count], 0, sizeof(Py_buffer))
    arrays.count += 1
    return 0

cdef inline char* at(const void* array, Py_ssize_t offset) noexcept nogil:
    """So many bytes on; of an array at NULL, NULL."""
    return NULL if array is NULL else <char*>array + offset

cdef inline char* inner(const Py_buffer* array, Py_ssize_t i) noexcept nogil:
    """Where array[i] begins; of an array at NULL, NULL."""
    return NULL if array.buf is NULL else <char*>array.buf + i * array.strides[0]

cdef inline void release(Arrays* arrays) noexcept:
    cdef int i
    for i in range(arrays.count):
        PyBuffer_Release(&arrays.item[i])

cdef inline int acquire_others(Arrays* arrays, object panels, object y, object bias) except -1:
    """After x: what else a product reads and writes, of its dtype. A bias of None is not held."""
    cdef int i
    acquire(arrays, panels, False)
    acquire(arrays, y, True)
    if bias is not None:
        acquire(arrays, bias, False)
    for i in range(1, arrays.count):
        if arrays.item[i].itemsize != arrays.item[0].itemsize:
            raise TypeError("a product: its arrays are of several dtypes, expected one")
    return 0

cdef inline int finish(int status, str function) except -1:
    """Raise what ended a driver's work before its time, if something did."""
    raise_interrupt()
    if status:
        raise MemoryError(f"{function}: no memory for the workspace")
    return 0
