"""Recurrences: one layer of RNN, LSTM or GRU, in one direction or both, over a ragged batch.

Sequences are sorted, longest first, and stored without padding: step t holds the starts[t + 1] -
starts[t] sequences that are still alive, which are the first ones of the batch. One row of D inputs, of
W gates and of H states belongs to each sequence and step ::

    for each chunk of steps                        small enough for its gates to stay in L2
        gates = x W_ih^T + b                       one product over all rows of the chunk
        for each block of sequences                threads share the blocks, and the directions
            for each step of the chunk
                gates += h W_hh^T                  W_hh packed once, in L2
                h, c, gates, y = cell(gates, h, c) csrc/recurrent.h

Backward goes back through the steps in the same blocks, and leaves the gradients of all gates; those of
the weights and of the input are then one product each over all rows.

A sequence never meets another within a step, so blocks need not wait for each other, and the bits of a
sequence depend neither on its block nor on the batch. Where there are fewer blocks than threads and one
step is long (a single sequence, a large H), threads share the columns of W_hh instead.

Gates are G blocks of H columns. The GRU has a fourth: its gate n needs the two products apart. The
input's product fills columns 0 .. G H, the state's adds to the last G H of W; see csrc/recurrent.h.
"""

from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport (
    column_sums,
    gradient_workspace,
    multiply,
    multiply_transposed,
    pack,
    panel_elements,
)
from fastnn._kernels.runtime cimport (
    FNN_GRU,
    FNN_LSTM,
    FNN_RNN_RELU,
    FNN_RNN_TANH,
    Watch,
    ceil_div,
    fnn_cell,
    fnn_cell_grad,
    fnn_kernels,
    go_on,
    kernels,
    raise_interrupt,
    real,
    start,
    team_size,
)

# Gates of a chunk: half of a 1 MB L2, so that a step finds what the input's product left there.
cdef enum:
    CHUNK_BYTES = 512 * 1024
    MAX_DIRECTIONS = 2

cdef double NS_PER_MULTIPLY = 0.04   # 50 GFLOP/s, gates and edges included

# The cells: index of the body, G, and W / H.
CELLS = {
    "rnn_tanh": (FNN_RNN_TANH, 1, 1),
    "rnn_relu": (FNN_RNN_RELU, 1, 1),
    "lstm": (FNN_LSTM, 4, 4),
    "gru": (FNN_GRU, 3, 4),
}

cdef struct Layer:
    # One direction of a layer. Arrays by rows of the ragged batch, or by sequences (h, c).
    int cell
    bint reverse
    Py_ssize_t steps
    Py_ssize_t hidden           # H
    Py_ssize_t products         # G H: columns of either product
    Py_ssize_t width            # W: columns of the gates
    Py_ssize_t y_stride
    Py_ssize_t truncate         # backward: steps between the cuts of the state's gradient
    Py_ssize_t gates_row        # the row at which `gates` begins
    const Py_ssize_t* starts
    const void* bias            # [W]
    void* gates
    void* h                     # backward: its gradient; so also c and y
    void* c
    void* y
    void* h_prev                # the states before each row's step, or NULL: not to be kept
    void* c_prev
    void* grad_gates            # backward alone
    Watch* watch                # asked before each step


cdef inline void* at(void* array, Py_ssize_t elements, Py_ssize_t itemsize) noexcept nogil:
    return NULL if array is NULL else <char*>array + elements * itemsize


