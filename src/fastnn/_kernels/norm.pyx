"""Normalisation: moments of columns and affine maps for batch norm, rows for layer norm.

Sums over many rows are taken in blocks of BLOCK rows, in the dtype of the data; the blocks' sums are added in
float64, in order. So a float32 sum of a million numbers keeps its digits, and the bits do not depend on the
number of threads.
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc

from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport ceil_div, fnn_kernels, kernels, real, team_size

cdef enum:
    BLOCK = 64

cdef double NS_ELEMENT = 0.15   # an element of memory-bound work


def column_moments(const real[:, ::1] x, const real[::1] center, const real[:, ::1] g, double[:, ::1] sums):
    """With d_ij = x_ij - center_j: sums of d_ij g_ij, of d_ij and of g_ij over i, [3, C].

    Without g (no rows) of d_ij^2 and of d_ij, [2, C].
    """
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t m = x.shape[0], c = x.shape[1], blocks = ceil_div(m, BLOCK), b, j
    cdef Py_ssize_t width = sums.shape[0] * c
    cdef real* parts
    cdef double* total
    sums[:, :] = 0
    if m == 0 or c == 0:
        return
    parts = <real*>malloc(blocks * width * sizeof(real))
    if parts is NULL:
        raise MemoryError("batch_norm: no memory for the workspace")
    for b in prange(blocks, nogil=True, schedule="static", num_threads=team_size(NS_ELEMENT * m * c)):
        k.column_moments(min(<Py_ssize_t>BLOCK, m - b * BLOCK), c, &x[b * BLOCK, 0], &center[0],
                         &g[b * BLOCK, 0] if g.shape[0] else NULL, parts + b * width)
    total = &sums[0, 0]
    for b in range(blocks):
        for j in range(width):
            total[j] += parts[b * width + j]
    free(parts)


def column_affine(const real[:, ::1] x, const real[::1] center, const real[::1] a, const real[::1] b,
                  const real[:, ::1] g, const real[::1] d, real[:, ::1] y):
    """y_ij = (x_ij - center_j) a_j + b_j, plus d_j g_ij where g has rows."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t m = x.shape[0], c = x.shape[1], block
    if c == 0:
        return
    for block in prange(ceil_div(m, BLOCK), nogil=True, schedule="static",
                        num_threads=team_size(NS_ELEMENT * m * c)):
        k.column_affine(min(<Py_ssize_t>BLOCK, m - block * BLOCK), c, &x[block * BLOCK, 0], &center[0],
                        &a[0], &b[0], &g[block * BLOCK, 0] if g.shape[0] else NULL,
                        &d[0] if g.shape[0] else NULL, &y[block * BLOCK, 0])


def layer_norm(const real[:, ::1] x, const real[::1] w, const real[::1] b, double eps, real[:, ::1] y):
    """Normalise each row; w and b may be empty."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t m = x.shape[0], n = x.shape[1], i
    if n == 0:
        return
    for i in prange(m, nogil=True, schedule="static", num_threads=team_size(2 * NS_ELEMENT * m * n)):
        k.layer_norm(n, &x[i, 0], &w[0] if w.shape[0] else NULL, &b[0] if b.shape[0] else NULL, eps, &y[i, 0])


def layer_norm_backward(const real[:, ::1] grad_y, const real[:, ::1] x, const real[::1] w, double eps,
                        real[:, ::1] grad_x, double[::1] grad_w, double[::1] grad_b):
    """grad_x by rows; grad_w and grad_b summed over blocks of rows in order."""
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t m = x.shape[0], n = x.shape[1], blocks = ceil_div(m, BLOCK), b, j
    cdef real* sums
    grad_w[:] = 0
    grad_b[:] = 0
    if m == 0 or n == 0:
        return
    sums = <real*>calloc(2 * blocks * n, sizeof(real))
    if sums is NULL:
        raise MemoryError("layer_norm_backward: no memory for the workspace")
    for b in prange(blocks, nogil=True, schedule="static", num_threads=team_size(4 * NS_ELEMENT * m * n)):
        layer_norm_block(k, b * BLOCK, min(m, (b + 1) * BLOCK), n, &grad_y[0, 0], &x[0, 0],
                         &w[0] if w.shape[0] else NULL, eps, &grad_x[0, 0], sums + 2 * b * n)
    for b in range(blocks):
        for j in range(n):
            grad_w[j] += sums[2 * b * n + j]
            grad_b[j] += sums[(2 * b + 1) * n + j]
    free(sums)


cdef void layer_norm_block(const fnn_kernels* k, Py_ssize_t first, Py_ssize_t last, Py_ssize_t n,
                           const real* grad_y, const real* x, const real* w, double eps, real* grad_x,
                           real* sums) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        k.layer_norm_backward(n, grad_y + i * n, x + i * n, w, eps, grad_x + i * n, sums, sums + n)
