"""Steps of the optimizers: one pass over the flat buffers of parameters, gradients and states.

A run is cut in blocks, which threads share; every number is changed by itself, so the cut changes no bit.
Ctrl-C waits for the end of a run: with parameters of which half had taken the step nobody could go on.
Arrays come as they are (arrays.pxd): of one dtype, which optim/ has seen to.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from cython.parallel cimport prange

from fastnn._kernels.arrays cimport HeldArrays, acquire, acquire_or_none, at
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport (
    FNN_ADAM, FNN_RMSPROP, FNN_SGD, ceil_div, fnn_kernels, fnn_step, kernels, team_size, work_done
)

cdef Py_ssize_t BLOCK = 8192        # elements
cdef double NS_ELEMENT = 1.0        # up to seven numbers read and written


cdef struct Step:
    const fnn_kernels* kern
    int kind
    const fnn_step* options
    Py_ssize_t itemsize, size
    char* data
    const char* grad
    char* state[3]              # NULL: not kept


cdef void step_block(const Step* job, Py_ssize_t block) noexcept nogil:
    cdef Py_ssize_t o = block * BLOCK * job.itemsize
    job.kern.optimizer[job.kind](min(BLOCK, job.size - block * BLOCK), job.data + o, job.grad + o,
                                 at(job.state[0], o), at(job.state[1], o), at(job.state[2], o), job.options)


cdef void all_blocks(const Step* job) noexcept nogil:
    cdef int threads = team_size(NS_ELEMENT * job.size)
    cdef Py_ssize_t block
    for block in prange(ceil_div(job.size, BLOCK), schedule="static", num_threads=threads):
        step_block(job, block)
    work_done(threads > 1)


cdef bint alike(Py_buffer* array, const Py_buffer* data) noexcept:
    return (array.len == data.len and array.itemsize == data.itemsize
            and PyBuffer_IsContiguous(array, b"C"))


cdef int run(int kind, const fnn_step* options, int needed, data, grad, state0, state1, state2) except -1:
    """The step of `kind`. The first states, as many as are needed, are arrays; others may be None."""
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Step job
    cdef int i
    acquire(&arrays, data, True)
    acquire(&arrays, grad, False)
    for state in (state0, state1, state2):
        if arrays.count < 2 + needed:
            acquire(&arrays, state, True)
        else:
            acquire_or_none(&arrays, state, True)
    for i in range(arrays.count):
        if arrays.item[i].itemsize and not alike(&arrays.item[i], &arrays.item[0]):
            raise ValueError("optimizer: parameters, gradient and states must be contiguous and "
                             "of one size")
    job.kind, job.options = kind, options
    job.itemsize = arrays.item[0].itemsize
    job.size = arrays.item[0].len // job.itemsize
    job.kern = kernels(job.itemsize)
    job.data, job.grad = <char*>arrays.item[0].buf, <const char*>arrays.item[1].buf
    for i in range(3):
        job.state[i] = <char*>arrays.item[2 + i].buf
    with nogil:
        all_blocks(&job)
    return 0


def sgd(data, grad, velocity, double lr, double momentum, double dampening, double decay, bint nesterov,
        bint maximize, bint first):
    """data -= lr v; v = momentum v + (1 - dampening) g, in the first step v = g. velocity may be None."""
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.lr, o.momentum, o.decay, o.nesterov, o.maximize = lr, momentum, decay, nesterov, maximize
    o.keep = 0 if first else momentum
    o.take = 1 if first else 1 - dampening
    run(FNN_SGD, &o, 0, data, grad, velocity, None, None)


def adam(data, grad, first, second, largest, double lr, double beta1, double beta2, double eps, double decay,
         bint decoupled, bint maximize, Py_ssize_t step):
    """Adam's step number `step`, AdamW's where the decay is decoupled; largest may be None."""
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.decay = 0 if decoupled else decay
    o.shrink = 1 - lr * decay if decoupled else 1
    o.lr = lr / (1 - beta1 ** step)
    o.scale = (1 - beta2 ** step) ** -0.5
    o.eps, o.maximize = eps, maximize
    o.keep, o.take, o.square_keep, o.square_take = beta1, 1 - beta1, beta2, 1 - beta2
    run(FNN_ADAM, &o, 2, data, grad, first, second, largest)


def rmsprop(data, grad, square, buffer, average, double lr, double alpha, double eps, double decay,
            double momentum, bint maximize):
    """data -= lr g / (sqrt(v) + eps), with the moving variance v where there is an average.

    buffer may be None, as may be average.
    """
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.lr, o.eps, o.decay, o.momentum, o.maximize = lr, eps, decay, momentum, maximize
    o.square_keep, o.square_take = alpha, 1 - alpha
    run(FNN_RMSPROP, &o, 1, data, grad, square, buffer, average)