cdef void forward_steps(const Layer* layer, const real* panels, Py_ssize_t s0, Py_ssize_t s1,
                        Py_ssize_t n0, Py_ssize_t n1, int threads) noexcept nogil:
    """Steps s0 .. s1, in the layer's direction, of the sequences n0 .. n1; panels hold W_hh^T."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t hidden = layer.hidden, products = layer.products, width = layer.width
    cdef Py_ssize_t s, t, i, row
    cdef real* h = <real*>layer.h + n0 * hidden
    cdef real* gates
    cdef fnn_cell step
    step.hidden = hidden
    step.gates_stride = width
    step.h = h
    step.c = at(layer.c, n0 * hidden, sizeof(real))
    step.y_stride = layer.y_stride
    for s in range(s0, s1):
        if not go_on(layer.watch):
            return
        t = layer.steps - 1 - s if layer.reverse else s
        step.rows = min(n1, layer.starts[t + 1] - layer.starts[t]) - n0
        if step.rows <= 0:
            continue
        row = layer.starts[t] + n0
        gates = <real*>layer.gates + (row - layer.gates_row) * width
        if layer.h_prev is not NULL:
            memcpy(<real*>layer.h_prev + row * hidden, h, step.rows * hidden * sizeof(real))
        if layer.c_prev is not NULL:
            memcpy(<real*>layer.c_prev + row * hidden, step.c, step.rows * hidden * sizeof(real))
        if width > products:
            for i in range(step.rows):
                memcpy(gates + i * width + products, <const real*>layer.bias + products,
                       (width - products) * sizeof(real))
        multiply(h, hidden, panels, <const real*>NULL, gates + width - products, width,
                 step.rows, products, hidden, True, False, threads, NULL)
        step.gates = gates
        step.y = <real*>layer.y + row * step.y_stride
        kern.cell[layer.cell](&step)


cdef void backward_steps(const Layer* layer, const real* panels, Py_ssize_t n0, Py_ssize_t n1,
                         int threads) noexcept nogil:
    """All steps, last one first, of the sequences n0 .. n1; panels hold W_hh.

    Layer.h and .c go in as the gradients of the final states and come out as those of the initial ones.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t hidden = layer.hidden, width = layer.width
    cdef Py_ssize_t s, t, row, boundary, crossing
    cdef real* grad_h = <real*>layer.h + n0 * hidden
    cdef real* grad_gates
    cdef fnn_cell_grad step
    step.hidden = hidden
    step.gates_stride = width
    step.y_stride = layer.y_stride
    step.grad_h = grad_h
    step.grad_c = at(layer.c, n0 * hidden, sizeof(real))
    for s in range(layer.steps):
        if not go_on(layer.watch):
            return
        t = s if layer.reverse else layer.steps - 1 - s
        step.rows = min(n1, layer.starts[t + 1] - layer.starts[t]) - n0
        if step.rows <= 0:
            continue
        row = layer.starts[t] + n0
        grad_gates = <real*>layer.grad_gates + row * width
        step.gates = <real*>layer.gates + row * width
        step.grad_gates = grad_gates
        step.h_prev = at(layer.h_prev, row * hidden, sizeof(real))
        step.c_prev = at(layer.c_prev, row * hidden, sizeof(real))
        step.grad_y = at(layer.y, row * step.y_stride, sizeof(real))
        kern.cell_backward[layer.cell](&step)
        multiply(grad_gates + width - layer.products, width, panels, <const real*>NULL, grad_h, hidden,
                 step.rows, hidden, layer.products, layer.cell == FNN_GRU, False, threads, NULL)
        # Truncation: no gradient through the state that passed between times boundary - 1 and boundary.
        boundary = t + 1 if layer.reverse else t
        if layer.truncate and 0 < boundary < layer.steps and boundary % layer.truncate == 0:
            crossing = min(n1, layer.starts[boundary + 1] - layer.starts[boundary]) - n0
            if crossing > 0:
                memset(grad_h, 0, crossing * hidden * sizeof(real))
                if step.grad_c is not NULL:
                    memset(step.grad_c, 0, crossing * hidden * sizeof(real))


cdef Py_ssize_t block_rows(Py_ssize_t batch, Py_ssize_t mr) noexcept nogil:
    """Sequences of a block: the rows of a register tile at most, and evenly cut.

    From 8 sequences on their number is even, for two threads to share; a tile of 4 rows still keeps the
    multipliers busy.
    """
    cdef Py_ssize_t blocks = ceil_div(batch, mr)
    if blocks % 2 and batch >= 8:
        blocks += 1
    return ceil_div(batch, blocks)


cdef int step_threads(double step_ns, Py_ssize_t tasks) noexcept nogil:
    """Threads that share one step's columns: more than one where blocks are too few and steps are long."""
    cdef int threads = team_size(step_ns)
    return threads if threads > tasks else 1


