"""The running machine: which instruction set is in use, and how many threads may work.

Both are process-wide. The instruction set is the best one that the build has and the processor
supports, unless the environment variable FASTNN_ISA names another; the thread limit starts at the
number of processors this process may use.
"""

import functools
import operator
import os
import weakref

from fastnn._kernels import processors

from fastnn._kernels.environment cimport Environment, default_environment

cdef extern from "kernels.h" nogil:
    int fnn_isa_count()
    const char* fnn_isa_name(int isa)
    int fnn_isa_supported(int isa)
    int fnn_is_intel()
    const fnn_kernels* fnn_isa_table(int isa, Py_ssize_t itemsize)

cdef extern from "threads.h" nogil:
    int FNN_OPENMP
    int fnn_in_parallel()
    int fnn_openmp_limit()
    int fnn_flag(const int* flag)
    void fnn_set_flag(int* flag, int value)

cdef extern from "tasks.h" nogil:
    Py_ssize_t fnn_next_task(fnn_tasks* tasks, int thread)
    void fnn_fence_past()

cdef extern from "team.h" nogil:
    int fnn_team_start()
    int fnn_may_lead(double serial_ns, int team)
    int fnn_work_follows()
    void fnn_work_alone()
    void fnn_work_done(int team)
    void fnn_finish(int* done, int members)
    int fnn_team_pools()
    long long fnn_coarse_ns()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept

cdef extern from *:
    """
    #ifndef FASTNN_BUILD_FLAGS
    #define FASTNN_BUILD_FLAGS ""
    #endif
    """
    const char* FASTNN_BUILD_FLAGS

# A thread is called only for at least this much work: that costs a microsecond or two if it waits awake after
# the call before, 5 or more if it sleeps (on a virtual machine, 50 to 300). Depthwise 3 x 3, 960 channels of
# 7 x 7 pixels, Zen 3: 25 us alone, 20 on two threads right after another call, 70 after a pause of 50 us.
cdef double GRAIN_NS = 6e3
cdef double GRAIN_OF_SLEEPERS_NS = 20e3
cdef bint workers_wait_awake = (os.environ.get("GOMP_SPINCOUNT") != "0"
                                and os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive")

# How often a long kernel looks for a signal. Taking the GIL costs up to 5 ms where other threads want it.
cdef long long LOOK_NS = 100 * 1000 * 1000

# Modules that hold weights packed for the instruction set in use, whose tile sets the width of a panel.
packed_for_isa = weakref.WeakSet()

cdef int active_isa = 0
cdef int thread_limit = 1
cdef int openmp_limit_at_start = fnn_openmp_limit()


cdef const fnn_kernels* kernels(Py_ssize_t itemsize) noexcept nogil:
    """The table of bodies for elements of `itemsize` bytes (4: float, 8: double)."""
    return fnn_isa_table(active_isa, itemsize)


cdef bint is_intel() noexcept nogil:
    """Whether the processor is Intel's: it fetches far rows itself, and short sums gain past the caches."""
    return fnn_is_intel()


cdef int limit() noexcept nogil:
    """Our own limit, or OpenMP's where that was lowered: omp_set_num_threads, by threadpoolctl or others."""
    cdef int openmp = fnn_openmp_limit()
    return min(thread_limit, openmp) if openmp < openmp_limit_at_start else thread_limit


cdef int team_size(double serial_ns) noexcept nogil:
    """How many threads a kernel should use that would take `serial_ns` nanoseconds alone.

    It decides who does the work, and may decide how outputs are cut, but never a sum: results do not depend
    on it.
    """
    cdef double grain = GRAIN_NS
    cdef int size
    if thread_limit == 1 or serial_ns < 2 * GRAIN_NS or fnn_in_parallel():
        return 1
    if not workers_wait_awake or not fnn_work_follows():
        grain = GRAIN_OF_SLEEPERS_NS
    size = min(limit(), <int>min(serial_ns / grain, 1024.0))
    if size > 1:
        return size if fnn_may_lead(serial_ns, size) else 1
    fnn_work_alone()
    return 1


cdef long long coarse_ns() noexcept nogil:
    return fnn_coarse_ns()


cdef void start(Watch* watch) noexcept nogil:
    watch.interrupted = False
    watch.next_look = fnn_coarse_ns() + LOOK_NS


cdef bint go_on(Watch* watch) noexcept nogil:
    """Whether to do the next task: no more after Ctrl-C, or another signal whose handler raised.

    Only the calling thread looks; it has an exception set from then on, for `raise_interrupt`. Without a
    watch (NULL) the answer is yes: the caller looks itself.
    """
    if watch is NULL:
        return True
    if thread_id() == 0 and fnn_coarse_ns() >= watch.next_look and not watch.interrupted:
        with gil:
            fnn_set_flag(&watch.interrupted, PyErr_CheckSignals() != 0)
        watch.next_look = fnn_coarse_ns() + LOOK_NS
    return not fnn_flag(&watch.interrupted)


cdef Py_ssize_t next_task(fnn_tasks* tasks, int thread, Watch* watch) noexcept nogil:
    cdef Py_ssize_t task = fnn_next_task(tasks, thread) if go_on(watch) else -1
    if task < 0:
        fnn_fence_past()
        if tasks.runs > 1 and workers_wait_awake:
            fnn_finish(&tasks.done, team_members())
        fnn_work_done(tasks.runs > 1)
    return task


cdef void work_done(bint by_a_team) noexcept nogil:
    fnn_fence_past()
    fnn_work_done(by_a_team)


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
    return limit()


def own_limit():
    """What `set_num_threads` set, whatever OpenMP's limit is at the moment."""
    return thread_limit


def pools():
    """How many calling threads have OpenMP workers of their own; 0 where the runtime shares one set."""
    return fnn_team_pools()


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
    try:
        if isinstance(n, bool):
            raise TypeError
        number = operator.index(n)
    except TypeError:
        raise TypeError(f"set_num_threads: n must be an integer, got {type(n).__name__}") from None
    if not 1 <= number <= 1024:
        shown = number if number.bit_length() < 64 else f"one of {number.bit_length()} bits"
        raise ValueError(f"set_num_threads: n must be between 1 and 1024, got {shown}")
    thread_limit = number if FNN_OPENMP else 1


def in_default_environment(function):
    """Decorate a function that computes with NumPy: it does so in the default floating-point environment."""
    @functools.wraps(function)
    def computed(*args, **kwargs):
        cdef Environment _caller = default_environment()
        return function(*args, **kwargs)
    return computed


def openmp_version():
    """OpenMP's version date as the compiler gives it (201511 is 4.5), or 0 for a serial build."""
    return FNN_OPENMP


def build_flags():
    """The compiler flags of this build."""
    return FASTNN_BUILD_FLAGS.decode()


def _from_environment():
    if fnn_team_start():
        raise ImportError("fastnn: the system gives no more keys for thread-local data or handlers of fork")
    *_, best = available_isas()
    set_isa(os.environ.get("FASTNN_ISA") or best)
    own = os.environ.get("FASTNN_NUM_THREADS", "").strip()
    # OpenMP's may be a list, the first number of which is for regions that are not nested.
    openmp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if own and not _counts(own):
        raise ValueError(f"FASTNN_NUM_THREADS: expected a number of threads, at least 1, got {own!r}")
    set_num_threads(min(int(own or (openmp if _counts(openmp) else processors.available())), 1024))


def _counts(text):
    return text.isascii() and text.isdigit() and len(text) < 1000 and int(text) > 0


_from_environment()
