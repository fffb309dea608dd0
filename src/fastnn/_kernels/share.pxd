"""One loop for the drivers whose tasks are alike and need nothing of each other."""

from fastnn._kernels.runtime cimport Watch

# Does the tasks first .. last - 1 of `job`, a struct of the driver's own; `thread` is for scratch memory.
ctypedef void (*Body)(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil

# `serial_ns` is what one thread would take. Where that is long, Ctrl-C ends the loop before its time, and
# `raise_interrupt` is due with the GIL: -1 is returned, for drivers that would go on. `share_among` is for
# those that asked `team_size` themselves.
cdef int share(Body body, const void* job, Py_ssize_t tasks, double serial_ns) noexcept nogil
cdef int share_among(int threads, Body body, const void* job, Py_ssize_t tasks,
                     double serial_ns) noexcept nogil

# A loop of several under one watch: pieces of `size` tasks, dealt to the threads.
cdef void share_pieces(int threads, Body body, const void* job, Py_ssize_t tasks, Py_ssize_t size,
                       Watch* watch) noexcept nogil
