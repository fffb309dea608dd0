"""Recurrences, backward: through the steps of one layer, and the gradients of its weights and input.

::

    for each direction and block of sequences      threads share them
        for each step, last one first
            grad_gates = cell_backward(grad_h, gates, ...)      csrc/recurrent.h
            grad_h = grad_gates W_hh
            grad_x = grad_gates W_ih               of few sequences: one product over all rows, at the end

leaves the gradients of all gates; those of the weights are then one product each over all rows, whose sums
run down the memory. The wide operand, the gates', is packed as it comes; the narrow one is read crosswise::

    for each slice of rows and block of columns    threads share them; slices are added in order at the end
        for each 256 rows                          the packed gates stay in L2
            grad_W_ih^T += x^T grad_gates          (100, 32, 64, 128) LSTM: 71 GFLOP/s where the gates were
            grad_W_hh^T += h_prev^T grad_gates     read crosswise, out of L3

Rows and blocks are those of recurrent.pyx; so also threads that take a block together, columns of H each.

Gates are G blocks of H columns. The GRU has a fourth: its gate n needs the two products apart. The input's
gradients are columns 0 .. G H, the state's the last G H of W.
"""

from cython.parallel cimport parallel, prange
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire, acquire_all, at, finish, inner
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport NC, add_slices, column_sums, multiply
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack, pack_by_all, pack_ns
from fastnn._kernels.recurrent cimport (
    MAX_DIRECTIONS, MAX_SHARED, NS_PER_MULTIPLY, adjourn, count_blocks, first_sequence, fnn_barrier, meet,
    multiply_columns, step_parts
)
from fastnn._kernels.runtime cimport (
    FNN_GRU,
    Watch,
    ceil_div,
    deal,
    fnn_cell_grad,
    fnn_kernels,
    fnn_tasks,
    fnn_tile,
    go_on,
    kernels,
    lines_apart,
    next_task,
    raise_interrupt,
    real,
    start,
    team_members,
    team_for,
    team_size,
    thread_id,
    work_done,
)
from fastnn._kernels.transposed cimport column_tiles

cdef enum:
    GRADIENT_ROWS = 256         # of gates packed at once: with 256 columns of float a quarter of L2
    SLICE_ROWS = 512            # of a sum that is added to the others at the end
    MOST_SUMS = 256 * 1024      # elements; beyond, the columns are enough to share and slices cost memory
    ROWS_OF_INPUT = 4           # of a block, for which W_ih comes out of L2 at every step


cdef struct Layer:
    # One direction of a layer. Arrays by rows of the ragged batch, or by sequences (h, c).
    int cell
    bint reverse
    Py_ssize_t steps
    Py_ssize_t hidden           # H
    Py_ssize_t products         # G H: columns of either product
    Py_ssize_t width            # W: columns of the gates
    Py_ssize_t y_stride
    Py_ssize_t truncate         # steps between the cuts of the state's gradient
    const Py_ssize_t* starts
    const void* gates
    const void* h_prev          # the states before each row's step
    const void* c_prev
    const void* grad_y
    void* grad_h
    void* grad_c
    void* grad_gates
    void* grad_x                # [rows][depth], or NULL
    Py_ssize_t depth
    const void* state_panels    # W_hh
    const void* input_panels    # W_ih
    Watch* watch                # asked before each step


cdef struct Gradient:
    # The product of all rows that gives one direction's weights: cut in slices of rows and blocks of columns.
    const void* grad_gates      # [rows][width]
    const void* x               # [rows][depth]
    const void* h_prev          # [rows][hidden]
    Py_ssize_t rows, depth, hidden, products, width
    Py_ssize_t slices
    Py_ssize_t block            # columns of the gates


