"""Pooling: how the outputs are cut in tasks, and how gradients find their way back.

A task makes a row of outputs, or a block of it where the row is long::

    x: the rows of the window          *_rows: folded, RUN_BYTES of them, in the thread's scratch
          |
    run of folded pixels in L1         *_columns: the pixels of each window folded
          |
    y: outputs of the task             csrc/pool.h has the bodies

Windows come as tables, of the rows and of the columns of outputs (fnn_window: where the window begins,
how many of its taps lie inside the image), so that padding, ceil_mode and adaptive windows are the same to
the kernels.

The gradient of a mean is such a pooling, too: each pixel sums the outputs whose windows cover it, and for
every pixel these are a range of rows by a range of columns.

The gradient of a maximum is scattered to the places that the forward pass wrote down. A task has an image,
or a slice of its channels, to itself, so that every pixel adds its outputs in order.
"""

from cython.parallel cimport prange
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.runtime cimport (
    CACHE_LINE,
    ceil_div,
    fnn_kernels,
    fnn_pool_columns,
    fnn_window,
    kernels,
    real,
    team_size,
    thread_id,
    whole_lines,
)

cdef double NS_PER_BYTE = 0.1       # one core streams about 10 GB/s
cdef enum:
    RUN_BYTES = 4 * 1024            # the run stays in L1 while rows stream by (16 KB: a third slower)
    SMALL = 4                       # taps of a window that is folded at once, rows and columns
    MANY_IMAGES = 8                 # enough to share; fewer are cut in slices of ...
    SLICE = 32                      # ... channels: two cache lines of float

cdef enum Kind:
    MAX
    ARGMAX
    MEAN

ctypedef fused integer:
    int
    long long

# One call of a forward kernel. Data are bytes: what is done with them, the bodies know.
cdef struct Pooling:
    Kind kind
    const fnn_kernels* kern
    Py_ssize_t itemsize
    Py_ssize_t images, height, width, channels
    Py_ssize_t out_height, out_width
    const fnn_window* rows          # [out_height]
    const fnn_window* columns       # [out_width]
    Py_ssize_t row_dilation, column_dilation
    bint apart                      # windows are small, and a pixel belongs to one of a row at most
    const char* x
    char* y
    char* places

# Some outputs of a row, next to one another, and the pixels that their windows reach.
cdef struct Block:
    Py_ssize_t q, outputs, w, pixels


cdef void span(const Pooling* job, Block* block) noexcept nogil:
    """Find the pixels of the block's outputs. Dilated windows need not begin in order."""
    cdef const fnn_window* window = job.columns + block.q
    cdef Py_ssize_t i, first = job.width, end = 0
    for i in range(block.outputs):
        if window[i].taps:
            first = min(first, window[i].first)
            end = max(end, window[i].first + (window[i].taps - 1) * job.column_dilation + 1)
    block.w = min(first, end)
    block.pixels = end - block.w


