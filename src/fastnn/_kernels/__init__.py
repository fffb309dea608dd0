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
