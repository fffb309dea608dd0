"""Convolution row of outputs by row of outputs: in groups that are narrow, or of few channels in all.

A group of one channel is depthwise convolution. Groups of up to a vector, with as many filters as channels,
are computed several to a vector (csrc/grouped.h); the register tile would fill one lane in a few.
Filters lie as [tap][filter], those of groups as panels [tap][channel of the group][lanes]. Of few channels in
all, whose images are copied with their padding (conv.pyx), a row is a product of pixels that lie evenly with
panels of filters (csrc/even_tile.h).

A task is a band of rows of outputs; a row is computed at all channels, of depthwise ones while the input
rows that the next one reads besides are fetched into L2, if images come from beyond the caches. Going down
the band with a block of channels that stays in L1 was slower on images of 56 and more pixels: memory is read
best as it lies.

The gradient of the filters is the same walk with the filters as sums, a set of them for each slice of rows,
added in order at the end; the rows of a small image are cut in parts instead. The cut depends on the shapes
alone.
"""

from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastnn._kernels.gemm cimport add_slices
from fastnn._kernels.pack cimport PLACES, pack_columns, pack_panels
from fastnn._kernels.runtime cimport (
    CACHE_LINE, FNN_ROWS_AHEAD, LARGE_BYTES, Watch, ceil_div, deal, fills_caches, first_line, fnn_kernels,
    fnn_row, fnn_tasks, go_on, is_intel, kernels, like_parts, lines_apart, multiply_ns, next_task, real,
    start, team_for, team_size
)
from fastnn._kernels.walk cimport Walk

cdef enum:
    BAND = 16                # rows of outputs in a task, at most ...
    BAND_NS = 6000           # ... and no more than take so long: two threads share the 7 rows of small images
    PANEL_BYTES = 24 * 1024  # of a panel of filters that stays in L1, beside pixels
    PART_BYTES = 128 * 1024  # of a part of a row of outputs that stays in L2 while panels pass over it
    PART_TILES = 16          # in it, at least
    MAX_SLICES = 8           # of rows
    PARTS = 4                # of a row's channels, at most, where there is one slice ...
    PART_CHANNELS = 32       # ... of so many at least, whole cache lines


cdef Py_ssize_t narrow_group(Py_ssize_t channels, Py_ssize_t filters, Py_ssize_t groups,
                             Py_ssize_t itemsize) noexcept nogil:
    """Channels of a group, if these drivers are for it; else 0."""
    cdef Py_ssize_t group = channels // groups, lanes = kernels(itemsize).lanes
    if channels != filters or groups == 1:
        return 0
    return group if group == 1 or (group in (2, 4, 8, 16) and group <= lanes) else 0


cdef Py_ssize_t panel_channels(Py_ssize_t channels, Py_ssize_t group, Py_ssize_t itemsize) noexcept nogil:
    """The channels of a panel of filters: all, or in groups those of a vector."""
    return channels if group == 1 else kernels(itemsize).lanes


cdef Py_ssize_t filter_elements(Py_ssize_t channels, Py_ssize_t group, Py_ssize_t taps,
                                Py_ssize_t itemsize) noexcept nogil:
    """Elements of packed filters, or of their gradient."""
    cdef Py_ssize_t width = panel_channels(channels, group, itemsize)
    return ceil_div(channels, width) * width * group * taps


cdef void pack_narrow(const real* weight, const Py_ssize_t* places, Py_ssize_t channels, Py_ssize_t group,
                      Py_ssize_t taps, real* packed) noexcept nogil:
    """From [filter][channel of the group][tap] to panels [places[tap]][channel of the group][filter]."""
    pack_panels(weight, places, taps, group, taps, channels, group * taps,
                panel_channels(channels, group, sizeof(real)), packed)


