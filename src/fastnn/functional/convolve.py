"""The mathematical convolution of two matrices."""

from __future__ import annotations

from .. import _checks
from .conv import conv2d


def convolve2d(a, b):
    """Full mathematical convolution of two matrices.

    ::

        C[s, t] = sum_{m, n} A[m, n] B[s - m, t - n]      0 <= s < ma + mb - 1,  0 <= t < na + nb - 1

    It is the cross-correlation of A, padded by the size of B less one, with B rotated by 180 degrees.

    Parameters
    ----------
    a, b : ndarray, (ma, na) and (mb, nb)
        float32 or float64, both of one dtype, neither empty.

    Returns
    -------
    c : ndarray, (ma + mb - 1, na + nb - 1)

    Raises
    ------
    ValueError
        If an argument is not a matrix, or is empty.
    TypeError
        If a dtype is neither float32 nor float64, or dtypes are mixed.
    """
    a = _checks.as_float_array("convolve2d: a", a, 2)
    b = _checks.as_float_array("convolve2d: b", b, 2, a.dtype)
    for name, matrix in (("a", a), ("b", b)):
        if matrix.size == 0:
            raise ValueError(f"convolve2d: {name} is empty (shape {matrix.shape})")
    mb, nb = b.shape
    return conv2d(a[None, None], b[None, None, ::-1, ::-1], padding=(mb - 1, nb - 1))[0, 0]
