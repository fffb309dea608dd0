"""Recurrences, one step at a time: what a stream calls again and again.

The bits are those of recurrent.forward, with less to look at on the way: a call costs as much as the
arithmetic of a small layer.
"""

from libc.string cimport memcpy
from numpy import empty, ndarray

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.recurrent cimport Layer, Pass, panels_of_input, run_pass
from fastnn._kernels.runtime cimport FNN_LSTM, real


cdef class Stream:
    """A stack of layers in one direction, with their packed parameters: what a model keeps for its next call.

    Called with x (1, N, D) and a state as `forward` of the layer takes it, it returns what that returns, or
    None where x or the state are anything but contiguous arrays of the dtype and of these shapes. With
    `batch_first` x is (N, 1, D), and N has to be 1.
    """

    cdef list kept              # the arrays of panels and biases, by layer, whose addresses follow
    cdef list panels, biases
    cdef object dtype
    cdef int cell
    cdef bint batch_first
    cdef Py_ssize_t gates, depth, hidden, columns

    def __init__(self, int cell, Py_ssize_t gates, list panels, list biases, Py_ssize_t depth,
                 Py_ssize_t hidden, bint batch_first):
        self.batch_first = batch_first
        self.cell, self.gates, self.depth, self.hidden = cell, gates, depth, hidden
        self.kept, self.dtype, self.columns = [panels, biases], panels[0].dtype, biases[0].shape[1] // 2
        self.panels, self.biases = ([array.__array_interface__["data"][0] for array in arrays]
                                    for arrays in self.kept)

    def __call__(self, x, hx):
        """(y, state), or None."""
        cdef Environment _caller = default_environment()
        cdef HeldArrays arrays
        arrays.count = 0
        cdef Py_ssize_t batch, layers = len(self.panels)
        cdef bint lstm = self.cell == FNN_LSTM
        cdef int status
        c = new_c = None
        if lstm:
            if type(hx) is not tuple or len(<tuple>hx) != 2:
                return None
            hx, c = <tuple>hx
        if not (self.ours(x) and self.ours(hx) and (not lstm or self.ours(c))):
            return None
        acquire(&arrays, x, False)
        if arrays.item[0].ndim != 3:
            return None
        batch = arrays.item[0].shape[1]
        if (not batch or (self.batch_first and batch > 1)
                or not is_block(&arrays.item[0], 1, batch, self.depth)):
            return None
        acquire(&arrays, hx, False)
        if not is_block(&arrays.item[1], layers, batch, self.hidden):
            return None
        if lstm:
            acquire(&arrays, c, False)
            if not is_block(&arrays.item[2], layers, batch, self.hidden):
                return None
        y = empty((1, batch, self.hidden), self.dtype)
        shape = (layers, batch, self.hidden)
        new_h = empty(shape, self.dtype)
        acquire(&arrays, y, True)
        acquire(&arrays, new_h, True)
        if lstm:
            new_c = empty(shape, self.dtype)
            acquire(&arrays, new_c, True)
        if arrays.item[0].itemsize == sizeof(float):
            status = take_step[float](self, &arrays, NULL)
        else:
            status = take_step[double](self, &arrays, NULL)
        finish(status, "recurrent step")
        return y, ((new_h, new_c) if lstm else new_h)

    cdef bint ours(self, array):
        return type(array) is ndarray and array.dtype is self.dtype


cdef bint is_block(const Py_buffer* array, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c) noexcept:
    """Whether it is a contiguous [a, b, c] of aligned elements."""
    return (array.ndim == 3 and array.shape[0] == a and array.shape[1] == b and array.shape[2] == c
            and array.strides[2] == array.itemsize and array.strides[1] == c * array.itemsize
            and (a == 1 or array.strides[0] == b * c * array.itemsize)
            and <Py_ssize_t>array.buf % array.itemsize == 0)


cdef int take_step(Stream self, Arrays* arrays, const real* of_dtype) except -1:
    """The operands x, h, perhaps c, y, and the new h and perhaps c. Returns 1 where memory is short."""
    cdef bint lstm = self.cell == FNN_LSTM
    cdef Py_ssize_t batch = arrays.item[0].shape[1], size = batch * self.hidden, i
    cdef Py_ssize_t[2] starts = [0, batch]
    cdef const real* h = <const real*>arrays.item[1].buf
    cdef const real* c = <const real*>arrays.item[2].buf
    cdef real* new_h = <real*>arrays.item[4 if lstm else 3].buf
    cdef real* new_c = <real*>arrays.item[5].buf
    cdef const real* panels
    cdef Pass p
    cdef Layer* layer = &p.layers[0]
    cdef int status
    p.cell, p.gates, p.directions, p.batch, p.steps, p.starts = self.cell, self.gates, 1, batch, 1, starts
    p.hidden = p.y_stride = self.hidden
    p.gates_stride, p.depth = 0, self.depth
    layer.reverse = False
    layer.x, layer.y = arrays.item[0].buf, arrays.item[3 if lstm else 2].buf
    layer.gates = layer.h_prev = layer.c_prev = layer.c = NULL
    memcpy(new_h, h, len(self.panels) * size * sizeof(real))
    if lstm:
        memcpy(new_c, c, len(self.panels) * size * sizeof(real))
    for i in range(len(self.panels)):
        panels = <const real*><size_t>self.panels[i]
        layer.input_panels, layer.bias = panels, <const void*><size_t>self.biases[i]
        layer.state_panels = panels + panels_of_input(self.columns, p.depth, sizeof(real))
        layer.h = new_h + i * size
        if lstm:
            layer.c = new_c + i * size
        with nogil:
            status = run_pass(&p, of_dtype)
        if status:
            return status
        layer.x, p.depth = layer.h, self.hidden
    return 0


def stream(int cell, Py_ssize_t gates, list panels, list biases, Py_ssize_t depth, Py_ssize_t hidden,
           bint batch_first):
    """A Stream: cell, gates as recurrent.CELLS has them; panels, biases, by layer, as forward takes them."""
    return Stream(cell, gates, panels, biases, depth, hidden, batch_first)
