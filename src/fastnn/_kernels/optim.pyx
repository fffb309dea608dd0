"""Steps of the optimizers: one pass over the flat buffers of parameters, gradients and states.

A run is cut in blocks, which threads share; every number is changed by itself, so the cut changes no bit.
"""

from cython.parallel cimport prange

from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport (
    FNN_ADAM,
    FNN_RMSPROP,
    FNN_SGD,
    ceil_div,
    fnn_kernels,
    fnn_step,
    kernels,
    real,
    team_size,
    work_done,
)

cdef Py_ssize_t BLOCK = 8192        # elements
cdef double NS_ELEMENT = 1.0        # up to seven numbers read and written


cdef void run(int kind, const fnn_step* options, real[::1] data, const real[::1] grad, real[::1] state0,
              real[::1] state1, real[::1] state2) noexcept nogil:
    cdef const fnn_kernels* k = kernels(sizeof(real))
    cdef Py_ssize_t n = data.shape[0], block, i
    cdef int threads = team_size(NS_ELEMENT * n)
    for block in prange(ceil_div(n, BLOCK), schedule="static", num_threads=threads):
        i = block * BLOCK
        k.optimizer[kind](min(BLOCK, n - i), &data[i], &grad[i],
                          &state0[i] if state0.shape[0] else NULL,
                          &state1[i] if state1.shape[0] else NULL,
                          &state2[i] if state2.shape[0] else NULL, options)
    work_done(threads > 1)


def sgd(real[::1] data, const real[::1] grad, real[::1] velocity, double lr, double momentum,
        double dampening, double decay, bint nesterov, bint maximize, bint first):
    """data -= lr v; v = momentum v + (1 - dampening) g, in the first step v = g. velocity may be empty."""
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.lr, o.momentum, o.decay, o.nesterov, o.maximize = lr, momentum, decay, nesterov, maximize
    o.keep = 0 if first else momentum
    o.take = 1 if first else 1 - dampening
    with nogil:
        run(FNN_SGD, &o, data, grad, velocity, data[:0], data[:0])


def adam(real[::1] data, const real[::1] grad, real[::1] first, real[::1] second, real[::1] largest,
         double lr, double beta1, double beta2, double eps, double decay, bint decoupled, bint maximize,
         Py_ssize_t step):
    """Adam's step number `step`, AdamW's where the decay is decoupled; largest may be empty."""
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.decay = 0 if decoupled else decay
    o.shrink = 1 - lr * decay if decoupled else 1
    o.lr = lr / (1 - beta1 ** step)
    o.scale = (1 - beta2 ** step) ** -0.5
    o.eps, o.maximize = eps, maximize
    o.keep, o.take, o.square_keep, o.square_take = beta1, 1 - beta1, beta2, 1 - beta2
    with nogil:
        run(FNN_ADAM, &o, data, grad, first, second, largest)


def rmsprop(real[::1] data, const real[::1] grad, real[::1] square, real[::1] buffer, real[::1] average,
            double lr, double alpha, double eps, double decay, double momentum, bint maximize):
    """data -= lr g / (sqrt(v) + eps), with the moving variance v where there is an average.

    buffer may be empty, as may be average.
    """
    cdef Environment _caller = default_environment()
    cdef fnn_step o
    o.lr, o.eps, o.decay, o.momentum, o.maximize = lr, eps, decay, momentum, maximize
    o.square_keep, o.square_take = alpha, 1 - alpha
    with nogil:
        run(FNN_RMSPROP, &o, data, grad, square, buffer, average)
