"""The floating-point environment: what computes does so in the default one, whatever the caller has set.

The first statement of a function that Python calls and that computes is::

    cdef Environment _caller = default_environment()

The caller's environment is back when the function ends, by return or exception. See csrc/environment.h.
"""

cdef extern from "environment.h" nogil:
    ctypedef struct Environment "fnn_environment":
        pass
    Environment default_environment "fnn_default_environment"() noexcept
