"""The specification: every function of :mod:`fastnn.functional` in plain NumPy, slow and obvious.

Same names, same signatures, same results up to rounding; a test keeps them so. Used by the tests and
the benchmarks alone.
"""
