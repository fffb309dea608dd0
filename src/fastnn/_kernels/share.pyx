"""One loop for the drivers whose tasks are alike and need nothing of each other.

The tasks are dealt in contiguous runs, a call of the body for each piece of a run: a task may be as small as
a row of ten numbers. One thread calls the body at once: OpenMP's region would cost it 0.7 microseconds.
"""

from cython.parallel cimport prange

from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_tasks, next_task, start, team_for, team_size, work_done
)

cdef enum:
    PIECES = 4      # of each thread's run: what a slower thread leaves, another takes

cdef double PIECE_NS = 5e6      # at most, between two looks for Ctrl-C; new memory can take ten times as long


cdef int share(Body body, const void* job, Py_ssize_t tasks, double serial_ns) noexcept nogil:
    """Do all tasks of `job`. Returns -1 where Ctrl-C ended that before its time."""
    return share_among(team_size(serial_ns), body, job, tasks, serial_ns)


cdef int share_among(int threads, Body body, const void* job, Py_ssize_t tasks,
                     double serial_ns) noexcept nogil:
    cdef Py_ssize_t size
    cdef Watch watch
    if tasks <= 0:
        return 0
    if threads == 1 and serial_ns < PIECE_NS:
        body(job, 0, tasks, 0)
        work_done(False)
        return 0
    size = ceil_div(tasks, max(<Py_ssize_t>(serial_ns / PIECE_NS), threads * PIECES))
    start(&watch)
    share_pieces(threads, body, job, tasks, size, &watch)
    return -1 if watch.interrupted else 0


cdef void share_pieces(int threads, Body body, const void* job, Py_ssize_t tasks, Py_ssize_t size,
                       Watch* watch) noexcept nogil:
    cdef fnn_tasks pieces
    cdef Py_ssize_t count = ceil_div(tasks, size)
    cdef int team = team_for(count, threads), thread
    deal(&pieces, count, team)
    if team == 1:
        work(body, job, tasks, size, &pieces, 0, watch)
        return
    for thread in prange(team, schedule="static", chunksize=1, num_threads=team):
        work(body, job, tasks, size, &pieces, thread, watch)


cdef void work(Body body, const void* job, Py_ssize_t tasks, Py_ssize_t size, fnn_tasks* pieces,
               int thread, Watch* watch) noexcept nogil:
    """One thread's share."""
    cdef Py_ssize_t piece = next_task(pieces, thread, watch)
    while piece >= 0:
        body(job, piece * size, min(tasks, (piece + 1) * size), thread)
        piece = next_task(pieces, thread, watch)