cdef Py_ssize_t chunk_steps(Py_ssize_t batch, Py_ssize_t width, Py_ssize_t itemsize) noexcept nogil:
    return max(<Py_ssize_t>1, CHUNK_BYTES // (batch * width * itemsize))


def chunk_rows(Py_ssize_t rows, Py_ssize_t batch, Py_ssize_t width, Py_ssize_t itemsize):
    """Rows of gates that forward needs when they are not to be kept, of `rows` in all."""
    return min(rows, chunk_steps(batch, width, itemsize) * batch)


def forward_panels(const real[:, ::1] weight_ih, const real[:, ::1] weight_hh, real[::1] panels):
    """Pack W_ih^T and W_hh^T one after the other, as `forward` takes them."""
    cdef Py_ssize_t zero = 0, n = weight_ih.shape[0], d = weight_ih.shape[1], h = weight_hh.shape[1]
    with nogil:
        pack(&weight_ih[0, 0], &zero, 1, d, 1, n, d, &panels[0])
        pack(&weight_hh[0, 0], &zero, 1, h, 1, n, h, &panels[panel_elements(n, d, sizeof(real))])


def forward_panels_size(Py_ssize_t n, Py_ssize_t d, Py_ssize_t h, Py_ssize_t itemsize):
    """Elements of the packed weights of one direction, n = G H."""
    return panel_elements(n, d, itemsize) + panel_elements(n, h, itemsize)


def backward_panels(const real[:, ::1] weight_hh, real[::1] panels):
    """Pack W_hh as `backward` takes it: panel_size(H, G H) elements."""
    cdef Py_ssize_t zero = 0, n = weight_hh.shape[0], h = weight_hh.shape[1]
    with nogil:
        pack(&weight_hh[0, 0], &zero, 1, n, h, h, 1, &panels[0])


def forward(int cell, Py_ssize_t products, const real[:, ::1] x, const Py_ssize_t[::1] starts,
            const real[:, ::1] panels, const real[:, ::1] bias, real[:, :, ::1] h, real[:, :, ::1] c,
            real[:, :, ::1] gates, real[:, :, ::1] h_prev, real[:, :, ::1] c_prev, real[:, ::1] y,
            bint reverse):
    """Run one layer. The first axis of panels, bias, h, c, gates, h_prev and c_prev is the direction.

    Parameters
    ----------
    cell, products : int
        As CELLS has them; products = G H.
    x : [rows, D]
        At least one row, in the order of time.
    starts : [steps + 1]
        First row of each step.
    panels, bias : [directions, ...], [directions, W]
        As `forward_panels` makes them.
    h, c : [directions, batch, H]
        Initial states in, final states out; c of the LSTM alone, else None.
    gates : [directions, rows, W], or with chunk_rows(...) rows
        Kept for backward where it has a row for each of x.
    h_prev, c_prev : [directions, rows, H] or None
        The states before each step, if they are to be kept.
    y : [rows, directions * H]
        States after each step.
    reverse : bool
        Whether the first direction goes back in time; a second always does.
    """
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t rows = x.shape[0], depth = x.shape[1], steps = starts.shape[0] - 1
    cdef Py_ssize_t directions = h.shape[0], batch = h.shape[1], hidden = h.shape[2]
    cdef Py_ssize_t width = gates.shape[2], d, k, s0, s1, row0, row1, task
    cdef Py_ssize_t chunk = chunk_steps(batch, width, sizeof(real))
    cdef Py_ssize_t block = block_rows(batch, kern.mr)
    cdef Py_ssize_t tasks = directions * ceil_div(batch, block)
    cdef double step_ns = NS_PER_MULTIPLY * batch * products * hidden
    cdef const real* state_panels[MAX_DIRECTIONS]
    cdef Layer layers[MAX_DIRECTIONS]
    cdef Layer* layer
    cdef int inner = step_threads(step_ns, tasks)
    cdef Watch watch
    start(&watch)
    for d in range(directions):
        layer = &layers[d]
        layer.watch = &watch
        layer.cell = cell
        layer.reverse = reverse or d == 1
        layer.steps = steps
        layer.hidden = hidden
        layer.products = products
        layer.width = width
        layer.y_stride = y.shape[1]
        layer.starts = &starts[0]
        layer.bias = &bias[d, 0]
        layer.gates = &gates[d, 0, 0]
        layer.gates_row = 0
        layer.h = &h[d, 0, 0]
        layer.c = NULL if c is None else &c[d, 0, 0]
        layer.h_prev = NULL if h_prev is None else &h_prev[d, 0, 0]
        layer.c_prev = NULL if c_prev is None else &c_prev[d, 0, 0]
        layer.y = &y[0, d * hidden]
        state_panels[d] = &panels[d, panel_elements(products, depth, sizeof(real))]
    with nogil:
        for k in range(ceil_div(steps, chunk)):
            s0 = k * chunk
            s1 = min(steps, s0 + chunk)
            for d in range(directions):
                layer = &layers[d]
                row0 = starts[steps - s1 if layer.reverse else s0]
                row1 = starts[steps - s0 if layer.reverse else s1]
                if gates.shape[1] < rows:
                    layer.gates_row = row0
                multiply(&x[row0, 0], depth, &panels[d, 0], &bias[d, 0],
                         <real*>layer.gates + (row0 - layer.gates_row) * width, width,
                         row1 - row0, products, depth, False, False,
                         team_size(NS_PER_MULTIPLY * (row1 - row0) * products * depth), &watch)
            for task in prange(tasks, schedule="dynamic",
                               num_threads=1 if inner > 1 else team_size(step_ns * directions * (s1 - s0))):
                forward_steps(&layers[task % directions], state_panels[task % directions], s0, s1,
                              task // directions * block,
                              min(batch, (task // directions + 1) * block), inner)
    raise_interrupt()


cdef class StepState:
    """The packed parameters of one layer, by their addresses; see `step_state`."""

    cdef object kept
    cdef const void* panels
    cdef const void* bias
    cdef int cell
    cdef Py_ssize_t products, width, depth, hidden, itemsize


def step_state(int cell, Py_ssize_t products, panels, bias, Py_ssize_t depth, Py_ssize_t hidden):
    """The packed parameters of one layer in one direction, as `take_step` takes them.

    cell, products, panels and bias are those of `forward`; depth and hidden are D and H.
    """
    cdef StepState state = StepState()
    state.kept = (panels, bias)
    state.cell, state.products, state.depth, state.hidden = cell, products, depth, hidden
    state.width, state.itemsize = bias.shape[1], bias.itemsize
    if state.itemsize == sizeof(float):
        state.panels, state.bias = address[float](panels), address[float](bias)
    else:
        state.panels, state.bias = address[double](panels), address[double](bias)
    return state


def take_step(StepState state, x, Py_ssize_t layer, h, c, new_h, new_c, y):
    """Take a step of a stack's layer number `layer`: what a stream calls again and again.

    x [1, N, D] with N > 0 and the states h and c [layers, N, H] give y [1, N, H] and the new states; c of the
    LSTM alone. The bits are those of `forward`, with less to look at: a call costs as much as the arithmetic
    of a small layer. ValueError where an array is of another dtype or not contiguous.
    """
    cdef Environment _caller = default_environment()
    if state.itemsize == sizeof(float):
        take[float](state, x, layer, h, c, new_h, new_c, y)
    else:
        take[double](state, x, layer, h, c, new_h, new_c, y)


cdef const void* address(const real[:, ::1] array) noexcept:
    return &array[0, 0]


cdef int take(StepState self, const real[:, :, ::1] x, Py_ssize_t index, const real[:, :, ::1] h,
              const real[:, :, ::1] c, real[:, :, ::1] new_h, real[:, :, ::1] new_c,
              real[:, :, ::1] y) except -1:
    cdef Py_ssize_t batch = x.shape[1], products = self.products
    cdef Py_ssize_t size = batch * self.hidden * sizeof(real)
    cdef Py_ssize_t[2] starts = [0, batch]
    cdef const real* panels = <const real*>self.panels
    cdef int threads = team_size(NS_PER_MULTIPLY * batch * products * self.hidden)
    cdef Layer layer
    layer.watch = NULL
    layer.cell, layer.reverse, layer.steps = self.cell, False, 1
    layer.hidden, layer.products, layer.width = self.hidden, products, self.width
    layer.y_stride, layer.gates_row, layer.starts, layer.bias = self.hidden, 0, starts, self.bias
    layer.h, layer.y = &new_h[index, 0, 0], &y[0, 0, 0]
    layer.c = NULL if new_c is None else &new_c[index, 0, 0]
    layer.h_prev = layer.c_prev = NULL
    layer.gates = malloc(batch * self.width * sizeof(real))
    if layer.gates is NULL:
        raise MemoryError("recurrent step: no memory for the gates")
    with nogil:
        memcpy(layer.h, &h[index, 0, 0], size)
        if layer.c is not NULL:
            memcpy(layer.c, &c[index, 0, 0], size)
        multiply(&x[0, 0, 0], self.depth, panels, <const real*>self.bias, <real*>layer.gates, self.width,
                 batch, products, self.depth, False, False, threads, NULL)
        forward_steps(&layer, panels + panel_elements(products, self.depth, sizeof(real)), 0, 1, 0, batch,
                      threads)
    free(layer.gates)
    return 0


def backward(int cell, Py_ssize_t products, const Py_ssize_t[::1] starts, const real[:, ::1] panels,
             real[:, :, ::1] gates, real[:, :, ::1] h_prev, real[:, :, ::1] c_prev, const real[:, ::1] grad_y,
             real[:, :, ::1] grad_h, real[:, :, ::1] grad_c, real[:, :, ::1] grad_gates, bint reverse,
             Py_ssize_t truncate):
    """Go back through the steps of one layer, up to the gradients of the gates' sums.

    Parameters
    ----------
    panels : [directions, ...]
        As `backward_panels` makes them.
    gates, h_prev, c_prev
        As `forward` left them.
    grad_y : [rows, directions * H] or None
        None for zeros.
    grad_h, grad_c : [directions, batch, H]
        Gradients of the final states in, of the initial states out; grad_c of the LSTM alone, else None.
    grad_gates : [directions, rows, W]
        Out; may be `gates`.
    truncate : int
        The state's gradient is cut wherever time is a multiple of this; 0 for never.
    """
    cdef Environment _caller = default_environment()
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t steps = starts.shape[0] - 1
    cdef Py_ssize_t directions = grad_h.shape[0], batch = grad_h.shape[1], hidden = grad_h.shape[2]
    cdef Py_ssize_t d, task
    cdef Py_ssize_t block = block_rows(batch, kern.mr)
    cdef Py_ssize_t tasks = directions * ceil_div(batch, block)
    cdef double step_ns = NS_PER_MULTIPLY * batch * products * hidden
    cdef const real* state_panels[MAX_DIRECTIONS]
    cdef Layer layers[MAX_DIRECTIONS]
    cdef Layer* layer
    cdef int inner = step_threads(step_ns, tasks)
    cdef Watch watch
    start(&watch)
    for d in range(directions):
        layer = &layers[d]
        layer.watch = &watch
        layer.cell = cell
        layer.reverse = reverse or d == 1
        layer.steps = steps
        layer.hidden = hidden
        layer.products = products
        layer.width = gates.shape[2]
        layer.y_stride = directions * hidden
        layer.truncate = truncate
        layer.starts = &starts[0]
        layer.gates = &gates[d, 0, 0]
        layer.grad_gates = &grad_gates[d, 0, 0]
        layer.h = &grad_h[d, 0, 0]
        layer.c = NULL if grad_c is None else &grad_c[d, 0, 0]
        layer.h_prev = &h_prev[d, 0, 0]
        layer.c_prev = NULL if c_prev is None else &c_prev[d, 0, 0]
        layer.y = NULL if grad_y is None else <real*>&grad_y[0, d * hidden]  # which is read
        state_panels[d] = &panels[d, 0]
    with nogil:
        for task in prange(tasks, schedule="dynamic",
                           num_threads=1 if inner > 1 else team_size(step_ns * directions * steps)):
            backward_steps(&layers[task % directions], state_panels[task % directions],
                           task // directions * block,
                           min(batch, (task // directions + 1) * block), inner)
    raise_interrupt()


def gradients(Py_ssize_t products, const real[:, ::1] grad_gates, const real[:, ::1] x,
              const real[:, ::1] h_prev, const real[:, ::1] weight_ih, real[:, ::1] grad_x,
              bint accumulate, real[:, ::1] grad_weight_ih, real[:, ::1] grad_weight_hh,
              real[::1] grad_bias):
    """From the gradients of one direction's gates, [rows, W], those of the weights and the input.

    grad_x may be None; with `accumulate` it already holds the other direction's. grad_bias has W elements.
    """
    cdef Environment _caller = default_environment()
    cdef Py_ssize_t rows = x.shape[0], depth = x.shape[1], hidden = h_prev.shape[1]
    cdef Py_ssize_t width = grad_gates.shape[1], zero = 0
    cdef const real* state_gates = &grad_gates[0, width - products]
    cdef Py_ssize_t size = max(panel_elements(depth, products, sizeof(real)),
                               gradient_workspace(products, depth, rows, sizeof(real)),
                               gradient_workspace(products, hidden, rows, sizeof(real)))
    cdef int threads = team_size(NS_PER_MULTIPLY * rows * products * depth)
    cdef real* workspace = <real*>malloc(size * sizeof(real))
    cdef Watch watch
    if workspace is NULL:
        raise MemoryError(f"recurrent backward: no memory for a workspace of {size} elements")
    start(&watch)
    with nogil:
        if grad_x is not None:
            pack(&weight_ih[0, 0], &zero, 1, products, depth, depth, 1, workspace)
            multiply(&grad_gates[0, 0], width, workspace, <const real*>NULL, &grad_x[0, 0], depth,
                     rows, depth, products, accumulate, False, threads, &watch)
        multiply_transposed(&grad_gates[0, 0], width, &x[0, 0], depth, &grad_weight_ih[0, 0],
                            products, depth, rows, workspace, threads, &watch)
        multiply_transposed(state_gates, width, &h_prev[0, 0], hidden, &grad_weight_hh[0, 0],
                            products, hidden, rows, workspace,
                            team_size(NS_PER_MULTIPLY * rows * products * hidden), &watch)
        column_sums(&grad_gates[0, 0], width, &grad_bias[0], rows, width)
    free(workspace)
    raise_interrupt()
