"""Convolutions one after the other, a band of rows through all of them at a time.

Between two convolutions of a large image lies more memory than a core's cache holds; a few rows of it do fit.
The last convolution's rows are cut into bands, and a band has each convolution before make the rows that it
reads and that are not there yet::

    x ---- pointwise ---> rows in L2 ---- depthwise ---> rows in L2 ---- pointwise ---> y

Each convolution's last rows are kept for the next band, whose windows reach back to them, so that they are
made twice only where a thread's run of bands begins. The bodies and their order of sums are those of
convolve.pyx and rows.pyx, hence the bits, too, wherever a band begins.

MobileNetV2, one image, one thread: the gain is a few per cent and hangs on where memory lies, 0.96 to 1.13 a
block; planned memory is 2.1 instead of 6.0 MB. On two threads there is one parallel region instead of three.
"""

from cython.parallel cimport prange
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove, memset

from fastnn._kernels.arrays cimport HeldArrays, acquire, finish
from fastnn._kernels.conv cimport Filter, allocate_taps, fill_taps, padded, window
from fastnn._kernels.convolve cimport Convolution, convolve_task
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport NC
from fastnn._kernels.rows cimport band_task, describe, describe_runs, runs_fit
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_kernels, fnn_row, fnn_tasks, kernels, like_parts, multiply_ns, next_task,
    real, start, team_for, team_size, whole_lines
)
from fastnn._kernels.walk cimport Padding, Walk, find_interior, pad_rows

cdef enum:
    MAX_STAGES = 8
    # A band's outputs, at least, and its work, if BANDS does not ask for smaller ones: they fill register
    # tiles, and calls and tables are nothing beside them. With 14 pixels and 10 us instead, where a row is
    # three tiles of 6, MobileNetV2 took 8.21 ms for 8.01.
    BAND_PIXELS = 56
    BAND_NS = 50000
    BANDS = 4                 # of an image, at least, if it has so many rows
    SPARE = 2                 # rows of so many more bands are kept before those in use are moved ...
    KEPT_BYTES = 384 * 1024   # ... if there is room in L2, beside filters, x and y

cdef enum Kind:
    PAD           # copies rows with zeros beside and above them: an input of few channels (conv.pyx)
    FEW_CHANNELS  # reads what PAD has made, row by row (even_tile.h); DENSE does it where that does not pay
    DENSE
    DEPTHWISE


# One pass from rows to rows. Output row p reads the rows from p * stride - above, `reach` of them.
cdef struct Stage:
    Kind kind
    Walk walk                 # over one image
    Padding pad
    const void* panels
    const void* bias
    Py_ssize_t depth, columns
    int relu
    Py_ssize_t height, stride, above, reach
    Py_ssize_t width          # numbers in a row of outputs
    Py_ssize_t rows           # so many outputs are kept at most
    Py_ssize_t place          # of these in a thread's memory, in numbers
    double cost               # of an output row, in nanoseconds


cdef struct Job:
    int stages
    Stage stage[MAX_STAGES]
    Py_ssize_t images, bands, band      # bands of an image, of at most `band` rows
    Py_ssize_t memory                   # numbers, of a thread
    Py_ssize_t zeros, table             # where in it
    double cost                         # of a call, in nanoseconds


# The rows of each stage's outputs, of one image, that a thread has.
cdef struct Kept:
    Py_ssize_t image
    Py_ssize_t first[MAX_STAGES]
    Py_ssize_t end[MAX_STAGES]


cdef const real* before(const real* x, Py_ssize_t offset) noexcept nogil:
    """Where x would begin if rows of an image that are not there lay before it; nobody reads these."""
    return <const real*>(<uintptr_t>x - <uintptr_t>(offset * <Py_ssize_t>sizeof(real)))


