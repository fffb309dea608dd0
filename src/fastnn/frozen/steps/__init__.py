"""How each kind of node becomes steps, and the steps' kernels with it."""

from . import arrays, calls, convolution, pooling, products, recurrent  # they fill the table
from .registry import STEPS, Known, Moved, as_arrays, copy_results
