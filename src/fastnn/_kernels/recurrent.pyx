"""Recurrences, forward: one layer of RNN, LSTM or GRU, in one direction or both, over a ragged batch.

Sequences are sorted, longest first, and stored without padding: step t holds the starts[t + 1] -
starts[t] sequences that are still alive, which are the first ones of the batch. One row of D inputs and of
H states belongs to each sequence and step ::

    for each direction and block of sequences      threads share them, without waiting for each other
        for each chunk of steps                    up to two tiles of rows, or one step
            sums = x W_ih^T + b
            for each step of the chunk
                for each run of columns            to and fro: the last ones of a step are still in L1
                    sums += h W_hh^T           strip by strip, to and fro as well
                    h, c, y = cell(sums, h, c)     csrc/recurrent.h

A sequence never meets another within a step, so the bits of a sequence depend neither on its block nor on
the batch. Where there are fewer blocks than threads, several threads take a block together: each has columns
of its own, and they meet after each step (2 threads, a single sequence of an LSTM: H = 128 361 -> 255 us,
256 1375 -> 708; a GRU of 512 2611 -> 1332).

Columns are in groups: a vector's worth of each of the G gates, side by side, zeros filling the last one. The
GRU's two products are not added up: its gate n needs them apart.

A single thread takes blocks of several tiles, whose rows share what comes of the weights out of L3 (AVX2 with
512 KB of L2; LSTM of 100 steps, 32 sequences, D = 64, H = 128: 59 -> 65 GFLOP/s). With AVX-512 three tiles of
11 rows are besides fewer instructions than four of 8: .95 to .98 of the time of blocks of 16 (Sapphire
Rapids, 32 to 128 sequences).

A single sequence is bound by the way of W_hh from L2 to the registers, 32 bytes a cycle on Zen 4: a step of
an LSTM with H = 128 takes at least 2.2 us there. Batches are bound by the multipliers and the gates.
"""

from cython.parallel cimport parallel
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire, acquire_all, at, finish, inner
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport NC, multiply_task, panel_elements
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack_ns
from fastnn._kernels.runtime cimport (
    FNN_GRU,
    FNN_LSTM,
    FNN_RNN_RELU,
    FNN_RNN_TANH,
    ceil_div,
    coarse_ns,
    deal,
    fnn_cell,
    fnn_kernels,
    go_on,
    kernels,
    next_task,
    raise_interrupt,
    real,
    start,
    team_members,
    team_size,
    thread_id,
    whole_lines,
    work_done,
)
from fastnn._kernels.share cimport share

cdef extern from "barrier.h" nogil:
    ctypedef struct fnn_recess:
        pass
    bint fnn_may_meet(const fnn_recess* recess, long long now) noexcept
    void fnn_adjourn(fnn_recess* recess, bint late, long long now) noexcept

cdef enum:
    CHUNK_TILES = 2             # of the rows of a chunk of several steps: sums that hardly leave L1
    BLOCK_TILES = 3             # of the sequences of a block of a single thread
    PART_VECTORS = 8            # of the columns of a part, at least: sums enough to keep the multipliers busy
    STRIP_PANELS = 4            # of the columns of a strip: what a tile of one row takes at once
    RUN_VECTORS = 32            # of the columns of a run, at most

cdef double NS_PER_MULTIPLY = 0.04   # 50 GFLOP/s, gates and edges included
cdef double MEETING_NS = 100.0       # what a meeting costs each who comes

cdef fnn_recess recess

# The cells: index of the body, G, and blocks of H columns that backward needs.
CELLS = {
    "rnn_tanh": (FNN_RNN_TANH, 1, 1),
    "rnn_relu": (FNN_RNN_RELU, 1, 1),
    "lstm": (FNN_LSTM, 4, 4),
    "gru": (FNN_GRU, 3, 4),
}

