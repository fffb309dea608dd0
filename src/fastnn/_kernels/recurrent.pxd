"""What a pass forward over one layer is told, and what the two ways through a recurrence share."""

from fastnn._kernels.runtime cimport Watch, fnn_kernels, fnn_tasks, real

cdef extern from "barrier.h" nogil:
    ctypedef struct fnn_barrier:
        int late
    bint meet "fnn_meet"(fnn_barrier* barrier, int members, const int* stop) noexcept

cdef enum:
    MAX_DIRECTIONS = 2
    MAX_SHARED = 16  # blocks that several threads take together

cdef double NS_PER_MULTIPLY

cdef struct Layer:
    # One direction of a layer. Arrays by rows of the ragged batch, or by sequences (h, c).
    bint reverse
    const void* x
    const void* input_panels
    const void* state_panels
    const void* bias            # [columns] of the input's product, then of the state's
    void* h
    void* c
    void* y
    void* gates                 # kept for backward, or NULL; so also h_prev and c_prev
    void* h_prev
    void* c_prev

cdef struct Pass:
    # A call: the layer in its directions, and how its work is cut.
    int cell
    Py_ssize_t gates            # G
    Py_ssize_t directions, batch, steps, depth, hidden, y_stride, gates_stride
    const Py_ssize_t* starts
    Layer layers[MAX_DIRECTIONS]
    Py_ssize_t groups           # of columns
    Py_ssize_t columns          # groups * G * the lanes of a vector
    Py_ssize_t blocks           # of sequences: a task is one in one direction
    Py_ssize_t block            # sequences of the largest
    Py_ssize_t chunk            # steps
    Py_ssize_t run              # groups, whole panels of columns
    Py_ssize_t tasks
    int threads
    int parts                   # threads that share a task
    fnn_tasks dealt
    fnn_barrier barriers[MAX_SHARED]
    char* workspace
    Py_ssize_t share            # bytes of it for each thread
    Watch watch

cdef void multiply_columns(const fnn_kernels* kern, const real* a, Py_ssize_t a_stride, const real* panels,
                           const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t rows, Py_ssize_t c0,
                           Py_ssize_t c1, Py_ssize_t k, bint accumulate, bint backwards) noexcept nogil

cdef int step_parts(double step_ns, int threads, Py_ssize_t tasks) noexcept nogil

cdef void adjourn(const fnn_barrier* barriers, Py_ssize_t tasks) noexcept nogil

cdef int run_pass(Pass* p, const real* of_dtype) noexcept nogil

cdef Py_ssize_t count_blocks(Py_ssize_t batch, Py_ssize_t mr, int threads) noexcept nogil

cdef inline Py_ssize_t first_sequence(Py_ssize_t batch, Py_ssize_t block, Py_ssize_t blocks) noexcept nogil:
    """Where a block begins: 32 in 6 are 5 or 6 each, not 6 and a slow rest of 2."""
    return batch * block // blocks

cdef Py_ssize_t panels_of_input(Py_ssize_t columns, Py_ssize_t depth, Py_ssize_t itemsize) noexcept nogil
