"""Kernels: from an array to a register.

::

    functional/conv.py      checks shapes and dtypes, allocates the output
          |                 typed memoryviews, contiguous (channels-last for images)
          v
    _kernels/conv.pyx       cuts the work into blocks (by shape alone), shares them among threads,
          |                 packs operands, fills tables of row pointers; no Python inside
          |                 fnn_tile: pointers, lengths, flags
          v
    csrc/gemm_tile.h        a register tile: MR x NR sums, one fused multiply-add a step
          |                 written once over `vec` (simd.h)
          v
    csrc/isa_*.c            the same bodies compiled for each instruction set, float and double;
                            runtime.pyx picks the table once, at import

A driver asks ``kernels(sizeof(real))`` for the table and ``team_size(nanoseconds)`` for the number
of threads. Every ``cdef`` function is ``noexcept nogil``; nothing below this package raises a shape
error, nothing above it sees a pointer.
"""

import os as _os

# GNU OpenMP's idle threads spin for milliseconds by default, and take the processor from NumPy's own threads
# or another process: training a small network beside a busy process took 12 times as long (15 epochs of
# digits, 12.1 s, against 1.1 s with 1000 turns). libgomp reads the variable once, when it is loaded, so it is
# set for that moment alone, and never against the user's own choice.
WAITING = "as the environment says"
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & _os.environ.keys():
    WAITING = "spin 1000 turns, then sleep (GNU OpenMP)"
    _os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        from . import runtime as _runtime
    finally:
        del _os.environ["GOMP_SPINCOUNT"]