cdef void make_rows(const fnn_kernels* kern, const Job* job, const Stage* stage, const real* x, real* y,
                    Py_ssize_t p0, Py_ssize_t p1, bint accumulate, real* memory) noexcept nogil:
    """Output rows p0..p1 of one image; x and y point at its row 0."""
    cdef const void** table = <const void**>(memory + job.table)
    cdef const real* bias = <const real*>stage.bias
    cdef const real* panels = <const real*>stage.panels
    cdef const Walk* walk = &stage.walk
    cdef Py_ssize_t block
    cdef Convolution dense
    cdef fnn_row row
    if stage.kind == PAD:
        pad_rows(x, &stage.pad, p0, p1, y, NULL)
    elif stage.kind == DEPTHWISE:
        describe(walk, &row, stage.columns, 1)
        row.bias = bias
        row.accumulate, row.relu = accumulate, stage.relu
        band_task(kern.depthwise_row, walk, &row, x, y, <real*>panels, 1, p0, p1, table, NULL)
    elif stage.kind == FEW_CHANNELS:
        describe_runs(walk, &row, stage.depth, stage.columns, sizeof(real))
        row.bias, row.accumulate, row.relu = bias, accumulate, stage.relu
        band_task(kern.even_row, walk, &row, x, y, <real*>panels, 1, p0, p1, table, NULL)
    else:
        dense.kern, dense.walk, dense.zeros, dense.panels = kern, walk, memory + job.zeros, panels
        dense.bias, dense.accumulate, dense.relu, dense.past = bias, accumulate, stage.relu, False
        dense.depth, dense.columns, dense.panel_taps = stage.depth, stage.columns, walk.taps
        for block in range(ceil_div(stage.columns, NC)):
            convolve_task(&dense, x, y, 0, 1, block * NC, min(stage.columns, (block + 1) * NC), p0 * walk.q,
                          p1 * walk.q, table)


cdef const real* source(const fnn_kernels* kern, const Job* job, int i, Py_ssize_t n, const real* x,
                        Py_ssize_t p0, Py_ssize_t p1, Kept* kept, real* memory) noexcept nogil:
    """What stage i reads for its output rows p0..p1, made as far as it is not there; row 0 of that image."""
    cdef const Stage* stage = &job.stage[i]
    cdef const Stage* maker = &job.stage[i - 1 if i else 0]  # of the first, x is read
    cdef Py_ssize_t first, end, offset
    cdef real* rows
    cdef const real* from_x
    if i == 0:
        return x + n * (stage.pad.x_n if stage.kind == PAD else stage.walk.x_n)
    first = max(<Py_ssize_t>0, p0 * stage.stride - stage.above)
    end = min(stage.height, (p1 - 1) * stage.stride - stage.above + stage.reach)
    rows = memory + maker.place
    if not kept.first[i - 1] <= first <= kept.end[i - 1]:
        kept.first[i - 1] = kept.end[i - 1] = first
    if end - kept.first[i - 1] > maker.rows:
        offset = first - kept.first[i - 1]
        memmove(rows, rows + offset * maker.width, (kept.end[i - 1] - first) * maker.width * sizeof(real))
        kept.first[i - 1] = first
    offset = kept.first[i - 1] * maker.width
    if end > kept.end[i - 1]:
        from_x = source(kern, job, i - 1, n, x, kept.end[i - 1], end, kept, memory)
        make_rows(kern, job, maker, from_x, <real*>before(<const real*>rows, offset), kept.end[i - 1], end,
                  False, memory)
        kept.end[i - 1] = end
    return before(<const real*>rows, offset)