cdef inline Py_ssize_t state_pitch(Py_ssize_t hidden, Py_ssize_t lanes) noexcept nogil:
    """Elements from row to row of the states: whole vectors, and no power of two, see gemm.rows_collide."""
    return (ceil_div(hidden, lanes) | 1) * lanes


cdef inline Py_ssize_t alive(const Pass* p, Py_ssize_t t, Py_ssize_t n0, Py_ssize_t n1) noexcept nogil:
    """How many of the sequences n0 .. n1 take the step at time t."""
    return max(min(n1, p.starts[t + 1] - p.starts[t]) - n0, <Py_ssize_t>0)


cdef int step_parts(double step_ns, int threads, Py_ssize_t tasks) noexcept nogil:
    """How many of `threads` should take each of `tasks` blocks together and meet after each of its steps.

    A step takes step_ns / parts + MEETING_NS * parts, least where parts is the root of the quotient.
    """
    if tasks > MAX_SHARED or not fnn_may_meet(&recess, coarse_ns()):
        return 1
    return max(1, min(<int>sqrt(step_ns / MEETING_NS), threads // <int>tasks))


cdef void adjourn(const fnn_barrier* barriers, Py_ssize_t tasks) noexcept nogil:
    """After the last meeting of each task: whether there are to be others soon."""
    cdef bint late = False
    cdef Py_ssize_t i
    for i in range(tasks):
        late = late or barriers[i].late
    fnn_adjourn(&recess, late, coarse_ns())


cdef void input_product(const Pass* p, const Layer* layer, Py_ssize_t s0, Py_ssize_t s1, Py_ssize_t n0,
                        Py_ssize_t n1, Py_ssize_t c0, Py_ssize_t c1, real* sums) noexcept nogil:
    """sums = x W_ih^T + b in columns c0 .. c1: the rows of step s0 + i begin at i * block."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef const real* x = <const real*>layer.x
    cdef Py_ssize_t nc = max(NC // kern.nr, 1) * kern.nr, i, c, s, t, rows
    for i in range(ceil_div(c1 - c0, nc)):
        c = c0 + i * nc
        if n1 - n0 == p.batch == p.starts[1] and p.starts[p.steps] == p.steps * p.batch:
            # all sequences, of one length: the chunk's rows are contiguous
            t = p.steps - s1 if layer.reverse else s0
            multiply_task(kern, x + p.starts[t] * p.depth, p.depth, <const real*>layer.input_panels,
                          <const real*>layer.bias, sums, p.columns, 0, (s1 - s0) * p.batch, c,
                          min(c1, c + nc), p.depth, False, 0)
            continue
        for s in range(s0, s1):
            t = p.steps - 1 - s if layer.reverse else s
            rows = alive(p, t, n0, n1)
            if rows:
                multiply_task(kern, x + (p.starts[t] + n0) * p.depth, p.depth,
                              <const real*>layer.input_panels, <const real*>layer.bias,
                              row_of_sums(p, layer, s, s0, s1, sums), p.columns, 0, rows, c, min(c1, c + nc),
                              p.depth, False, 0)


cdef inline real* row_of_sums(const Pass* p, const Layer* layer, Py_ssize_t s, Py_ssize_t s0, Py_ssize_t s1,
                              real* sums) noexcept nogil:
    """Where the sums of step s lie: in the order of time, as the rows of x."""
    return sums + (s1 - 1 - s if layer.reverse else s - s0) * p.block * p.columns


cdef void multiply_columns(const fnn_kernels* kern, const real* a, Py_ssize_t a_stride, const real* panels,
                           const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t rows, Py_ssize_t c0,
                           Py_ssize_t c1, Py_ssize_t k, bint accumulate, bint backwards) noexcept nogil:
    """Columns c0 .. c1 of a product, a few panels at a time through all of k; `backwards`: the last first.

    Steps that go to and fro begin with what the step before has read last, which lies in the caches (Zen 5,
    one sequence, LSTM of 100 steps with H = 128 209 -> 192 us, of 50 with H = 512 2490 -> 2120).
    """
    cdef Py_ssize_t width = STRIP_PANELS * kern.nr, strips = ceil_div(c1 - c0, width), i, j
    for i in range(strips):
        j = c0 + (strips - 1 - i if backwards else i) * width
        multiply_task(kern, a, a_stride, panels, bias, c, c_stride, 0, rows, j, min(c1, j + width), k,
                      accumulate, 0)


cdef void take_block(Pass* p, const Layer* layer, Py_ssize_t block, int part, int parts, fnn_barrier* barrier,
                     real* sums) noexcept nogil:
    """All steps of one block of sequences: all columns, or the share of thread `part` of `parts`."""
    cdef Py_ssize_t n0 = first_sequence(p.batch, block, p.blocks)
    cdef Py_ssize_t n1 = first_sequence(p.batch, block + 1, p.blocks)
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t runs = ceil_div(p.groups, p.run), hidden = p.hidden
    cdef Py_ssize_t pitch = state_pitch(hidden, kern.lanes)
    cdef Py_ssize_t run0 = runs * part // parts, run1 = runs * (part + 1) // parts
    cdef Py_ssize_t lanes = p.gates * kern.lanes, first = run0 * p.run, last = min(p.groups, run1 * p.run)
    cdef Py_ssize_t j0 = first * kern.lanes, j1 = min(hidden, last * kern.lanes)
    cdef real* state = sums + whole_lines(p.chunk * p.block * p.columns * sizeof(real)) // sizeof(real)
    cdef real* state_sums = state + p.block * pitch
    cdef real* products
    cdef const real* state_bias = NULL
    cdef Py_ssize_t s, s0 = 0, s1 = 0, t, row = 0, before = 0, i, r
    cdef const real* h
    cdef fnn_cell step
    step.hidden, step.sums_stride, step.h, step.h_stride = hidden, p.columns, state, pitch
    step.y_stride, step.gates_stride = p.y_stride, p.gates_stride
    step.c, step.state_sums = at(layer.c, n0 * hidden * sizeof(real)), state_sums
    if p.cell == FNN_GRU:
        state_bias = <const real*>layer.bias + p.columns
    for s in range(p.steps):
        if s == s1:
            s0, s1 = s, min(p.steps, s + p.chunk)
            input_product(p, layer, s0, s1, n0, n1, first * lanes, last * lanes, sums)
        t = p.steps - 1 - s if layer.reverse else s
        step.rows = alive(p, t, n0, n1)
        for i in range(step.rows):
            h = (<const real*>layer.y + (row + i) * p.y_stride if i < before
                 else <const real*>layer.h + (n0 + i) * hidden)
            memcpy(state + i * pitch, h, hidden * sizeof(real))
        before, row = step.rows, p.starts[t] + n0
        if layer.h_prev is not NULL:
            for i in range(step.rows):
                memcpy(<real*>layer.h_prev + (row + i) * hidden + j0, state + i * pitch + j0,
                       (j1 - j0) * sizeof(real))
        step.sums = row_of_sums(p, layer, s, s0, s1, sums)
        step.c_prev = at(layer.c_prev, row * hidden * sizeof(real))
        step.y = <real*>layer.y + row * p.y_stride
        step.gates = at(layer.gates, row * p.gates_stride * sizeof(real))
        products = state_sums if p.cell == FNN_GRU else <real*>step.sums
        for i in range(run1 - run0 if step.rows else 0):
            r = run1 - 1 - i if s % 2 else run0 + i
            step.first_group, step.last_group = r * p.run, min(p.groups, (r + 1) * p.run)
            multiply_columns(kern, state, pitch, <const real*>layer.state_panels, state_bias, products,
                             p.columns, step.rows, step.first_group * lanes, step.last_group * lanes, hidden,
                             p.cell != FNN_GRU, s % 2)
            kern.cell[p.cell](&step)
        if not go_on(&p.watch) and parts == 1:
            return
        if parts > 1 and meet(barrier, parts, &p.watch.interrupted):
            return
    final_states(p, layer, n0, n1, j0, j1, <const real*>NULL)


cdef void final_states(const Pass* p, const Layer* layer, Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t j0,
                       Py_ssize_t j1, const real* of_dtype) noexcept nogil:
    """Each sequence's state after its last step, in columns j0 .. j1."""
    cdef Py_ssize_t s, t, i, done = 0, rows
    for s in range(p.steps - 1, -1, -1):
        t = p.steps - 1 - s if layer.reverse else s
        rows = alive(p, t, n0, n1)
        for i in range(done, rows):
            memcpy(<real*>layer.h + (n0 + i) * p.hidden + j0,
                   <const real*>layer.y + (p.starts[t] + n0 + i) * p.y_stride + j0, (j1 - j0) * sizeof(real))
        done = max(done, rows)


cdef void take_share(Pass* p, int thread, int members, const real* of_dtype) noexcept nogil:
    """What one thread of `members` does."""
    cdef real* workspace = <real*>(p.workspace + thread * p.share)
    cdef Py_ssize_t task
    cdef int parts = p.parts if members >= p.tasks * p.parts else 1
    if parts > 1:
        task = thread // parts
        if task < p.tasks:
            take_block(p, &p.layers[task % p.directions], task // p.directions, thread % parts, parts,
                       &p.barriers[task], workspace)
        return
    task = next_task(&p.dealt, thread, &p.watch)
    while task >= 0:
        take_block(p, &p.layers[task % p.directions], task // p.directions, 0, 1, NULL, workspace)
        task = next_task(&p.dealt, thread, &p.watch)


cdef void share_out(Pass* p, Py_ssize_t itemsize) noexcept nogil:
    """Find the threads for the work, and cut it; no sum is cut."""
    cdef const fnn_kernels* kern = kernels(itemsize)
    cdef Py_ssize_t nv = kern.nr // kern.lanes, part
    p.groups = ceil_div(p.hidden, kern.lanes)
    p.columns = p.groups * p.gates * kern.lanes
    if p.gates % nv == 0:
        nv = 1  # a group is whole panels already
    part = ceil_div(PART_VECTORS, p.gates * nv) * nv
    p.threads = team_size(NS_PER_MULTIPLY * p.gates * p.hidden * (p.hidden + p.depth)
                          * p.directions * p.starts[p.steps])
    p.blocks = count_blocks(p.batch, kern.mr, p.threads)
    p.block = ceil_div(p.batch, p.blocks)
    p.chunk = max(<Py_ssize_t>1, min(p.steps, CHUNK_TILES * kern.mr // p.block))
    p.tasks = p.directions * p.blocks
    p.parts = 1
    if p.threads > p.tasks:
        p.parts = min(step_parts(NS_PER_MULTIPLY * p.gates * p.hidden * p.hidden * p.block, p.threads,
                                 p.tasks), <int>ceil_div(p.groups, part))
        p.threads = <int>p.tasks * p.parts
    part = ceil_div(p.groups, p.parts)
    p.run = ceil_div(ceil_div(part, ceil_div(part * p.gates, RUN_VECTORS)), nv) * nv
    p.share = (whole_lines(p.chunk * p.block * p.columns * itemsize)
               + whole_lines(p.block * state_pitch(p.hidden, kern.lanes) * itemsize)
               + (whole_lines(p.block * p.columns * itemsize) if p.cell == FNN_GRU else 0))


cdef int run_pass(Pass* p, const real* of_dtype) noexcept nogil:
    """Returns 1 if there is no memory for the workspace."""
    cdef size_t bytes
    start(&p.watch)
    share_out(p, sizeof(real))
    bytes = p.threads * p.share
    p.workspace = <char*>take(bytes)
    if p.workspace is NULL:
        return 1
    deal(&p.dealt, p.tasks, p.threads)
    if p.threads == 1:
        take_share(p, 0, 1, of_dtype)
    else:
        memset(p.barriers, 0, sizeof(p.barriers))
        with parallel(num_threads=p.threads):
            take_share(p, thread_id(), team_members(), of_dtype)
        if p.parts > 1:
            adjourn(p.barriers, p.tasks)
            work_done(True)
    give(p.workspace, bytes)
    return 0


cdef Py_ssize_t count_blocks(Py_ssize_t batch, Py_ssize_t mr, int threads) noexcept nogil:
    """Into how many blocks to cut the sequences: each at most the rows of a register tile, or of BLOCK_TILES
    for a single thread, which has nobody to share with.

    From 8 sequences on their number is even, for two threads to share; a tile of 4 rows still keeps the
    multipliers busy.
    """
    cdef Py_ssize_t blocks = ceil_div(batch, mr)
    if threads == 1:
        return ceil_div(batch, BLOCK_TILES * mr)
    return blocks + blocks % 2 if batch >= 8 else blocks


cdef Py_ssize_t panels_of_input(Py_ssize_t columns, Py_ssize_t depth, Py_ssize_t itemsize) noexcept nogil:
    """Where the panels of W_hh begin, behind those of W_ih."""
    return panel_elements(columns, depth, itemsize)


def lanes(Py_ssize_t itemsize):
    """Columns of each gate in a group."""
    cdef Environment _caller = default_environment()
    return kernels(itemsize).lanes


cdef struct Groups:
    # W [gates * hidden, depth], whose rows are packed in groups, a task for each gate of each.
    const fnn_kernels* kern
    Py_ssize_t itemsize, gates, hidden, depth
    const char* weight
    char* panels


cdef void pack_gates(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    """The columns of one gate of a group each. See `share`."""
    cdef const Groups* w = <const Groups*>job
    cdef Py_ssize_t lanes = w.kern.lanes, nr = w.kern.nr, task, row, column
    for task in range(first, last):
        row, column = task // w.gates * lanes, task * lanes
        w.kern.transpose(min(lanes, w.hidden - row), w.depth,
                         w.weight + (task % w.gates * w.hidden + row) * w.depth * w.itemsize, w.depth,
                         w.panels + (column // nr * nr * w.depth + column % nr) * w.itemsize, nr)


cdef void pack_groups(const real* weight, Py_ssize_t gates, Py_ssize_t hidden, Py_ssize_t depth,
                      real* panels) noexcept nogil:
    """Panels of W^T, zeros where the last group has no columns."""
    cdef Groups w
    cdef Py_ssize_t groups
    w.kern, w.itemsize, w.gates, w.hidden, w.depth = kernels(sizeof(real)), sizeof(real), gates, hidden, depth
    w.weight, w.panels = <const char*>weight, <char*>panels
    groups = ceil_div(hidden, w.kern.lanes)
    if hidden % w.kern.lanes or groups * gates * w.kern.lanes % w.kern.nr:
        memset(panels, 0, panel_elements(groups * gates * w.kern.lanes, depth, sizeof(real)) * sizeof(real))
    share(pack_gates, &w, groups * gates, pack_ns(gates * hidden, depth))


def forward_panels(Py_ssize_t gates, weight_ih, weight_hh, panels):
    """Pack W_ih^T and W_hh^T, contiguous, one after the other, as `forward` takes them."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_all(&arrays, (weight_ih, weight_hh), (panels,))
    if arrays.item[0].itemsize == sizeof(float):
        pack_both[float](&arrays, NULL, gates)
    else:
        pack_both[double](&arrays, NULL, gates)
    raise_interrupt()


cdef void pack_both(const Arrays* arrays, const real* of_dtype, Py_ssize_t gates) noexcept:
    """The operands of forward_panels."""
    cdef const Py_buffer* ih = &arrays.item[0]
    cdef const Py_buffer* hh = &arrays.item[1]
    cdef real* panels = <real*>arrays.item[2].buf
    cdef Py_ssize_t depth = ih.shape[1], hidden = hh.shape[1], lanes = kernels(sizeof(real)).lanes
    cdef Py_ssize_t columns = ceil_div(hidden, lanes) * gates * lanes
    with nogil:
        pack_groups(<const real*>ih.buf, gates, hidden, depth, panels)
        pack_groups(<const real*>hh.buf, gates, hidden, hidden,
                    panels + panels_of_input(columns, depth, sizeof(real)))


def forward_panels_size(Py_ssize_t n, Py_ssize_t d, Py_ssize_t h, Py_ssize_t itemsize):
    """Elements of the packed weights of one direction, n their rows."""
    return panel_elements(n, d, itemsize) + panel_elements(n, h, itemsize)


def forward(int cell, Py_ssize_t n_gates, x, starts, panels, bias, h, c, gates, h_prev, c_prev, y,
            bint reverse):
    """Run one layer. The first axis of panels, bias, h, c, gates, h_prev and c_prev is the direction.

    All arrays are contiguous.

    Parameters
    ----------
    cell, n_gates : int
        As CELLS has them.
    x : [rows, D]
        At least one row, in the order of time.
    starts : [steps + 1] of Py_ssize_t
        First row of each step.
    panels, bias : [directions, ...], [directions, 2 * columns]
        As `forward_panels` makes them; the biases in groups, of the input's product and of the state's.
    h, c : [directions, batch, H]
        Initial states in, final states out; c of the LSTM alone, else None.
    gates : [directions, rows, W] or None
        Kept for backward; see csrc/recurrent.h for the columns.
    h_prev, c_prev : [directions, rows, H] or None
        The states before each step, if they are to be kept.
    y : [rows, directions * H]
        States after each step.
    reverse : bool
        Whether the first direction goes back in time; a second always does.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire(&arrays, starts, False)
    acquire_all(&arrays, (x, panels, bias), (h, c, gates, h_prev, c_prev, y))
    status = run_forward(&arrays, cell, n_gates, reverse)
    finish(status, "recurrent forward")


cdef enum:  # the operands of `forward`
    STARTS, X, PANELS, BIAS, H, C, GATES, H_PREV, C_PREV, Y


cdef int run_forward(const Arrays* arrays, int cell, Py_ssize_t gates, bint reverse) noexcept:
    """The operands of `forward`, of either dtype. Returns 1 if there is no memory for the workspace."""
    cdef const Py_buffer* a = arrays.item
    cdef Py_ssize_t itemsize = a[X].itemsize, of_input, d
    cdef Pass p
    cdef Layer* layer
    p.cell, p.gates = cell, gates
    p.directions, p.batch, p.hidden = a[H].shape[0], a[H].shape[1], a[H].shape[2]
    p.steps, p.depth, p.starts = a[STARTS].shape[0] - 1, a[X].shape[1], <const Py_ssize_t*>a[STARTS].buf
    p.y_stride, p.gates_stride = a[Y].shape[1], 0 if a[GATES].buf is NULL else a[GATES].shape[2]
    of_input = panels_of_input(a[BIAS].shape[1] // 2, p.depth, itemsize)
    for d in range(p.directions):
        layer = &p.layers[d]
        layer.reverse = reverse or d == 1
        layer.x, layer.input_panels, layer.bias = a[X].buf, inner(&a[PANELS], d), inner(&a[BIAS], d)
        layer.state_panels = at(layer.input_panels, of_input * itemsize)
        layer.h, layer.c, layer.y = inner(&a[H], d), inner(&a[C], d), at(a[Y].buf, d * p.hidden * itemsize)
        layer.gates = inner(&a[GATES], d)
        layer.h_prev, layer.c_prev = inner(&a[H_PREV], d), inner(&a[C_PREV], d)
    with nogil:
        if itemsize == sizeof(float):
            return run_pass(&p, <const float*>NULL)
        return run_pass(&p, <const double*>NULL)
