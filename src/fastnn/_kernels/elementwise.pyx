"""Elementwise operations over contiguous runs: the run is cut in blocks, threads share the blocks.

Memory-bound work: a block is small enough to leave room for others in L2 and large enough that its
cost hides the loop's. The cut depends on the length alone.
"""

from cython.parallel cimport prange

from fastnn._kernels.runtime cimport fnn_kernels, kernels, real, team_size

cdef Py_ssize_t BLOCK = 16384       # elements
cdef double NS_PER_BYTE = 0.1       # one core streams about 10 GB/s


def relu(const real[::1] x, real[::1] y):
    """y = max(0, x), NaN kept."""
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t n = x.shape[0], block
    if n == 0:
        return
    for block in prange((n + BLOCK - 1) // BLOCK, nogil=True, schedule="static",
                        num_threads=team_size(2.0 * NS_PER_BYTE * n * sizeof(real))):
        k.relu(min(BLOCK, n - block * BLOCK), &x[block * BLOCK], &y[block * BLOCK])


def relu_backward(const real[::1] grad_y, const real[::1] y, real[::1] grad_x):
    """grad_x = grad_y where y > 0, else 0."""
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t n = y.shape[0], block
    if n == 0:
        return
    for block in prange((n + BLOCK - 1) // BLOCK, nogil=True, schedule="static",
                        num_threads=team_size(3.0 * NS_PER_BYTE * n * sizeof(real))):
        k.relu_backward(min(BLOCK, n - block * BLOCK), &grad_y[block * BLOCK], &y[block * BLOCK],
                        &grad_x[block * BLOCK])
