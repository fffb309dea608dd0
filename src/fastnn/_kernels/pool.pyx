"""Pooling: how the outputs are cut in tasks, and how gradients find their way back.

Where channels fill vectors, a task makes a row of outputs, or a block of it where the row is long::

    x: the rows of the window          *_rows: folded, RUN_BYTES of them, in the thread's scratch
          |
    run of folded pixels in L1         *_columns: the pixels of each window folded
          |
    y: outputs of the task             csrc/pool.h, pool_places.h: the bodies

Small windows need no run; those of 3 x 3 slide along the row. Where channels are few, a task is a row of
outputs (csrc/pool_narrow.h).

Windows come as tables, of the rows and of the columns of outputs (fnn_window: where the window begins,
how many of its taps lie inside the image), so that padding, ceil_mode and adaptive windows are the same to
the kernels.

The gradient of a mean is such a pooling, too: each pixel sums the outputs whose windows cover it, and for
every pixel these are a range of rows by a range of columns. So is that of a maximum, with the outputs that
the pixel won, where windows are small and channels fill vectors; else it is scattered to the places that the
forward pass wrote down. A task has then an image, or a slice of its channels, to itself, so that every pixel
adds its outputs in order.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset
from numpy import dtype as _dtype
from numpy import ndarray

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire, acquire_or_none, finish
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.runtime cimport (
    ceil_div,
    fetch,
    fnn_kernels,
    fnn_pool_columns,
    fnn_pool_narrow,
    fnn_window,
    is_intel,
    kernels,
    raise_interrupt,
    real,
    team_size,
    whole_lines,
)
from fastnn._kernels.share cimport share, share_among

from fastnn._kernels.memory import empty

cdef extern from "kernels.h" nogil:
    int FNN_MAX, FNN_ARGMAX, FNN_MEAN, FNN_GROUP_BYTES

cdef double NS_PER_BYTE = 0.05      # out of L2; twice that out of memory, where all threads have enough to do
cdef enum:
    RUN_BYTES = 8 * 1024            # of pixels of a block; a run of them stays in L1 while rows stream by
    FAR_BYTES = 16 * 1024 * 1024    # of images in memory (fetching of 12.8 MB took 1.3 times, of 25.7 .9)
    SMALL = 4                       # taps of a window that is folded at once, rows and columns
    SMALL_ARGMAX = 9                # rows times columns of one, places with maxima
    MANY_IMAGES = 8                 # enough to share; fewer are cut in slices of ...
    SLICE = 32                      # ... channels: two cache lines of float

ctypedef fused integer:
    int
    long long

# One call of a forward kernel. Data are bytes: what is done with them, the bodies know.
cdef struct Pooling:
    int kind
    const fnn_kernels* kern
    Py_ssize_t itemsize
    Py_ssize_t images, height, width, channels
    Py_ssize_t out_height, out_width
    const fnn_window* rows          # [out_height]
    const fnn_window* columns       # [out_width]
    Py_ssize_t row_dilation, column_dilation
    bint apart                      # windows are small and have at most a pixel in common
    bint slides                     # along the row, see csrc/pool.h
    bint far                        # x is large, and its rows are to be fetched
    # One block of columns after the other, each through all rows: what its windows share stays in L1.
    bint downward
    const char* x
    char* y
    char* places
    const Block* blocks             # of a row of outputs
    Py_ssize_t count
    char* scratch                   # of each thread: [run][places of the run]
    Py_ssize_t run_size

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


cdef bint folded_at_once(const Pooling* job, const fnn_window* window) noexcept nogil:
    """Whether the window's pixels are read where they lie."""
    if job.kind == FNN_ARGMAX:
        return window.taps * job.columns[job.out_width // 2].taps <= SMALL_ARGMAX
    return window.taps <= SMALL and (job.apart or (job.slides and window.taps == 3))


cdef void pool_block(const Pooling* job, Py_ssize_t row, const Block* block, char* scratch) noexcept nogil:
    """One block of one row of outputs, the rows of all images counted through."""
    cdef const fnn_kernels* kern = job.kern
    cdef const fnn_window* window = job.rows + row % job.out_height
    cdef Py_ssize_t pixel = job.channels * job.itemsize, line = job.width * job.channels
    cdef Py_ssize_t n = block.pixels * job.channels, y_offset = (row * job.out_width + block.q) * pixel
    cdef Py_ssize_t first_row = row // job.out_height * job.height + window.first
    cdef const char* x = job.x + (first_row * job.width + block.w) * pixel
    cdef bint at_once = window.taps > 0 and folded_at_once(job, window)
    cdef fnn_pool_columns columns
    columns.windows = job.columns + block.q
    columns.outputs = block.outputs
    columns.channels = job.channels
    columns.dilation = job.column_dilation
    columns.origin = block.w
    columns.row_divisor = window.divisor
    columns.run = x if at_once else scratch
    columns.rows = window.taps if at_once else 1
    columns.row_step = job.row_dilation * line
    columns.places = NULL if at_once else scratch + job.run_size
    columns.place = window.first * job.width
    columns.place_step = job.row_dilation * job.width
    columns.y = job.y + y_offset
    columns.y_places = job.places + y_offset if job.kind == FNN_ARGMAX else NULL
    if not at_once and window.taps == 0:
        memset(scratch, 0, n * job.itemsize)
    elif not at_once and job.kind == FNN_ARGMAX:
        kern.argmax_rows(n, window.taps, job.row_dilation * line, x, columns.place, columns.place_step,
                         scratch, scratch + job.run_size)
    elif not at_once and job.kind == FNN_MAX:
        kern.max_rows(n, window.taps, job.row_dilation * line, x, scratch)
    elif not at_once:
        kern.sum_rows(n, window.taps, job.row_dilation * line, x, scratch)
    if job.far and at_once and row % job.out_height + 1 < job.out_height:
        fetch_rows(job, window, x, n * job.itemsize)
    if job.kind == FNN_ARGMAX:
        kern.argmax_columns(&columns)
    elif job.kind == FNN_MAX:
        kern.max_columns(&columns)
    else:
        kern.mean_columns(&columns)


cdef void fetch_rows(const Pooling* job, const fnn_window* window, const char* x,
                     Py_ssize_t bytes) noexcept nogil:
    """Fetch what the next row of outputs reads below this one's window, whose pixels begin at x.

    Of images in memory: 16 x 64 x 112 x 112, maxima of 3 x 3 .72 of the time (Zen 5); out of L3 it costs
    time (FAR_BYTES). Not on a Sapphire Rapids, which fetches such rows by itself: there it takes 1.25 times
    as long.
    """
    cdef const fnn_window* following = window + 1
    cdef Py_ssize_t tap, row, last = window.first + (window.taps - 1) * job.row_dilation
    for tap in range(following.taps):
        row = following.first + tap * job.row_dilation
        if row > last:
            fetch(x + (row - window.first) * job.width * job.channels * job.itemsize, bytes)


cdef void pool_blocks(const void* job_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Pooling* job = <const Pooling*>job_
    cdef Py_ssize_t task, row, block, image, within, of_image = job.out_height * job.count
    for task in range(first, last):
        if job.downward:
            image, within = task // of_image, task % of_image
            row, block = image * job.out_height + within % job.out_height, within // job.out_height
        else:
            row, block = task // job.count, task % job.count
        pool_block(job, row, &job.blocks[block], job.scratch + 2 * thread * job.run_size)


# A call of pool_narrow.
cdef struct Narrow:
    const fnn_kernels* kern
    fnn_pool_narrow p


cdef void narrow_rows(const void* job_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Narrow* job = <const Narrow*>job_
    job.kern.pool_narrow(&job.p, first, last)


cdef int pool(Pooling* job) noexcept nogil:
    """Cut the outputs into tasks and run them. Returns -1 where there is no memory."""
    cdef Py_ssize_t pixel = job.channels * job.itemsize, spare = (job.kern.lanes - 1) * job.itemsize
    cdef double serial_ns = (NS_PER_BYTE * pixel * job.images * job.out_height
                             * (job.width * (1.0 + job.rows[job.out_height // 2].taps)
                                + job.out_width * (1.0 + job.columns[job.out_width // 2].taps)))
    cdef int threads = team_size(serial_ns)
    cdef void* memory = malloc(job.out_width * max(<Py_ssize_t>FNN_GROUP_BYTES, <Py_ssize_t>sizeof(Block)))
    cdef size_t scratch_size
    cdef Block* blocks = <Block*>memory
    cdef Py_ssize_t length, i, longest = 0
    if memory is NULL:
        return -1
    if job.kern.pool_groups(job.columns, job.out_width, job.channels, job.column_dilation, memory):
        pool_few_channels(job, memory, serial_ns, threads)
        free(memory)
        return 0
    length = max(job.out_width * RUN_BYTES // (job.width * pixel * (2 if job.kind == FNN_ARGMAX else 1)),
                 <Py_ssize_t>1)
    job.blocks, job.count = blocks, ceil_div(job.out_width, length)
    for i in range(job.count):
        blocks[i].q = i * length
        blocks[i].outputs = min(length, job.out_width - i * length)
        span(job, &blocks[i])
        longest = max(longest, blocks[i].pixels)
    job.run_size = whole_lines(longest * pixel + spare)
    scratch_size = threads * 2 * job.run_size
    job.scratch = <char*>take(scratch_size)
    if job.scratch is NULL:
        free(memory)
        return -1
    share_among(threads, pool_blocks, job, job.images * job.out_height * job.count, serial_ns)
    give(job.scratch, scratch_size)
    free(memory)
    return 0


cdef void pool_few_channels(const Pooling* job, const void* groups, double serial_ns,
                            int threads) noexcept nogil:
    cdef Narrow narrow
    narrow.kern = job.kern
    narrow.p.kind = job.kind
    narrow.p.height, narrow.p.width, narrow.p.channels = job.height, job.width, job.channels
    narrow.p.out_height, narrow.p.out_width = job.out_height, job.out_width
    narrow.p.size = job.images * job.height * job.width * job.channels
    narrow.p.row_dilation, narrow.p.dilation = job.row_dilation, job.column_dilation
    narrow.p.rows, narrow.p.groups = job.rows, groups
    narrow.p.x, narrow.p.y, narrow.p.y_places = job.x, job.y, job.places
    share_among(threads, narrow_rows, &narrow, job.images * job.out_height, serial_ns)


cdef bint are_apart(const fnn_window* windows, Py_ssize_t count, Py_ssize_t dilation) noexcept nogil:
    """Whether windows are small and no two of them share more than a pixel."""
    cdef Py_ssize_t i
    for i in range(count):
        if windows[i].taps > SMALL:
            return False
        if i and windows[i - 1].first + (windows[i - 1].taps - 1) * dilation > windows[i].first:
            return False
    return True


cdef Py_ssize_t slide_step(const fnn_window* windows, Py_ssize_t count, Py_ssize_t dilation) noexcept nogil:
    """How far apart windows of three pixels are, 1 or 2; else 0. Those in the middle stand for all."""
    cdef const fnn_window* middle = windows + (count - 1) // 2
    cdef Py_ssize_t step = middle[1].first - middle.first if count > 1 else 0
    return step if 1 <= step <= 2 and middle.taps == middle[1].taps == 3 and dilation == 1 else 0


cdef int run_pool(int kind, const Arrays* arrays, Py_ssize_t row_dilation,
                  Py_ssize_t column_dilation) noexcept:
    """The arrays are x, the windows, y and perhaps places."""
    cdef const Py_buffer* x = &arrays.item[0]
    cdef const Py_buffer* y = &arrays.item[2]
    cdef Pooling job
    cdef Py_ssize_t step
    cdef bint far = x.len > FAR_BYTES
    job.kind = kind
    job.kern, job.itemsize = kernels(x.itemsize), x.itemsize
    job.images, job.height, job.width, job.channels = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    job.out_height, job.out_width = y.shape[1], y.shape[2]
    job.rows = <const fnn_window*>arrays.item[1].buf
    job.columns = job.rows + job.out_height
    job.row_dilation, job.column_dilation = row_dilation, column_dilation
    job.apart = are_apart(job.columns, job.out_width, column_dilation)
    step = slide_step(job.columns, job.out_width, column_dilation)
    job.slides = step > 0 and job.channels >= job.kern.lanes
    job.far = far and not is_intel()
    job.downward = (job.slides and step == 1 and slide_step(job.rows, job.out_height, row_dilation) == 1
                    and not far)
    job.x, job.y, job.places = <const char*>x.buf, <char*>y.buf, <char*>arrays.item[3].buf
    if job.images == 0 or job.channels == 0:
        return 0
    with nogil:
        return pool(&job)


def max_pool(x, windows, Py_ssize_t row_dilation, Py_ssize_t column_dilation, y, places):
    """y [n, p, q, c] = the largest x [n, h, w, c] with h, w in the windows p, q.

    `windows` are fnn_window: of the rows of y, then of its columns. `places` takes the bits of an integer as
    wide as the elements for each output, h * W + w; it may be None.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire(&arrays, x, False)
    acquire(&arrays, windows, False)
    acquire(&arrays, y, True)
    acquire_or_none(&arrays, places, True)
    status = run_pool(FNN_MAX if places is None else FNN_ARGMAX, &arrays, row_dilation, column_dilation)
    finish(status, "max_pool")


def mean_pool(x, windows, y):
    """y [n, p, q, c] = the sum of x [n, h, w, c] with h, w in the windows p, q, over their divisors."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire(&arrays, x, False)
    acquire(&arrays, windows, False)
    acquire(&arrays, y, True)
    acquire_or_none(&arrays, None, False)
    status = run_pool(FNN_MEAN, &arrays, 1, 1)
    finish(status, "avg_pool")


cdef object FLOAT32 = _dtype("float32")
cdef object FLOAT64 = _dtype("float64")


cdef class Prepared:
    """A pooling, without places, of which all is known but the numbers of x: what a layer keeps.

    Called with x (N, C, H, W) it returns y (N, C, P, Q), or None where x is anything but a plain array of
    that shape, channels-last in memory.
    """

    cdef object windows
    cdef tuple y_shape
    cdef int kind
    cdef Py_ssize_t row_dilation, column_dilation
    cdef Py_ssize_t x_shape[4]

    def __init__(self, tuple x_shape, windows, Py_ssize_t row_dilation, Py_ssize_t column_dilation,
                 tuple output, bint mean):
        """`windows` as `max_pool` takes them; `output` is (P, Q)."""
        cdef int i
        for i in range(4):
            self.x_shape[i] = x_shape[i]
        self.windows, self.y_shape = windows, (x_shape[0], *output, x_shape[1])
        self.row_dilation, self.column_dilation = row_dilation, column_dilation
        self.kind = FNN_MEAN if mean else FNN_MAX

    def __call__(self, x):
        """y, or None."""
        cdef Environment _caller = default_environment()
        cdef HeldArrays arrays
        arrays.count = 0
        cdef Py_buffer* item = arrays.item
        cdef Py_ssize_t* given
        cdef Py_ssize_t[4] shape
        cdef int status
        if type(x) is not ndarray or (x.dtype is not FLOAT32 and x.dtype is not FLOAT64):
            return None
        acquire(&arrays, x, False)
        if not self.fits(&item[0]):
            return None
        acquire(&arrays, self.windows, False)
        y = empty(self.y_shape, x.dtype)
        acquire(&arrays, y, True)
        acquire_or_none(&arrays, None, False)
        given = item[0].shape
        shape = [given[0], given[2], given[3], given[1]]
        item[0].shape = shape
        status = run_pool(self.kind, &arrays, self.row_dilation, self.column_dilation)
        item[0].shape = given
        finish(status, "pooling")
        return y.transpose(0, 3, 1, 2)

    cdef bint fits(self, const Py_buffer* x) noexcept:
        """Whether it is the shape that was prepared, aligned, and dense with channels last."""
        cdef Py_ssize_t step = x.itemsize
        cdef int i
        if x.ndim != 4 or <Py_ssize_t>x.buf % x.itemsize:
            return False
        for i in range(4):
            if x.shape[i] != self.x_shape[i]:
                return False
        for i in (1, 3, 2, 0):
            if x.shape[i] > 1 and x.strides[i] != step:
                return False
            step *= x.shape[i]
        return True


# --- The gradient of a maximum


# Of a pixel the outputs that cover it: x is the gradient of the outputs, y that of the pixels.
cdef void gather_rows(const void* job_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Pooling* job = <const Pooling*>job_
    cdef Py_ssize_t line = job.width * job.channels, row, offset
    cdef const fnn_window* window
    cdef fnn_pool_columns columns
    columns.windows = job.columns
    columns.outputs = job.out_width
    columns.channels = job.channels
    columns.row_step = line
    for row in range(first, last):
        window = job.rows + row % job.out_height
        offset = (row // job.out_height * job.height + window.first) * line * job.itemsize
        columns.run, columns.places = job.x + offset, job.places + offset
        columns.rows = window.taps
        columns.place = row % job.out_height * job.out_width
        columns.y = job.y + row * job.out_width * job.channels * job.itemsize
        job.kern.max_gather(&columns)


def max_gather(grad_y, places, covering, grad_x):
    """grad_x [n, h, w, c] = the sum of the grad_y [n, p, q, c] with places [n, p, q, c] == h * W + w.

    `covering` are fnn_window, of each row and column of grad_x the outputs whose windows cover it; places are
    as wide as the elements.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Pooling job
    cdef const Py_buffer* item = arrays.item
    acquire(&arrays, grad_y, False)
    acquire(&arrays, places, False)
    acquire(&arrays, covering, False)
    acquire(&arrays, grad_x, True)
    job.kern, job.itemsize = kernels(item[0].itemsize), item[0].itemsize
    job.images, job.height, job.width = item[0].shape[0], item[0].shape[1], item[0].shape[2]
    job.channels, job.out_height, job.out_width = item[0].shape[3], item[3].shape[1], item[3].shape[2]
    job.rows = <const fnn_window*>item[2].buf
    job.columns = job.rows + job.out_height
    job.x, job.places, job.y = <const char*>item[0].buf, <char*>item[1].buf, <char*>item[3].buf
    with nogil:
        share(gather_rows, &job, job.images * job.out_height,
              NS_PER_BYTE * (2 * item[0].len + item[3].len))
    raise_interrupt()


cdef struct Scatter:
    const char* grad_y
    const char* places
    char* grad_x
    Py_ssize_t itemsize, place_size
    Py_ssize_t outputs, pixels, channels
    Py_ssize_t width, slices        # channels of a task, tasks of an image


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


cdef void scatter_slices(const void* job_, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    cdef const Scatter* job = <const Scatter*>job_
    cdef Py_ssize_t task, c, width, output, pixel
    for task in range(first, last):
        c = task % job.slices * job.width
        width = min(job.width, job.channels - c)
        output = task // job.slices * job.outputs * job.channels + c
        pixel = (task // job.slices * job.pixels * job.channels + c) * job.itemsize
        if job.itemsize == sizeof(float):
            scatter_places(job, <const float*>job.grad_y + output, output, width,
                           <float*>(job.grad_x + pixel))
        else:
            scatter_places(job, <const double*>job.grad_y + output, output, width,
                           <double*>(job.grad_x + pixel))


cdef void scatter_places(const Scatter* job, const real* grad_y, Py_ssize_t output, Py_ssize_t width,
                         real* grad_x) noexcept nogil:
    if job.place_size == sizeof(int):
        scatter(grad_y, <const int*>job.places + output, job.outputs, job.pixels, job.channels, width, grad_x)
    else:
        scatter(grad_y, <const long long*>job.places + output, job.outputs, job.pixels, job.channels, width,
                grad_x)


def max_scatter(grad_y, places, grad_x):
    """grad_x [n, h, w, c] = the sum of the grad_y [n, p, q, c] with places [n, p, q, c] == h * W + w.

    Places are int32 or int64.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Scatter job
    cdef const Py_buffer* item = arrays.item
    cdef Py_ssize_t images
    acquire(&arrays, grad_y, False)
    acquire(&arrays, places, False)
    acquire(&arrays, grad_x, True)
    job.grad_y, job.places = <const char*>item[0].buf, <const char*>item[1].buf
    job.grad_x = <char*>item[2].buf
    job.itemsize, job.place_size = item[0].itemsize, item[1].itemsize
    images, job.channels = item[0].shape[0], item[0].shape[3]
    job.outputs = item[0].shape[1] * item[0].shape[2]
    job.pixels = item[2].shape[1] * item[2].shape[2]
    job.width = job.channels if images >= MANY_IMAGES else min(job.channels, <Py_ssize_t>SLICE)
    if images and job.channels and job.pixels:
        job.slices = ceil_div(job.channels, job.width)
        with nogil:
            share(scatter_slices, &job, images * job.slices,
                  NS_PER_BYTE * (2 * item[0].len + item[2].len))
    raise_interrupt()
