"""Arrays at the boundary, by the buffer protocol itself.

A typed memoryview costs 0.4 microseconds an argument and code of its own for each dtype; this costs 0.1. Of
what a memoryview would check the dtype is left, where products are: who calls has checked shapes and strides.
A function that holds arrays begins with these lines, one that Python calls with the floating-point
environment (environment.pxd) and these::

    cdef HeldArrays arrays
    arrays.count = 0

What it then acquires is released when it ends, by return or exception. See csrc/held_arrays.h.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyObject_GetBuffer

from libc.string cimport memset

from fastnn._kernels.runtime cimport raise_interrupt

cdef extern from "held_arrays.h":
    ctypedef struct Arrays "fnn_arrays":
        Py_buffer item[12]
        int count
    ctypedef Arrays HeldArrays "fnn_held_arrays"

cdef inline int hold(Arrays* arrays, object array, bint writable, int flags) except -1:
    PyObject_GetBuffer(array, &arrays.item[arrays.count],
                       PyBUF_STRIDES | flags | (PyBUF_WRITABLE if writable else 0))
    arrays.count += 1
    return 0

cdef inline int acquire(Arrays* arrays, object array, bint writable) except -1:
    """Hold one more array."""
    return hold(arrays, array, writable, 0)

cdef inline int acquire_or_none(Arrays* arrays, object array, bint writable, int flags=0) except -1:
    """Likewise, where None is an array at NULL."""
    if array is not None:
        return hold(arrays, array, writable, flags)
    memset(&arrays.item[arrays.count], 0, sizeof(Py_buffer))
    arrays.count += 1
    return 0

cdef inline int acquire_floats(Arrays* arrays, object array) except -1:
    """Likewise, to read, so that `one_dtype` can tell its dtype, for which not every buffer has a name."""
    return hold(arrays, array, False, PyBUF_FORMAT)

cdef inline char* at(const void* array, Py_ssize_t offset) noexcept nogil:
    """So many bytes on; of an array at NULL, NULL."""
    return NULL if array is NULL else <char*>array + offset

cdef inline char* inner(const Py_buffer* array, Py_ssize_t i) noexcept nogil:
    """Where array[i] begins; of an array at NULL, NULL."""
    return NULL if array.buf is NULL else <char*>array.buf + i * array.strides[0]

cdef inline int one_dtype(const Arrays* arrays, int first) except -1:
    """Raise TypeError unless the arrays from `first` on are all float32 or all float64."""
    cdef int i
    cdef const Py_buffer* array
    for i in range(first, arrays.count):
        array = &arrays.item[i]
        if array.buf is not NULL and (array.format[0] not in (c"f", c"d") or array.format[1]
                                      or array.itemsize != arrays.item[first].itemsize):
            raise TypeError("a product's arrays are of several dtypes, or of one that is neither float32 nor "
                            "float64")
    return 0

cdef inline int acquire_all(Arrays* arrays, tuple read, tuple written) except -1:
    """Hold arrays of one dtype, of which some may be None, but not the first."""
    cdef int first = arrays.count
    for array in read:
        acquire_or_none(arrays, array, False, PyBUF_FORMAT)
    for array in written:
        acquire_or_none(arrays, array, True, PyBUF_FORMAT)
    return one_dtype(arrays, first)

cdef inline int acquire_others(Arrays* arrays, object panels, object y, object bias) except -1:
    """After x, by `acquire_floats`: what else a product reads and writes. A bias of None is not held."""
    acquire_floats(arrays, panels)
    hold(arrays, y, True, PyBUF_FORMAT)
    if bias is not None:
        acquire_floats(arrays, bias)
    return one_dtype(arrays, 0)

cdef inline int finish(int status, str function) except -1:
    """Raise what ended a driver's work before its time, if something did."""
    raise_interrupt()
    if status:
        raise MemoryError(f"{function}: no memory for the workspace")
    return 0
