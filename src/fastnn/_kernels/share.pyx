"""One loop for the drivers whose tasks are alike and need nothing of each other.

The tasks are dealt in contiguous runs, a call of the body for each piece of a run: a task may be as small as
a row of ten numbers. One thread calls the body at once: OpenMP's region would cost it 0.7 microseconds.
"""

from cython.parallel cimport prange

from fastnn._kernels.runtime cimport ceil_div, deal, fnn_tasks, next_task

cdef enum:
    PIECES = 4      # of each thread's run: what a slower thread leaves, another takes


cdef void share(Body body, const void* job, Py_ssize_t tasks, int threads) noexcept nogil:
    """Do all tasks of `job`."""
    cdef fnn_tasks pieces
    cdef Py_ssize_t count, size
    cdef int thread
    if tasks <= 0:
        return
    if threads == 1:
        body(job, 0, tasks, 0)
        return
    size = ceil_div(tasks, threads * PIECES)
    count = ceil_div(tasks, size)
    deal(&pieces, count, threads)
    for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        work(body, job, tasks, size, &pieces, thread)


cdef void work(Body body, const void* job, Py_ssize_t tasks, Py_ssize_t size, fnn_tasks* pieces,
               int thread) noexcept nogil:
    """One thread's share."""
    cdef Py_ssize_t piece = next_task(pieces, thread, NULL)
    while piece >= 0:
        body(job, piece * size, min(tasks, (piece + 1) * size), thread)
        piece = next_task(pieces, thread, NULL)
