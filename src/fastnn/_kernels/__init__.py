"""Kernels: from an array to a register.

::

    functional/conv.py      checks shapes and dtypes, allocates the output
          |                 buffers (arrays.pxd), contiguous (channels-last for images)
          v
    _kernels/conv.pyx       cuts the work (sums by shape alone), deals it to threads (csrc/tasks.h),
          |                 packs operands, fills tables of row pointers; no Python inside
          |                 fnn_tile: pointers, lengths, flags
          v
    csrc/gemm_tile.h        a register tile: MR x NR sums, one fused multiply-add a step
          |                 written once over `vec` (simd.h)
          v
    csrc/isa_*.c            the same bodies compiled for each instruction set, float and double;
                            runtime.pyx picks the table once, at import

Of a convolution, conv.pyx and conv_backward.pyx are the interface, walk.pyx says which pixels a
pixel reads and copies images with their padding, and the drivers are

====================  ============================================================================
convolve.pyx          forward and gradient of the input: a product without an im2col buffer
winograd.pyx          the same for 3 x 3 filters by Winograd; with stride 2 forward alone
winograd_forward.pyx  their interface; few tiles, three channels, and filters that serve one call
rows.pyx              depthwise and narrow groups, both ways and the gradient of the filters
chain.pyx             several forward, rows by rows: what lies between them stays in cache (frozen networks)
col2im.pyx            gradient of an input of few channels, where conv_backward.pyx has no faster way
conv_gradient.pyx     gradient of the filters; im2col.pyx where pixels are few, winograd_gradient.pyx
====================  ============================================================================

recurrent.pyx and recurrent_gradient.pyx go through the steps of RNN, LSTM and GRU, stream.pyx takes one.
gemm.pyx has the products of Linear and the recurrences with packed weights, unpacked.pyx those of Linear in
training, transposed.pyx those of gradients; pack.pyx brings operands into the tile's form and gradients out
of it; memory.pyx keeps large blocks of memory for the next call, and copies images from one order of their
axes to another.

Where tasks are alike and need nothing of each other, as in pool.pyx, elementwise.pyx, norm.pyx and Winograd's
drivers, share.pyx is the loop over them.

A driver asks ``kernels(sizeof(real))`` for the table and ``team_size(nanoseconds)`` for the number
of threads. What computes is ``noexcept nogil``; ``cdef`` functions that take Python objects apart may raise.
Nothing below this package raises a shape error, nothing above it sees a pointer.
"""

import os as _os

# GNU OpenMP's idle threads spin for milliseconds by default, and take the processor from NumPy's own threads
# or another process: training a small network beside a busy process took 12 times as long (15 epochs of
# digits, 12.1 s, against 1.1 s with 1000 turns). libgomp reads the variable once, when it is loaded, so it is
# set for that moment alone, and never against the user's own choice.
WAITING = "as the environment says"
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & _os.environ.keys():
    WAITING = "spin 2000 turns, then sleep (GNU OpenMP)"
    _os.environ["GOMP_SPINCOUNT"] = "2000"
    try:
        from . import runtime as _runtime
    finally:
        del _os.environ["GOMP_SPINCOUNT"]