cdef void pool_task(const Pooling* job, Py_ssize_t row, const Block* block, char* scratch,
                    Py_ssize_t run_size, Py_ssize_t y_size) noexcept nogil:
    """One block of one row of outputs, the rows of all images counted through.

    The scratch memory is [run][places of the run][y][places of y].
    """
    cdef const fnn_kernels* kern = job.kern
    cdef const fnn_window* window = job.rows + row % job.out_height
    cdef Py_ssize_t pixel = job.channels * job.itemsize, line = job.width * job.channels
    cdef Py_ssize_t n = block.pixels * job.channels, y_offset = (row * job.out_width + block.q) * pixel
    cdef Py_ssize_t first_row = row // job.out_height * job.height + window.first
    cdef const char* x = job.x + (first_row * job.width + block.w) * pixel
    cdef char* y = scratch + 2 * run_size
    cdef bint direct = job.channels % kern.lanes == 0  # nothing is written past the end of a pixel
    cdef fnn_pool_columns columns
    columns.windows = job.columns + block.q
    columns.outputs = block.outputs
    columns.channels = job.channels
    columns.dilation = job.column_dilation
    columns.origin = block.w
    columns.row_divisor = window.divisor
    columns.run = scratch
    columns.rows = 1
    columns.row_step = 0
    columns.places = scratch + run_size
    columns.y = job.y + y_offset if direct else y
    columns.y_places = NULL
    if job.kind == ARGMAX:
        columns.y_places = job.places + y_offset if direct else y + y_size
        kern.argmax_rows(n, window.taps, job.row_dilation * line, x, window.first * job.width,
                         job.row_dilation * job.width, scratch, scratch + run_size)
        kern.argmax_columns(&columns)
    elif job.apart and direct and 0 < window.taps <= SMALL:
        columns.run = x
        columns.rows = window.taps
        columns.row_step = job.row_dilation * line
        if job.kind == MAX:
            kern.max_columns(&columns)
        else:
            kern.mean_columns(&columns)
    elif job.kind == MAX:
        kern.max_rows(n, window.taps, job.row_dilation * line, x, scratch)
        kern.max_columns(&columns)
    else:
        if window.taps:
            kern.sum_rows(n, window.taps, job.row_dilation * line, x, scratch)
        else:
            memset(scratch, 0, n * job.itemsize)
        kern.mean_columns(&columns)
    if not direct:
        memcpy(job.y + y_offset, y, block.outputs * pixel)
        if job.kind == ARGMAX:
            memcpy(job.places + y_offset, y + y_size, block.outputs * pixel)