cdef inline Py_ssize_t first_column(Py_ssize_t columns, Py_ssize_t nr, int part, int parts) noexcept nogil:
    """Where the share of `part` begins, in whole panels; that of part + 1 is where it ends."""
    return min(columns, ceil_div(columns, nr) * part // parts * nr)


cdef void backward_steps(const Layer* layer, Py_ssize_t n0, Py_ssize_t n1, int part, int parts,
                         fnn_barrier* barrier, const real* of_dtype) noexcept nogil:
    """All steps, last one first, of the sequences n0 .. n1: all columns, or the share of `part` of `parts`.

    Layer.grad_h and .grad_c go in as the gradients of the final states and come out as those of the initial
    ones. The parts meet once a step, when the gradients of all gates are there.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t hidden = layer.hidden, width = layer.width
    cdef Py_ssize_t j0 = first_column(hidden, kern.nr, part, parts)
    cdef Py_ssize_t j1 = first_column(hidden, kern.nr, part + 1, parts)
    cdef Py_ssize_t d0 = first_column(layer.depth, kern.nr, part, parts)
    cdef Py_ssize_t d1 = first_column(layer.depth, kern.nr, part + 1, parts)
    cdef Py_ssize_t s, t, row, boundary, crossing, i
    cdef real* grad_h = <real*>layer.grad_h + n0 * hidden
    cdef real* grad_gates
    cdef fnn_cell_grad step
    step.hidden, step.first, step.last = hidden, j0, j1
    step.gates_stride = width
    step.y_stride = layer.y_stride
    step.grad_h = grad_h
    step.grad_c = at(layer.grad_c, n0 * hidden * sizeof(real))
    for s in range(layer.steps):
        if not go_on(layer.watch) and parts == 1:
            return
        t = s if layer.reverse else layer.steps - 1 - s
        step.rows = min(n1, layer.starts[t + 1] - layer.starts[t]) - n0
        if step.rows <= 0:
            continue
        row = layer.starts[t] + n0
        grad_gates = <real*>layer.grad_gates + row * width
        step.gates = <const real*>layer.gates + row * width
        step.grad_gates = grad_gates
        step.h_prev = at(layer.h_prev, row * hidden * sizeof(real))
        step.c_prev = at(layer.c_prev, row * hidden * sizeof(real))
        step.grad_y = at(layer.grad_y, row * step.y_stride * sizeof(real))
        kern.cell_backward[layer.cell](&step)
        if parts > 1 and meet(barrier, parts, &layer.watch.interrupted):
            return
        multiply_columns(kern, grad_gates + width - layer.products, width, <const real*>layer.state_panels,
                         <const real*>NULL, grad_h, hidden, step.rows, j0, j1, layer.products,
                         layer.cell == FNN_GRU, s % 2)
        if layer.grad_x is not NULL:  # while the gates' gradients are in L1
            multiply_columns(kern, grad_gates, width, <const real*>layer.input_panels, <const real*>NULL,
                             <real*>layer.grad_x + row * layer.depth, layer.depth, step.rows, d0, d1,
                             layer.products, False, s % 2)
        # Truncation: no gradient through the state that passed between times boundary - 1 and boundary.
        boundary = t + 1 if layer.reverse else t
        if layer.truncate and 0 < boundary < layer.steps and boundary % layer.truncate == 0:
            crossing = min(n1, layer.starts[boundary + 1] - layer.starts[boundary]) - n0
            for i in range(crossing):
                memset(grad_h + i * hidden + j0, 0, (j1 - j0) * sizeof(real))
                if step.grad_c is not NULL:
                    memset(<real*>step.grad_c + i * hidden + j0, 0, (j1 - j0) * sizeof(real))


cdef void backward_share(Layer* layers, Py_ssize_t directions, Py_ssize_t batch, Py_ssize_t blocks,
                         fnn_tasks* dealt, int thread, int parts, fnn_barrier* barriers,
                         const real* of_dtype) noexcept nogil:
    """What one thread does: its part of one block, or one block after the other."""
    cdef Py_ssize_t task, block
    if parts > 1:
        task = thread // parts
        if task < directions * blocks:
            block = task // directions
            backward_steps(&layers[task % directions], first_sequence(batch, block, blocks),
                           first_sequence(batch, block + 1, blocks), thread % parts, parts, &barriers[task],
                           of_dtype)
        return
    task = next_task(dealt, thread, layers[0].watch)
    while task >= 0:
        block = task // directions
        backward_steps(&layers[task % directions], first_sequence(batch, block, blocks),
                       first_sequence(batch, block + 1, blocks), 0, 1, <fnn_barrier*>NULL, of_dtype)
        task = next_task(dealt, thread, layers[0].watch)


def backward_panels(weight, panels):
    """Pack W_hh or W_ih, contiguous, as `backward` takes it.

    `panels` holds panel_size(H, G H) or panel_size(D, G H) numbers.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_all(&arrays, (weight,), (panels,))
    if arrays.item[0].itemsize == sizeof(float):
        pack_columns_of[float](&arrays, NULL)
    else:
        pack_columns_of[double](&arrays, NULL)
    raise_interrupt()


cdef void pack_columns_of(const Arrays* arrays, const real* of_dtype) noexcept:
    """The operands of backward_panels."""
    cdef Py_ssize_t n = arrays.item[0].shape[0], h = arrays.item[0].shape[1]
    cdef Watch watch
    with nogil:
        start(&watch)
        pack_by_all(<const real*>arrays.item[0].buf, NULL, 1, n, h, h, 1, 1, 0, <real*>arrays.item[1].buf,
                    team_size(pack_ns(n, h)), &watch)


def backward(int cell, Py_ssize_t products, starts, state_panels, input_panels, gates, h_prev, c_prev, grad_y,
             grad_h, grad_c, grad_gates, grad_x, bint reverse, Py_ssize_t truncate):
    """Go back through the steps of one layer, up to the gradients of the gates' sums and of the input.

    All arrays are contiguous.

    Parameters
    ----------
    state_panels, input_panels : [directions, ...]
        As `backward_panels` makes them of W_hh and, its rows in the order of the gates, W_ih. The latter may
        be None without grad_x.
    gates, h_prev, c_prev
        As `forward` left them.
    grad_y : [rows, directions * H] or None
        None for zeros.
    grad_h, grad_c : [directions, batch, H]
        Gradients of the final states in, of the initial states out; grad_c of the LSTM alone, else None.
    grad_gates : [directions, rows, W]
        Out; may be `gates`.
    grad_x : [directions, rows, D] or None
        Out, of each direction.
    truncate : int
        The state's gradient is cut wherever time is a multiple of this; 0 for never.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire(&arrays, starts, False)
    acquire_all(&arrays, (state_panels, input_panels, gates, h_prev, c_prev, grad_y),
                (grad_h, grad_c, grad_gates, grad_x))
    if arrays.item[STATE_PANELS].itemsize == sizeof(float):
        run_backward[float](&arrays, NULL, cell, products, reverse, truncate)
    else:
        run_backward[double](&arrays, NULL, cell, products, reverse, truncate)
    raise_interrupt()


cdef enum:  # the operands of `backward`
    STARTS, STATE_PANELS, INPUT_PANELS, GATES, H_PREV, C_PREV, GRAD_Y, GRAD_H, GRAD_C, GRAD_GATES, GRAD_X


cdef void run_backward(const Arrays* arrays, const real* of_dtype, int cell, Py_ssize_t products,
                       bint reverse, Py_ssize_t truncate) noexcept:
    """The operands of `backward`."""
    cdef const Py_buffer* a = arrays.item
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t steps = a[STARTS].shape[0] - 1, d, rows, depth
    cdef Py_ssize_t directions = a[GRAD_H].shape[0], batch = a[GRAD_H].shape[1], hidden = a[GRAD_H].shape[2]
    cdef double row_ns = NS_PER_MULTIPLY * products * hidden
    cdef int threads = team_size(row_ns * batch * directions * steps), parts = 1
    cdef Py_ssize_t blocks = count_blocks(batch, kern.mr, threads), block = ceil_div(batch, blocks)
    cdef Py_ssize_t tasks = directions * blocks
    cdef Layer layers[MAX_DIRECTIONS]
    cdef Layer* layer
    cdef bint input_grad = a[GRAD_X].buf is not NULL, by_steps = block >= ROWS_OF_INPUT
    cdef fnn_tasks dealt
    cdef fnn_barrier barriers[MAX_SHARED]
    cdef Watch watch
    if threads > tasks:
        parts = min(step_parts(row_ns * block, threads, tasks), <int>ceil_div(hidden, kern.nr))
        threads = <int>tasks * parts
        memset(barriers, 0, sizeof(barriers))
    start(&watch)
    for d in range(directions):
        layer = &layers[d]
        layer.watch = &watch
        layer.cell = cell
        layer.reverse = reverse or d == 1
        layer.steps, layer.starts = steps, <const Py_ssize_t*>a[STARTS].buf
        layer.hidden, layer.products, layer.width = hidden, products, a[GATES].shape[2]
        layer.y_stride = directions * hidden
        layer.truncate = truncate
        layer.gates, layer.grad_gates = inner(&a[GATES], d), inner(&a[GRAD_GATES], d)
        layer.grad_h, layer.grad_c = inner(&a[GRAD_H], d), inner(&a[GRAD_C], d)
        layer.h_prev, layer.c_prev = inner(&a[H_PREV], d), inner(&a[C_PREV], d)
        layer.grad_y = at(a[GRAD_Y].buf, d * hidden * sizeof(real))
        layer.state_panels, layer.input_panels = inner(&a[STATE_PANELS], d), NULL
        layer.grad_x, layer.depth = NULL, 0
        if input_grad and by_steps:
            layer.input_panels, layer.grad_x = inner(&a[INPUT_PANELS], d), inner(&a[GRAD_X], d)
            layer.depth = a[GRAD_X].shape[2]
    deal(&dealt, tasks, threads)
    with nogil:
        if threads == 1:
            backward_share(layers, directions, batch, blocks, &dealt, 0, 1, barriers,
                           <const real*>NULL)
        else:
            with parallel(num_threads=threads):
                backward_share(layers, directions, batch, blocks, &dealt, thread_id(),
                               parts if team_members() == threads else 1, barriers, <const real*>NULL)
        if parts > 1:
            adjourn(barriers, tasks)
            work_done(True)
    if input_grad and not by_steps:
        rows, depth = a[GRAD_X].shape[1], a[GRAD_X].shape[2]
        for d in range(directions):
            with nogil:
                multiply(<const real*>inner(&a[GRAD_GATES], d), a[GATES].shape[2],
                         <const real*>inner(&a[INPUT_PANELS], d), <const real*>NULL,
                         <real*>inner(&a[GRAD_X], d), depth, rows, depth, products, False, False,
                         team_size(NS_PER_MULTIPLY * rows * depth * products), &watch)


cdef void add_product(const fnn_kernels* kern, const real* panels, Py_ssize_t columns, const real* a,
                      Py_ssize_t a_columns, Py_ssize_t k0, Py_ssize_t k1, bint accumulate,
                      real* sums) noexcept nogil:
    """sums [a_columns][columns] = or += sum over the rows k0 .. k1 of a^T times the packed rows."""
    cdef const void* a_rows[GRADIENT_ROWS]
    cdef fnn_tile tile
    cdef Py_ssize_t i
    for i in range(k1 - k0):
        a_rows[i] = a + (k0 + i) * a_columns
    tile.a, tile.depth, tile.accumulate = a_rows, k1 - k0, accumulate
    tile.b, tile.b_step, tile.b_panel, tile.columns = panels, kern.nr, (k1 - k0) * kern.nr, columns
    tile.next_b = tile.next_step = tile.next_a = 0
    column_tiles(kern, &tile, 0, 0, a_columns, sums, columns)


cdef void weights_task(const Gradient* g, Py_ssize_t slice, Py_ssize_t c0, Py_ssize_t c1, real* panels,
                       real* sums, Watch* watch) noexcept nogil:
    """Over the rows of one slice, columns c0 .. c1 of the gates: sums for W_ih^T, then for W_hh^T."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef const real* grad_gates = <const real*>g.grad_gates
    cdef Py_ssize_t row0 = g.rows * slice // g.slices, row1 = g.rows * (slice + 1) // g.slices
    cdef Py_ssize_t i, k0, k1
    for i in range(ceil_div(row1 - row0, GRADIENT_ROWS)):
        if not go_on(watch):
            return
        k0 = row0 + i * GRADIENT_ROWS
        k1 = min(row1, k0 + GRADIENT_ROWS)
        pack(grad_gates + k0 * g.width + c0, NULL, 1, k1 - k0, g.width, c1 - c0, 1, panels)
        add_product(kern, panels, c1 - c0, <const real*>g.x, g.depth, k0, k1, i > 0, sums)
        if g.width > g.products:  # the GRU's state has other gradients
            pack(grad_gates + k0 * g.width + g.width - g.products + c0, NULL, 1, k1 - k0, g.width, c1 - c0,
                 1, panels)
        add_product(kern, panels, c1 - c0, <const real*>g.h_prev, g.hidden, k0, k1, i > 0,
                    sums + g.depth * (c1 - c0))


cdef void weights_share(const Gradient* g, fnn_tasks* tasks, int thread, real* panels, real* sums,
                        Watch* watch) noexcept nogil:
    """What one thread does. The sums of slice s lie behind those of slice s - 1, block behind block."""
    cdef Py_ssize_t blocks = ceil_div(g.products, g.block), task = next_task(tasks, thread, watch), c0, c1
    while task >= 0:
        c0 = task % blocks * g.block
        c1 = min(g.products, c0 + g.block)
        weights_task(g, task // blocks, c0, c1, panels,
                     sums + (task // blocks * g.products + c0) * (g.depth + g.hidden), watch)
        task = next_task(tasks, thread, watch)


def gradients(Py_ssize_t products, grad_gates, x, h_prev, grad_weight_ih, grad_weight_hh, grad_bias):
    """From the gradients of one direction's gates, [rows, W], those of the weights and biases.

    Rows of grad_weight_ih are in the order of the gates; grad_bias has W elements. All are contiguous.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_all(&arrays, (grad_gates, x, h_prev), (grad_weight_ih, grad_weight_hh, grad_bias))
    if arrays.item[0].itemsize == sizeof(float):
        status = run_gradients[float](&arrays, NULL, products)
    else:
        status = run_gradients[double](&arrays, NULL, products)
    finish(status, "recurrent backward")


cdef int run_gradients(const Arrays* arrays, const real* of_dtype, Py_ssize_t products) noexcept:
    """The operands of `gradients`. Returns -1 when memory is short."""
    cdef const Py_buffer* grad_gates = &arrays.item[0]
    cdef const Py_buffer* x = &arrays.item[1]
    cdef const Py_buffer* h_prev = &arrays.item[2]
    cdef real* grad_weight_ih = <real*>arrays.item[3].buf
    cdef real* grad_weight_hh = <real*>arrays.item[4].buf
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Gradient g
    cdef Py_ssize_t blocks, size, panels, bytes, b, c0, width
    cdef int thread, threads
    cdef real* workspace
    cdef real* sums
    cdef fnn_tasks tasks
    cdef Watch watch
    g.grad_gates, g.x, g.h_prev = grad_gates.buf, x.buf, h_prev.buf
    g.rows, g.depth, g.hidden = x.shape[0], x.shape[1], h_prev.shape[1]
    g.products, g.width = products, grad_gates.shape[1]
    g.block = max(NC // kern.nr, 1) * kern.nr
    blocks = ceil_div(products, g.block)
    size = products * (g.depth + g.hidden)
    g.slices = 1 if size > MOST_SUMS else min(ceil_div(g.rows, SLICE_ROWS), <Py_ssize_t>8)
    threads = team_for(blocks * g.slices, team_size(NS_PER_MULTIPLY * g.rows * size))
    panels = lines_apart(GRADIENT_ROWS * min(g.block, ceil_div(products, kern.nr) * kern.nr), sizeof(real))
    bytes = (threads * panels + g.slices * size) * sizeof(real)
    workspace = <real*>take(bytes)
    if workspace is NULL:
        return -1
    sums = workspace + threads * panels
    with nogil:
        start(&watch)
        deal(&tasks, blocks * g.slices, threads)
        if threads == 1:
            weights_share(&g, &tasks, 0, workspace, sums, &watch)
        else:
            for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
                weights_share(&g, &tasks, thread, workspace + thread * panels, sums, &watch)
        if not watch.interrupted:
            add_slices(sums, sums + size, g.slices - 1, size)
            for b in range(blocks):
                c0 = b * g.block
                width = min(g.block, products - c0)
                kern.transpose(g.depth, width, sums + c0 * (g.depth + g.hidden), width,
                               grad_weight_ih + c0 * g.depth, g.depth)
                kern.transpose(g.hidden, width, sums + c0 * (g.depth + g.hidden) + g.depth * width, width,
                               grad_weight_hh + c0 * g.hidden, g.hidden)
        column_sums(<const real*>g.grad_gates, <real*>arrays.item[5].buf, g.rows, g.width, &watch)
    give(workspace, bytes)
    return 0
