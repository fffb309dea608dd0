"""Elementwise functions over contiguous runs, and softmax over rows.

Memory-bound work: a run is cut in blocks small enough to leave room for others in L2 and large enough that
a block's cost hides the loop's; threads share the blocks. The cut depends on the length alone.
"""

from cython.parallel cimport prange
from libc.string cimport memset

from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport ceil_div, fnn_kernels, kernels, real, team_size

cdef extern from "kernels.h" nogil:
    int FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH, FNN_SILU, FNN_GELU, FNN_GELU_TANH, FNN_EXP

RELU, LEAKY_RELU, SIGMOID, TANH = FNN_RELU, FNN_LEAKY_RELU, FNN_SIGMOID, FNN_TANH
SILU, GELU, GELU_TANH, EXP = FNN_SILU, FNN_GELU, FNN_GELU_TANH, FNN_EXP

cdef Py_ssize_t BLOCK = 16384   # elements
cdef double NS_STREAM = 0.2     # a number read, written, or compared
cdef double NS_FUNCTION = 1.0   # a number through exp or its kin


cdef double cost(int op, Py_ssize_t n) noexcept nogil:
    """Serial nanoseconds of a function over n numbers."""
    return n * (NS_STREAM if op == FNN_RELU or op == FNN_LEAKY_RELU else NS_FUNCTION)


def map(int op, double alpha, const real[::1] x, real[::1] y):
    """y = f(x); `op` names f, `alpha` is the slope of LEAKY_RELU."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t n = x.shape[0], block
    for block in prange(ceil_div(n, BLOCK), nogil=True, schedule="static",
                        num_threads=team_size(cost(op, n))):
        k.map(op, min(BLOCK, n - block * BLOCK), alpha, &x[block * BLOCK], &y[block * BLOCK])


def map_backward(int op, double alpha, const real[::1] grad_y, const real[::1] saved, real[::1] grad_x):
    """grad_x = grad_y f', from what was saved: the output of RELU, SIGMOID, TANH, EXP, else the input."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t n = saved.shape[0], block
    for block in prange(ceil_div(n, BLOCK), nogil=True, schedule="static",
                        num_threads=team_size(cost(op, n))):
        k.map_backward(op, min(BLOCK, n - block * BLOCK), alpha, &grad_y[block * BLOCK],
                       &saved[block * BLOCK], &grad_x[block * BLOCK])


def softmax(const real[:, ::1] x, real[:, ::1] y, bint log):
    """Each row's softmax, or its logarithm."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t rows = x.shape[0], n = x.shape[1], row
    if n == 0:
        return
    for row in prange(rows, nogil=True, schedule="static", num_threads=team_size(cost(FNN_EXP, rows * n))):
        k.softmax(n, &x[row, 0], &y[row, 0], log)


def cross_entropy(const real[:, ::1] x, const Py_ssize_t[::1] targets, real[::1] losses):
    """-log softmax(x)[target] of each row; of a row whose target is no class, 0."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t rows = x.shape[0], n = x.shape[1], row
    for row in prange(rows, nogil=True, schedule="static", num_threads=team_size(cost(FNN_EXP, rows * n))):
        losses[row] = <real>k.cross_entropy(n, &x[row, 0], targets[row]) if 0 <= targets[row] < n else 0


def cross_entropy_backward(const real[:, ::1] x, const Py_ssize_t[::1] targets, const double[::1] scales,
                           real[:, ::1] grad_x):
    """scale (softmax(x) - (1 at the target)) of each row; of a row whose target is no class, 0."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t rows = x.shape[0], n = x.shape[1], row
    for row in prange(rows, nogil=True, schedule="static", num_threads=team_size(cost(FNN_EXP, rows * n))):
        if 0 <= targets[row] < n:
            k.cross_entropy_backward(n, &x[row, 0], targets[row], scales[row], &grad_x[row, 0])
        else:
            memset(&grad_x[row, 0], 0, n * sizeof(real))


def softmax_backward(const real[:, ::1] grad_y, const real[:, ::1] y, real[:, ::1] grad_x, bint log):
    """Each row's gradient from the output of `softmax`."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t rows = y.shape[0], n = y.shape[1], row
    if n == 0:
        return
    for row in prange(rows, nogil=True, schedule="static", num_threads=team_size(cost(FNN_EXP, rows * n))):
        k.softmax_backward(n, &grad_y[row, 0], &y[row, 0], &grad_x[row, 0], log)
