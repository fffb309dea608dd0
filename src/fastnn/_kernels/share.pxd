"""One loop for the drivers whose tasks are alike and need nothing of each other."""

# Does the tasks first .. last - 1 of `job`, a struct of the driver's own; `thread` is for scratch memory.
ctypedef void (*Body)(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil

cdef void share(Body body, const void* job, Py_ssize_t tasks, int threads) noexcept nogil
