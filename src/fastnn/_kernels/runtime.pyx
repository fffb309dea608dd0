"""The running machine: which instruction set is in use, and how many threads may work.

Both are process-wide. The instruction set is the best one that the build has and the processor
supports, unless the environment variable FASTNN_ISA names another; the thread limit starts at the
number of processors this process may use.
"""

import os
import weakref

cdef extern from "kernels.h" nogil:
    int fnn_isa_count()
    const char* fnn_isa_name(int isa)
    int fnn_isa_supported(int isa)
    const fnn_kernels* fnn_isa_table(int isa, Py_ssize_t itemsize)

cdef extern from "threads.h" nogil:
    int FNN_OPENMP
    int fnn_in_parallel()

cdef extern from *:
    """
    #ifndef FASTNN_BUILD_FLAGS
    #define FASTNN_BUILD_FLAGS ""
    #endif
    """
    const char* FASTNN_BUILD_FLAGS

# A thread is woken only for at least this much work: waking costs 2-10 microseconds.
cdef double GRAIN_NS = 20e3

# Modules that hold weights packed for the instruction set in use, whose tile sets the width of a panel.
packed_for_isa = weakref.WeakSet()

cdef int active_isa = 0
cdef int thread_limit = 1


cdef const fnn_kernels* kernels(Py_ssize_t itemsize) noexcept nogil:
    """The table of bodies for elements of `itemsize` bytes (4: float, 8: double)."""
    return fnn_isa_table(active_isa, itemsize)


cdef int team_size(double serial_ns) noexcept nogil:
    """How many threads a kernel should use that would take `serial_ns` nanoseconds alone.

    It decides who does the work, never how the work is cut: results do not depend on it.
    """
    if thread_limit == 1 or serial_ns < 2 * GRAIN_NS or fnn_in_parallel():
        return 1
    return min(thread_limit, <int>min(serial_ns / GRAIN_NS, 1024.0))


def available_isas():
    """Names of the instruction sets that this build has and this processor supports, best last."""
    return [fnn_isa_name(i).decode() for i in range(fnn_isa_count()) if fnn_isa_supported(i)]


def get_isa():
    """Name of the instruction set in use."""
    return fnn_isa_name(active_isa).decode()


def set_isa(name):
    """Use the instruction set called `name`. Not for use while another thread computes."""
    global active_isa
    for i in range(fnn_isa_count()):
        if fnn_isa_supported(i) and fnn_isa_name(i).decode() == name:
            active_isa = i
            for module in list(packed_for_isa):
                module._drop_cache()
            return
    raise ValueError(
        f"FASTNN_ISA: this build on this processor offers {', '.join(available_isas())}; got {name!r}"
    )


def get_num_threads():
    """The largest number of threads that a kernel may use."""
    return thread_limit


def set_num_threads(n):
    """Let kernels use up to `n` threads. Results are the same bits for every `n`.

    Raises
    ------
    ValueError
        If `n` is not between 1 and 1024.
    TypeError
        If `n` is not an integer.
    """
    global thread_limit
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: n must be an integer, got {type(n).__name__}")
    if not 1 <= n <= 1024:
        raise ValueError(f"set_num_threads: n must be between 1 and 1024, got {n}")
    thread_limit = n if FNN_OPENMP else 1


def openmp_version():
    """OpenMP's version date as the compiler gives it (201511 is 4.5), or 0 for a serial build."""
    return FNN_OPENMP


def build_flags():
    """The compiler flags of this build."""
    return FASTNN_BUILD_FLAGS.decode()


def _processors():
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has an affinity to ask for
        return os.cpu_count() or 1


def _from_environment():
    *_, best = available_isas()
    set_isa(os.environ.get("FASTNN_ISA") or best)
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isascii() and value.isdigit() and int(value) > 0:
            set_num_threads(min(int(value), 1024))
            return
    set_num_threads(min(_processors(), 1024))


_from_environment()