cdef void pack_narrow_transposed(const real* weight, const Py_ssize_t* places, Py_ssize_t channels,
                                 Py_ssize_t group, Py_ssize_t taps, real* packed) noexcept nogil:
    """As the gradient of the input reads them: channels and filters of a group exchanged."""
    cdef Py_ssize_t width = panel_channels(channels, group, sizeof(real)), run = group * taps, g, c
    if group == 1:
        pack_narrow(weight, places, channels, group, taps, packed)
        return
    c = channels // width * width
    if c < channels:
        memset(packed + c * run, 0, width * run * sizeof(real))
    for g in range(channels // group):
        c = g * group
        pack_columns(weight + c * run, places, taps, group, run, group, taps,
                     packed + c // width * width * run + c % width, width)


cdef void point_rows(const Walk* walk, fnn_row* task, const real* image, Py_ssize_t p,
                     const void** table) noexcept nogil:
    """The input rows under row p of the outputs, and the next ones below them that row p + 1 reads.

    These, to be fetched, where the images are far: 8 of 144 channels of 56 x 56 3033 -> 1849 us (Zen 3),
    under a stride of 2 16 of them 1763 -> 1040 (Zen 5); but of one image, out of L2, 38.9 -> 43.
    """
    cdef Py_ssize_t r, h, last = 0, ahead = 0
    for r in range(task.r):
        last = p * walk.stride_h + walk.tap_h[r * task.s]
        table[r] = image + last * walk.x_h if 0 <= last < walk.h else NULL
    for r in range(FNN_ROWS_AHEAD):
        task.ahead[r] = NULL
    for r in range(task.r if task.far and p + 1 < walk.p else 0):
        h = (p + 1) * walk.stride_h + walk.tap_h[r * task.s]
        if max(last, <Py_ssize_t>-1) < h < walk.h and ahead < FNN_ROWS_AHEAD:
            task.ahead[ahead] = image + h * walk.x_h
            ahead += 1


cdef void describe(const Walk* walk, fnn_row* task, Py_ssize_t channels, Py_ssize_t group) noexcept nogil:
    """What all rows share. The taps of a walk are a grid, row by row."""
    task.s = 0
    while task.s < walk.taps and walk.tap_h[task.s] == walk.tap_h[0]:
        task.s += 1
    task.r = walk.taps // task.s
    task.group = group
    task.w, task.channels, task.x_pixel = walk.w, channels, walk.x_w
    task.q, task.y_pixel, task.stride = walk.q, walk.y_q, walk.stride_w
    task.tap_w = walk.tap_w
    task.filter_step = channels
    task.far = task.past = False
    task.elements_ahead = 0


cdef void describe_groups(const Walk* walk, fnn_row* task, Py_ssize_t channels, Py_ssize_t group,
                          Py_ssize_t panel_taps, Py_ssize_t itemsize) noexcept nogil:
    """What all rows share of a convolution whose panels of filters hold so many taps."""
    describe(walk, task, channels, group)
    task.far = group == 1 and walk.n * walk.x_n * itemsize >= LARGE_BYTES
    if group > 1:
        task.filter_step = panel_taps * group * panel_channels(channels, group, itemsize)


cdef int convolve_rows(const Walk* walk, const real* x, const real* filters, const real* bias, real* y,
                       Py_ssize_t channels, Py_ssize_t group, Py_ssize_t panel_taps, bint accumulate,
                       int relu) noexcept nogil:
    """y = f(filters * x + bias). Returns -1 when memory is short or Ctrl-C was pressed.

    `filters` points at the first tap of this walk; a panel holds `panel_taps` taps, of all walks together.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef fnn_row shared
    describe_groups(walk, &shared, channels, group, panel_taps, sizeof(real))
    shared.bias = bias
    shared.accumulate, shared.relu = accumulate, relu
    shared.past = not accumulate and goes_past(walk, channels, y)
    return all_rows(walk, &shared, kern.depthwise_row if group == 1 else kern.grouped_row, x, filters, y, 1,
                    0.05 * walk.q * channels * group * walk.taps)


cdef bint goes_past(const Walk* walk, Py_ssize_t channels, const real* y) noexcept nogil:
    """Whether outputs are written past the caches: their array would fill these, and pixels are whole lines.

    It is the array that counts, of which a stride's classes, images that are copied together, or convolutions
    side by side, write parts.
    """
    cdef Py_ssize_t size = sizeof(real), steps = (channels | walk.y_q | walk.y_p | walk.y_n) * size
    return fills_caches(y + walk.y_start, walk.images * walk.y_n * size) and steps % CACHE_LINE == 0


cdef bint tiles_go_past(const Walk* walk, Py_ssize_t columns, const real* y, bint accumulate) noexcept nogil:
    """Likewise of tiles of short sums, where that pays: see csrc/even_tile.h."""
    return is_intel() and not accumulate and goes_past(walk, columns, y)


cdef bint runs_fit(const Walk* walk, Py_ssize_t run, Py_ssize_t itemsize) noexcept nogil:
    """Whether rows of outputs pay, of a walk over images with their padding, whose taps are runs of numbers.

    A row fills tiles of MR pixels but for a fifth, and a panel of filters stays in L1.
    """
    cdef const fnn_kernels* kern = kernels(itemsize)
    cdef Py_ssize_t computed = ceil_div(walk.q, kern.mr) * kern.mr
    return (walk.q >= kern.mr and 4 * computed <= 5 * walk.q
            and walk.taps * run * kern.nr * itemsize <= PANEL_BYTES)


cdef bint pixels_fit(const Walk* walk, Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """Whether rows of outputs pay of a 1 x 1 filter with a stride: pixels lie evenly along a row, all inside.

    With tall tiles, whose tables of rows take long for short sums: AVX-512, 64 -> 128 at 56 x 56 .95 of the
    time, 128 -> 256 at 28 x 28 .97; AVX2, with tiles of six rows, 1.0 to 1.03.
    """
    return (walk.taps == 1 and walk.tap_h[0] == walk.tap_w[0] == 0 and walk.stride_w > 1
            and walk.p1 >= walk.p and walk.q1 >= walk.q and kernels(itemsize).mr > 8
            and runs_fit(walk, channels, itemsize))


cdef int convolve_few_channels(const Walk* walk, const real* x, const real* panels, Py_ssize_t run,
                               const real* bias, real* y, Py_ssize_t columns, bint accumulate,
                               int relu) noexcept nogil:
    """y = f(filters * x + bias). Returns -1 when memory is short or Ctrl-C was pressed."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t part = max(PART_BYTES // (columns * <Py_ssize_t>sizeof(real)), PART_TILES * kern.mr)
    cdef fnn_row shared
    describe_runs(walk, &shared, run, columns, sizeof(real))
    shared.bias, shared.accumulate, shared.relu = bias, accumulate, relu
    shared.past = tiles_go_past(walk, columns, y, accumulate)
    return all_rows(walk, &shared, kern.even_row, x, panels, y, like_parts(walk.q, part),
                    walk.q * columns * (multiply_ns(walk.taps * run) + 0.12))


cdef void describe_runs(const Walk* walk, fnn_row* task, Py_ssize_t run, Py_ssize_t columns,
                        Py_ssize_t itemsize) noexcept nogil:
    """What all rows of a convolution of few channels share, but for what is done besides the product."""
    describe(walk, task, columns, run)
    task.filter_step = walk.taps * run * kernels(itemsize).nr


cdef int all_rows(const Walk* walk, const fnn_row* shared, void (*body)(const fnn_row*) noexcept nogil,
                  const real* x, const real* filters, real* y, Py_ssize_t parts,
                  double cost) noexcept nogil:
    """All rows of outputs, each of so many parts and taking `cost` nanoseconds.

    Returns -1 when memory is short or Ctrl-C was pressed.
    """
    cdef Py_ssize_t rows = walk.n * walk.p
    cdef Py_ssize_t bands = like_parts(rows * parts, max(<Py_ssize_t>1, <Py_ssize_t>min(
        <double>BAND, BAND_NS * parts / cost)))
    cdef int threads = team_for(bands, team_size(rows * cost))
    cdef Py_ssize_t table_size = lines_apart(walk.taps + 1, sizeof(void*))
    cdef const void** tables = <const void**>malloc(threads * table_size * sizeof(void*))
    cdef fnn_tasks tasks
    cdef Watch watch
    cdef int thread
    if tables is NULL:
        return -1
    start(&watch)
    deal(&tasks, bands, threads)
    if threads == 1:
        convolve_share(&tasks, 0, &watch, body, walk, shared, x, y, filters, parts, bands, tables)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            convolve_share(&tasks, thread, &watch, body, walk, shared, x, y, filters, parts, bands,
                           tables + thread * table_size)
    free(tables)
    return -1 if watch.interrupted else 0


cdef void convolve_share(fnn_tasks* tasks, int thread, Watch* watch,
                         void (*body)(const fnn_row*) noexcept nogil, const Walk* walk, const fnn_row* shared,
                         const real* x, real* y, const real* filters, Py_ssize_t parts, Py_ssize_t bands,
                         const void** table) noexcept nogil:
    """One thread's share of the bands of rows."""
    cdef Py_ssize_t count = walk.n * walk.p * parts, task = next_task(tasks, thread, watch)
    while task >= 0:
        band_task(body, walk, shared, x, y, <real*>filters, parts, task * count // bands,
                  (task + 1) * count // bands, table, NULL)
        task = next_task(tasks, thread, watch)


cdef void band_task(void (*body)(const fnn_row*) noexcept nogil, const Walk* walk, const fnn_row* shared,
                    const real* x, real* y, real* filters, Py_ssize_t parts, Py_ssize_t first,
                    Py_ssize_t last, const void** table, Watch* watch) noexcept nogil:
    """Parts of rows first..last, all images' counted through; each thread has its own description of a row.

    `watch` may be NULL, where they are few. Only rows whose taps are runs have several parts.
    """
    cdef fnn_row task = shared[0]
    cdef Py_ssize_t i, n, p, q0, r
    task.rows = table
    task.filters = filters
    for i in range(first, last):
        if not go_on(watch):
            return
        n = i // parts // walk.p
        p = i // parts % walk.p
        q0 = i % parts * walk.q // parts
        point_rows(walk, &task, x + n * walk.x_n, p, table)
        task.y = y + walk.y_start + n * walk.y_n + p * walk.y_p + q0 * walk.y_q
        task.y_ahead = NULL if task.ahead[0] is NULL else <real*>task.y + walk.y_p
        if parts > 1:
            task.q = (i % parts + 1) * walk.q // parts - q0
            for r in range(task.r):
                table[r] = <const real*>table[r] + q0 * task.stride * task.x_pixel
        body(&task)


cdef int rows_gradient(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t channels,
                       Py_ssize_t group, real* grad_weight) noexcept nogil:
    """grad_weight [filter][channel of the group][tap].

    Returns -1 when memory is short or Ctrl-C was pressed.
    """
    cdef Py_ssize_t rows = walk.n * walk.p
    cdef Py_ssize_t size = filter_elements(channels, group, walk.taps, sizeof(real))
    cdef Py_ssize_t slices = max(<Py_ssize_t>1, min(<Py_ssize_t>MAX_SLICES, rows // BAND))
    cdef Py_ssize_t parts = min(<Py_ssize_t>PARTS, ceil_div(channels, PART_CHANNELS)) if slices == 1 else 1
    cdef int threads = team_for(slices * parts, team_size(0.1 * rows * walk.q * channels * group * walk.taps))
    cdef Py_ssize_t table_size = lines_apart(walk.taps + 1, sizeof(void*))
    cdef const void** tables = <const void**>malloc(threads * table_size * sizeof(void*))
    cdef void* memory = calloc(slices * size * sizeof(real) + CACHE_LINE, 1)
    # From a line's beginning on, so that parts, which are whole lines, have none in common.
    cdef real* sums = <real*>first_line(memory)
    cdef fnn_row shared
    cdef fnn_tasks tasks
    cdef Watch watch
    cdef int thread
    if tables is NULL or memory is NULL:
        free(tables)
        free(memory)
        return -1
    describe_groups(walk, &shared, channels, group, walk.taps, sizeof(real))
    shared.bias = NULL
    shared.accumulate = shared.relu = False
    start(&watch)
    deal(&tasks, slices * parts, threads)
    if threads == 1:
        gradient_share(&tasks, 0, walk, &shared, x, grad_y, sums, slices, parts, tables, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            gradient_share(&tasks, thread, walk, &shared, x, grad_y, sums, slices, parts,
                           tables + thread * table_size, &watch)
    if not watch.interrupted:
        add_slices(sums, sums + size, slices - 1, size)
        filters_of_channels(sums, walk.taps, channels, group, grad_weight)
    free(tables)
    free(memory)
    return -1 if watch.interrupted else 0


cdef void gradient_share(fnn_tasks* tasks, int thread, const Walk* walk, const fnn_row* shared, const real* x,
                         const real* grad_y, real* sums, Py_ssize_t slices, Py_ssize_t parts,
                         const void** table, Watch* watch) noexcept nogil:
    """One thread's share of the slices of rows and their parts."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef fnn_row task = shared[0]
    cdef Py_ssize_t of_channel = 1 if task.group == 1 else walk.taps * task.group  # elements of sums
    cdef Py_ssize_t rows = walk.n * walk.p, channels = shared.channels
    cdef Py_ssize_t size = filter_elements(channels, shared.group, walk.taps, sizeof(real))
    cdef Py_ssize_t lines = ceil_div(channels, PART_CHANNELS), part, c0, slice
    cdef Py_ssize_t i = next_task(tasks, thread, watch)
    while i >= 0:
        part = i % parts
        slice = i // parts
        c0 = part * lines // parts * PART_CHANNELS
        task.channels = min(channels, (part + 1) * lines // parts * PART_CHANNELS) - c0
        band_task(kern.depthwise_gradient if task.group == 1 else kern.grouped_gradient, walk, &task, x + c0,
                  <real*>grad_y + c0, sums + slice * size + c0 * of_channel, 1, slice * rows // slices,
                  (slice + 1) * rows // slices, table, watch)
        i = next_task(tasks, thread, watch)


cdef void filters_of_channels(const real* sums, Py_ssize_t taps, Py_ssize_t channels, Py_ssize_t group,
                              real* grad_weight) noexcept nogil:
    """From panels [tap][filter of the group][channel] to [group][filter][channel of the group][tap]."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t places[PLACES]
    cdef Py_ssize_t row = panel_channels(channels, group, sizeof(real)), part, c0, c, i
    cdef Py_ssize_t width = min(row, <Py_ssize_t>PLACES)
    cdef const real* panel
    for part in range(ceil_div(channels, width)):
        c0 = part * width
        panel = sums + (c0 if group == 1 else c0 * group * taps)
        for c in range(min(width, channels - c0)):
            places[c] = ((c0 + c) // group * group * group + c % group) * taps
        for i in range(group):
            kern.transpose_rows(taps, min(width, channels - c0), panel + i * row, group * row, NULL,
                                grad_weight + i * group * taps, 0, places)
