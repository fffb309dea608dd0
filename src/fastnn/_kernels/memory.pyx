"""Arrays and workspaces in memory that was used before (csrc/blocks.h), and copies of arrays in C order."""

from math import prod

from cpython.buffer cimport PyBUF_STRIDES, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from numpy import copyto, ndarray
from numpy import empty as _empty
from numpy import empty_like as _empty_like

from fastnn._kernels.arrays cimport HeldArrays, acquire
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport ceil_div, fnn_kernels, kernels, raise_interrupt
from fastnn._kernels.share cimport share

cdef extern from "blocks.h" nogil:
    void* fnn_block_take(size_t size)
    void fnn_block_give(void* data)
    void* fnn_small_take(size_t size)
    void fnn_small_give(void* data)
    void fnn_block_release()

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    # Bytes from which on glibc asks the system, which fills its pages with zeros, time and again. Forward and
    # backward of an RNN, (100, 32, 64, 128), whose arrays take 1.6 MB each: 8.6 ms before, 5.8 where kept.
    SMALLEST = 128 << 10
    LARGEST = 1 << 30    # beyond, keeping it would be most of a small machine
    PART_BYTES = 32 * 1024  # of a copy in C order: a task
    PART_ROWS = 16          # or a multiple: whole tiles
    FEW_ROWS = 8            # fewer are left to NumPy: 3 x 224 x 224 to C order 36 us, by tiles 71

cdef double NS_PER_BYTE = 0.03  # copied in C order


cdef void* take(size_t size) noexcept nogil:
    """Memory for `size` bytes from a cache line on, or NULL; due to `give` with the same size."""
    return fnn_small_take(size) if size < SMALLEST else fnn_block_take(size)


cdef void give(void* data, size_t size) noexcept nogil:
    """Give back what `take` returned for this size; NULL is nothing."""
    if data is NULL:
        return
    if size < SMALLEST:
        fnn_small_give(data)
    else:
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
    if not SMALLEST <= size <= LARGEST or dtype.hasobject:  # references have to be NULL at first
        return _empty(shape, dtype)
    return ndarray(shape, dtype, Block(size))


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


# --- Copies in C order


# y [images][rows][columns], contiguous; of x the rows are.
cdef struct Turn:
    const fnn_kernels* kern
    Py_ssize_t itemsize
    Py_ssize_t images, rows, columns
    Py_ssize_t image, column    # of x, bytes from one to the next
    Py_ssize_t part, parts      # of a task, rows or columns, of which there are more; tasks of an image
    const char* x
    char* y


cdef bint lies_turned(const Py_buffer* x, Turn* turn) noexcept:
    """Whether x is such a transposition, of numbers of 4 or 8 bytes; axes that lie as one count as one."""
    cdef Py_ssize_t size[3]
    cdef Py_ssize_t step[3]
    cdef int i, count = 0
    if x.itemsize not in (4, 8) or <Py_ssize_t>x.buf % x.itemsize:
        return False
    for i in range(x.ndim):
        if x.shape[i] == 1:
            continue
        if x.strides[i] % x.itemsize:
            return False
        if count and step[count - 1] == x.shape[i] * x.strides[i]:
            size[count - 1] *= x.shape[i]
            step[count - 1] = x.strides[i]
            continue
        if count == 3:
            return False
        size[count], step[count] = x.shape[i], x.strides[i]
        count += 1
    if count < 2 or step[count - 2] != x.itemsize:
        return False
    turn.images, turn.image = 1, 0
    if count == 3:
        turn.images, turn.image = size[0], step[0]
    turn.rows, turn.columns, turn.column = size[count - 2], size[count - 1], step[count - 1]
    turn.itemsize = x.itemsize
    return turn.rows >= FEW_ROWS


cdef void turn_parts(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Turn* turn = <const Turn*>job
    cdef Py_ssize_t task, image, row, column, rows, columns
    for task in range(first, last):
        image, row, column, rows, columns = task // turn.parts, 0, 0, turn.rows, turn.columns
        if rows >= columns:
            row = task % turn.parts * turn.part
            rows = min(turn.part, rows - row)
        else:
            column = task % turn.parts * turn.part
            columns = min(turn.part, columns - column)
        turn.kern.transpose(columns, rows,
                            turn.x + image * turn.image + column * turn.column + row * turn.itemsize,
                            turn.column // turn.itemsize,
                            turn.y + ((image * turn.rows + row) * turn.columns + column) * turn.itemsize,
                            turn.columns)


cdef void run_turn(Turn* turn) noexcept nogil:
    cdef Py_ssize_t shorter = min(turn.rows, turn.columns) * turn.itemsize
    cdef Py_ssize_t longer = max(turn.rows, turn.columns)
    turn.kern = kernels(turn.itemsize)
    turn.part = ceil_div(PART_BYTES, PART_ROWS * shorter) * PART_ROWS
    turn.parts = ceil_div(longer, turn.part)
    share(turn_parts, turn, turn.images * turn.parts, NS_PER_BYTE * turn.images * longer * shorter)


def copy_in_order(y, x):
    """y = x, of one shape and dtype; y is in C order, and aligned if x is.

    Images that come from channels-first to channels-last memory, or back, are transposed by register tiles
    and by several threads. NumPy copies them number by number (Zen 5, one thread: 64 x 56 x 56 51 -> 21 us,
    3 x 224 x 224 119 -> 11).
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Turn turn
    cdef bint turned
    if x.dtype.hasobject:  # whose references are counted
        copyto(y, x)
        return
    acquire(&arrays, x, False)
    acquire(&arrays, y, True)
    turned = arrays.item[1].len > 0 and lies_turned(&arrays.item[0], &turn)
    if turned:
        turn.x, turn.y = <const char*>arrays.item[0].buf, <char*>arrays.item[1].buf
        with nogil:
            run_turn(&turn)
    raise_interrupt()
    if not turned:
        copyto(y, x)