cdef int pool(const Pooling* job) except -1 nogil:
    """Cut the outputs into tasks and run them."""
    cdef Py_ssize_t pixel = job.channels * job.itemsize, spare = (job.kern.lanes - 1) * job.itemsize
    cdef Py_ssize_t tasks, task, length, count, i, longest = 0, run_size, y_size
    cdef int threads
    cdef Block* blocks
    cdef char* memory
    cdef char* scratch
    if job.images == 0 or job.channels == 0:
        return 0
    length = max(job.out_width * RUN_BYTES // (job.width * pixel * (2 if job.kind == ARGMAX else 1)),
                 <Py_ssize_t>1)
    count = ceil_div(job.out_width, length)
    tasks = job.images * job.out_height * count
    threads = team_size(NS_PER_BYTE * pixel * job.images * job.out_height
                        * (job.width * (1.0 + job.rows[job.out_height // 2].taps)
                           + job.out_width * (1.0 + job.columns[job.out_width // 2].taps)))
    blocks = <Block*>malloc(count * sizeof(Block))
    if blocks is NULL:
        no_memory(count * sizeof(Block))
    for i in range(count):
        blocks[i].q = i * length
        blocks[i].outputs = min(length, job.out_width - i * length)
        span(job, &blocks[i])
        longest = max(longest, blocks[i].pixels)
    run_size = whole_lines(longest * pixel + spare)
    y_size = whole_lines(length * pixel + spare)
    memory = <char*>malloc(threads * 2 * (run_size + y_size) + CACHE_LINE)
    if memory is NULL:
        free(blocks)
        no_memory(threads * 2 * (run_size + y_size))
    scratch = memory + whole_lines(<uintptr_t>memory) - <uintptr_t>memory
    for task in prange(tasks, schedule="static", num_threads=threads):
        pool_task(job, task // count, &blocks[task % count],
                  scratch + thread_id() * 2 * (run_size + y_size), run_size, y_size)
    free(memory)
    free(blocks)
    return 0


cdef int no_memory(Py_ssize_t size) except -1 with gil:
    raise MemoryError(f"pooling: no memory for a workspace of {size} bytes")


cdef void describe(Pooling* job, const real[:, :, :, ::1] x, const Py_ssize_t[:, ::1] windows,
                   real[:, :, :, ::1] y) noexcept nogil:
    job.kern = kernels(sizeof(real))
    job.itemsize = sizeof(real)
    job.images, job.height, job.width, job.channels = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    job.out_height, job.out_width = y.shape[1], y.shape[2]
    job.rows = <const fnn_window*>&windows[0, 0]
    job.columns = job.rows + job.out_height
    if x.shape[0] and x.shape[3]:
        job.x = <const char*>&x[0, 0, 0, 0]
        job.y = <char*>&y[0, 0, 0, 0]


cdef bint are_apart(const fnn_window* windows, Py_ssize_t count, Py_ssize_t dilation) noexcept nogil:
    """Whether windows are small and no two of them share a pixel."""
    cdef Py_ssize_t i
    for i in range(count):
        if windows[i].taps > SMALL:
            return False
        if i and windows[i - 1].first + (windows[i - 1].taps - 1) * dilation >= windows[i].first:
            return False
    return True


def max_pool(const real[:, :, :, ::1] x, const Py_ssize_t[:, ::1] windows, Py_ssize_t row_dilation,
             Py_ssize_t column_dilation, real[:, :, :, ::1] y, real[:, :, :, ::1] places):
    """y [n, p, q, c] = the largest x [n, h, w, c] with h, w in the windows p, q.

    `windows` are fnn_window: of the rows of y, then of its columns. `places` takes the bits of an integer as
    wide as `real` for each output, h * W + w; it may be empty.
    """
    cdef Environment _caller = default_environment()
    cdef Pooling job
    describe(&job, x, windows, y)
    job.kind = MAX
    job.row_dilation, job.column_dilation = row_dilation, column_dilation
    if places.shape[0] and x.shape[3]:
        job.kind = ARGMAX
        job.places = <char*>&places[0, 0, 0, 0]
    job.apart = are_apart(job.columns, job.out_width, column_dilation)
    with nogil:
        pool(&job)


def mean_pool(const real[:, :, :, ::1] x, const Py_ssize_t[:, ::1] windows, real[:, :, :, ::1] y):
    """y [n, p, q, c] = the sum of x [n, h, w, c] with h, w in the windows p, q, over their divisors."""
    cdef Environment _caller = default_environment()
    cdef Pooling job
    describe(&job, x, windows, y)
    job.kind = MEAN
    job.row_dilation = job.column_dilation = 1
    job.apart = are_apart(job.columns, job.out_width, 1)
    with nogil:
        pool(&job)


cdef void scatter(const real* grad_y, const integer* places, Py_ssize_t outputs, Py_ssize_t pixels,
                  Py_ssize_t channels, Py_ssize_t width, real* grad_x) noexcept nogil:
    """One image, `width` of its channels. Places outside are passed over: another thread may write them after
    they were checked."""
    cdef Py_ssize_t i, c
    cdef size_t place
    if width == channels:
        memset(grad_x, 0, pixels * channels * sizeof(real))
    else:
        for i in range(pixels):
            memset(grad_x + i * channels, 0, width * sizeof(real))
    for i in range(outputs):
        for c in range(width):
            place = <size_t>places[i * channels + c]
            if place < <size_t>pixels:
                grad_x[place * channels + c] += grad_y[i * channels + c]


def max_backward(const real[:, :, ::1] grad_y, const integer[:, :, ::1] places, real[:, :, ::1] grad_x):
    """grad_x [n, pixel, c] = the sum of the grad_y [n, output, c] with places [n, output, c] == pixel.

    Planes are laid flat.
    """
    cdef Environment _caller = default_environment()
    cdef Py_ssize_t images = grad_y.shape[0], outputs = grad_y.shape[1], channels = grad_y.shape[2]
    cdef Py_ssize_t pixels = grad_x.shape[1], task, image, c
    cdef Py_ssize_t width = channels if images >= MANY_IMAGES else min(channels, <Py_ssize_t>SLICE)
    cdef Py_ssize_t slices
    if images == 0 or channels == 0 or pixels == 0 or outputs == 0:
        return
    slices = ceil_div(channels, width)
    for task in prange(images * slices, nogil=True, schedule="static", num_threads=team_size(
            NS_PER_BYTE * sizeof(real) * images * channels * (2.0 * outputs + pixels))):
        image = task // slices
        c = task % slices * width
        scatter(&grad_y[image, 0, c], &places[image, 0, c], outputs, pixels, channels,
                min(width, channels - c), &grad_x[image, 0, c])