cdef void take_share(fnn_tasks* tasks, int thread, Watch* watch, const Job* job, const real* x,
                     const real* residual, real* y, real* memory) noexcept nogil:
    """One thread's share of the bands of all images."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef int last = job.stages - 1
    cdef const Stage* stage = &job.stage[last]
    cdef Py_ssize_t task, n, p0, p1, at
    cdef const real* rows
    cdef Kept kept
    kept.image = -1
    memset(memory + job.zeros, 0, (job.table - job.zeros) * sizeof(real))
    task = next_task(tasks, thread, watch)
    while task >= 0:
        n = task // job.bands
        p0 = task % job.bands * stage.walk.p // job.bands
        p1 = (task % job.bands + 1) * stage.walk.p // job.bands
        if n != kept.image:
            kept.image = n
            memset(kept.first, 0, sizeof(kept.first))
            memset(kept.end, 0, sizeof(kept.end))
        rows = source(kern, job, last, n, x, p0, p1, &kept, memory)
        if residual is not NULL:
            at = n * stage.walk.y_n + p0 * stage.width
            memcpy(y + at, residual + at, (p1 - p0) * stage.width * sizeof(real))
        make_rows(kern, job, stage, rows, y + n * stage.walk.y_n, p0, p1, residual is not NULL, memory)
        task = next_task(tasks, thread, watch)


cdef int run(const Job* job, int threads, const real* x, const real* residual, real* y,
             real* memory) noexcept nogil:
    """All bands. Returns -1 when the call was interrupted."""
    cdef fnn_tasks tasks
    cdef Watch watch
    cdef int thread
    start(&watch)
    deal(&tasks, job.images * job.bands, threads)
    if threads == 1:
        take_share(&tasks, 0, &watch, job, x, residual, y, memory)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            take_share(&tasks, thread, &watch, job, x, residual, y, memory + thread * job.memory)
    return -1 if watch.interrupted else 0


cdef class Chain:
    """Convolutions of images (N, H, W, C) of one shape, the first's output being the second's input.

    Parameters
    ----------
    x_shape, x_strides : tuple
        Of x (N, H, W, C), strides in bytes. Channels are contiguous unless the first geometry says `by_rows`.
    y_pixel : int
        Numbers between pixels of y.
    links : list of (panels, bias, geometry, (P, Q, K), relu)
        As `conv.forward` takes them: dense or depthwise, by rows the first alone.
    """

    cdef Job job
    cdef list operands
    cdef Py_ssize_t itemsize

    def __cinit__(self):
        memset(&self.job, 0, sizeof(self.job))

    def __init__(self, tuple x_shape, tuple x_strides, Py_ssize_t y_pixel, list links):
        cdef Py_ssize_t h, w, c, k, p = 0, q = 0
        cdef Filter f
        cdef Stage* stage
        self.operands = links
        self.itemsize = links[0][0].itemsize
        self.job.images, h, w, c = x_shape
        x_n, x_h, x_w, x_c = (step // self.itemsize for step in x_strides)
        for panels, bias, geometry, (p, q, k), relu in links:
            if not panels.itemsize == self.itemsize == (panels if bias is None else bias).itemsize:
                raise TypeError("a chain of convolutions: filters and biases of several dtypes")
            f = window(geometry)
            if f.by_rows:
                if self.job.stages:
                    raise ValueError("a chain of convolutions: only the first may read few channels by rows")
                stage = self.add(PAD, p, q, c)
                stage.pad.h, stage.pad.w, stage.pad.c = h, w, c
                stage.pad.x_n, stage.pad.x_h, stage.pad.x_w, stage.pad.x_c = x_n, x_h, x_w, x_c
                stage.pad.top, stage.pad.left = f.pad_h, f.pad_w
                stage.pad.padded_h = padded(h, f.pad_h, p, f.stride_h, (f.r - 1) * f.dilation_h + 1)
                stage.pad.padded_w = padded(w, f.pad_w, q, f.stride_w, f.s)
                h, w = stage.pad.padded_h, stage.pad.padded_w
                stage.walk.p, stage.walk.q, stage.width = h, w, w * c
                stage.height, stage.stride, stage.above, stage.reach = h, 1, 0, 1
                stage.cost = 0.5 * stage.width
                x_n, x_h, x_w = h * w * c, w * c, c
            stage = self.add(DENSE if f.groups == 1 else DEPTHWISE, p, q, k)
            if f.groups > 1 and not f.groups == c == k:
                raise ValueError(f"a chain of convolutions: {f.groups} groups of {c} channels, {k} filters")
            self.walk_over(stage, &f, h, w, c)
            if f.by_rows and runs_fit(&stage.walk, stage.depth, self.itemsize):
                stage.kind = FEW_CHANNELS
            stage.walk.x_n, stage.walk.x_h, stage.walk.x_w = x_n, x_h, x_w
            find_interior(&stage.walk)
            stage.panels = address(panels)
            stage.bias = NULL if bias is None else address(bias)
            stage.relu = relu
            x_n, x_h, x_w = p * q * k, q * k, k
            h, w, c = p, q, k
        stage = &self.job.stage[self.job.stages - 1]
        stage.walk.y_n, stage.walk.y_p, stage.walk.y_q = p * q * y_pixel, q * y_pixel, y_pixel
        self.cut()

    cdef Stage* add(self, Kind kind, Py_ssize_t p, Py_ssize_t q, Py_ssize_t k) except NULL:
        """One more stage, whose outputs are P x Q x K."""
        cdef Stage* stage = &self.job.stage[self.job.stages]
        if self.job.stages == MAX_STAGES:
            raise ValueError(f"at most {MAX_STAGES} passes")
        self.job.stages += 1
        stage.kind = kind
        stage.columns = k
        stage.walk.n, stage.walk.p, stage.walk.q, stage.walk.images = 1, p, q, 1
        stage.walk.y_n, stage.walk.y_p, stage.walk.y_q = p * q * k, q * k, k
        stage.width = q * k
        return stage

    cdef int walk_over(self, Stage* stage, const Filter* f, Py_ssize_t h, Py_ssize_t w,
                       Py_ssize_t c) except -1:
        """The walk of a convolution over rows of w x c, perhaps padded by the stage before."""
        cdef Walk* walk = &stage.walk
        if allocate_taps(walk, f.r * f.s) != 0:
            raise MemoryError("a chain of convolutions: no memory for a table")
        fill_taps(walk, f, f.by_rows)
        walk.h, walk.w = h, w
        walk.stride_h, walk.stride_w = f.stride_h, f.stride_w
        stage.depth = f.s * c if f.by_rows else c
        stage.height, stage.stride, stage.above = h, f.stride_h, 0 if f.by_rows else f.pad_h
        stage.reach = (f.r - 1) * f.dilation_h + 1
        stage.cost = stage.width * walk.taps * (0.05 if stage.kind == DEPTHWISE else multiply_ns(stage.depth))
        return 0

    cdef void cut(self) noexcept:
        """Bands of few rows, so that there are many to share; rows of several of them are kept."""
        cdef Job* job = &self.job
        cdef const Stage* last = &job.stage[job.stages - 1]
        cdef double cost = 0     # of one band
        cdef Py_ssize_t spare = SPARE
        cdef int i
        for i in range(job.stages):
            cost += job.stage[i].cost * job.stage[i].walk.p
        job.cost = cost * job.images
        cost = max(cost / last.walk.p, 1e-3)
        job.band = min(ceil_div(last.walk.p, BANDS),
                       <Py_ssize_t>max(ceil_div(BAND_PIXELS, last.walk.q), BAND_NS / cost))
        job.bands = like_parts(last.walk.p, max(job.band, <Py_ssize_t>1))
        job.band = ceil_div(last.walk.p, job.bands)
        while spare and self.lay_out(spare) * self.itemsize > KEPT_BYTES:
            spare -= 1
        job.memory = self.lay_out(spare)

    cdef Py_ssize_t lay_out(self, Py_ssize_t spare) noexcept:
        """Give each stage room for what a band reads and `spare` bands add; the size of a thread's memory."""
        cdef Job* job = &self.job
        cdef Py_ssize_t place = 0, rows = job.band, fresh = 0, widest = 0, taps = 1
        cdef Py_ssize_t pointers = sizeof(void*) // self.itemsize
        cdef Stage* stage
        cdef int i
        for i in range(job.stages - 1, -1, -1):
            stage = &job.stage[i]
            stage.rows, stage.place = min(rows + spare * fresh, stage.walk.p), place
            if i < job.stages - 1:
                place += aligned(stage.rows * stage.width, self.itemsize)
            rows = (rows - 1) * stage.stride + stage.reach
            fresh = max(fresh, job.band) * stage.stride
            widest = max(widest, max(stage.columns, stage.depth))
            taps = max(taps, stage.walk.taps + 1)
        job.zeros = place
        job.table = place + aligned(widest, self.itemsize)
        return job.table + aligned(taps * kernels(self.itemsize).mr * pointers, self.itemsize)

    def workspace(self, Py_ssize_t threads):
        """Bytes of memory that so many threads need; of more than there are bands, none has any use."""
        return min(threads, self.job.images * self.job.bands) * self.job.memory * self.itemsize

    def __call__(self, x, y, workspace, residual=None):
        """y = the convolutions of x, to which the last adds `residual` before its activation.

        x and y lie as was said; `residual`, contiguous, may be x but not y, whose pixels are then contiguous,
        too. `workspace` begins on a cache line; there are no more threads than it has room for.
        """
        cdef Environment _caller = default_environment()
        cdef HeldArrays arrays
        arrays.count = 0
        cdef void* added = NULL
        cdef int status = 0, threads
        acquire(&arrays, x, False)
        acquire(&arrays, y, True)
        acquire(&arrays, workspace, True)
        if residual is not None:
            acquire(&arrays, residual, False)
            added = arrays.item[3].buf
        threads = team_for(min(self.job.images * self.job.bands,
                               arrays.item[2].len // (self.job.memory * self.itemsize)),
                           team_size(self.job.cost))
        with nogil:
            if arrays.item[1].len == 0:
                pass
            elif self.itemsize == sizeof(float):
                status = run(&self.job, threads, <const float*>arrays.item[0].buf, <const float*>added,
                             <float*>arrays.item[1].buf, <float*>arrays.item[2].buf)
            else:
                status = run(&self.job, threads, <const double*>arrays.item[0].buf, <const double*>added,
                             <double*>arrays.item[1].buf, <double*>arrays.item[2].buf)
        finish(status, "conv2d")

    def __dealloc__(self):
        cdef int i
        for i in range(self.job.stages):
            free(self.job.stage[i].walk.tap_h)


cdef void* address(array) except NULL:
    return <void*><uintptr_t>array.__array_interface__["data"][0]


cdef Py_ssize_t aligned(Py_ssize_t numbers, Py_ssize_t itemsize) noexcept nogil:
    """So many numbers, up to the end of a cache line."""
    return whole_lines(numbers * itemsize) // itemsize
