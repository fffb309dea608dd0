"""Gradient of an input of few channels: a dense product, and its terms added where they belong.

With stride 1 and some channels convolve_padded (conv_backward.pyx) is faster.

With C channels as the columns of a register tile, most of its lanes would idle. Here the columns are pixels
of grad_y, and the rows are all (channel, tap) pairs:

    T[(c, r, s), pixel] = sum_k weight[k, c, r, s] grad_y[pixel, k]
    grad_x[p stride + r - pad, q stride + s - pad, c] += T[(c, r, s), (p, q)]             "col2im"

The sums are kept along W in `stride` phases, and channel by channel, so that a row of T is added to a run of
numbers: column j of the padded image lies at [j % stride][c][j // stride]. A row of them transposed is a row
of pixels. Each band of rows of grad_y has sums of its own, which overlap those of the next band in a few
rows; a last pass adds them in order and writes grad_x. 13 ms became 2.8 with 3 channels, 7 x 7 filters,
224 x 224 pixels.
"""

from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastnn._kernels.gemm cimport multiply_task
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack, panel_elements
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, deal, fnn_kernels, fnn_tasks, go_on, kernels, lines_apart, next_task, real, start,
    team_for, team_size, work_done
)

cdef enum:
    BAND = 16        # rows of grad_y with sums of their own
    PIXELS = 224     # columns of a product: T and the packed pixels stay in L2


cdef struct Bands:
    Py_ssize_t count           # of an image
    Py_ssize_t rows            # of the padded image under a band
    Py_ssize_t planes, width   # (phase, channel) pairs, and columns of a phase
    Py_ssize_t size            # elements of one band's sums: [rows][planes][width]
    Py_ssize_t lines           # rows of grad_y in one product
    Py_ssize_t terms           # (channel, tap) pairs
    Py_ssize_t pixels, panels  # of one product, at most, and elements of its packed pixels


cdef Bands cut(const Image* image, Py_ssize_t itemsize) noexcept nogil:
    cdef Bands bands
    cdef Py_ssize_t columns = max((image.q - 1) * image.stride_w + image.s, image.pad_w + image.w)
    bands.count = ceil_div(image.p, BAND)
    bands.rows = ((min(image.p, <Py_ssize_t>BAND) - 1) * image.stride_h
                  + (image.r - 1) * image.dilation_h + 1)
    bands.planes = min(image.stride_w, columns) * image.c
    bands.width = ceil_div(columns, image.stride_w)
    bands.size = bands.rows * bands.planes * bands.width
    bands.lines = max(PIXELS // image.q, <Py_ssize_t>1)
    bands.terms = image.c * image.r * image.s
    bands.pixels = min(bands.lines, image.p) * image.q
    bands.panels = panel_elements(bands.pixels, image.k, itemsize)
    return bands


cdef void band_task(const fnn_kernels* kern, const Image* image, const Bands* bands, const real* grad_y,
                    const real* terms, Py_ssize_t band, real* sums, real* panels, real* t) noexcept nogil:
    """The sums of one band; `terms` is [channel][r][s][k]."""
    cdef Py_ssize_t p0 = band % bands.count * BAND, p1 = min(image.p, p0 + BAND)
    cdef Py_ssize_t chunk, first, rows, pixels
    memset(sums, 0, bands.size * sizeof(real))
    for chunk in range(ceil_div(p1 - p0, bands.lines)):
        first = p0 + chunk * bands.lines
        rows = min(bands.lines, p1 - first)
        pixels = rows * image.q
        pack(grad_y + (band // bands.count * image.p + first) * image.q * image.k, NULL, 1, image.k, 1,
             pixels, image.k, panels)
        multiply_task(kern, terms, image.k, panels, <const real*>NULL, t, pixels, 0, bands.terms, 0, pixels,
                      image.k, False, False)
        add_terms(kern, image, bands, t, first - p0, rows, sums)


cdef void add_terms(const fnn_kernels* kern, const Image* image, const Bands* bands, const real* t,
                    Py_ssize_t first, Py_ssize_t rows, real* sums) noexcept nogil:
    """Add T of `rows` rows of grad_y, from row `first` of the band."""
    cdef Py_ssize_t line = bands.planes * bands.width, term, c, r, s
    for term in range(bands.terms):
        c = term // (image.r * image.s)
        r = term // image.s % image.r
        s = term % image.s
        kern.add_rows(rows, image.q, t + term * rows * image.q, image.q,
                      sums + (first * image.stride_h + r * image.dilation_h) * line
                      + (s % image.stride_w * image.c + c) * bands.width + s // image.stride_w,
                      image.stride_h * line)


cdef void write_row(const fnn_kernels* kern, const Image* image, const Bands* bands, const real* sums,
                    Py_ssize_t h, real* line, real* grad_x) noexcept nogil:
    """Row h of one image from the bands that reach it, in their order; `sums` are the image's.

    `line` has space for two rows of sums.
    """
    cdef Py_ssize_t padded = h + image.pad_h, step = BAND * image.stride_h, band
    cdef Py_ssize_t last = min(padded // step, bands.count - 1)
    cdef Py_ssize_t first = (padded - bands.rows) // step + 1 if padded >= bands.rows else 0
    cdef Py_ssize_t size = bands.planes * bands.width
    cdef real* pixels = line + size
    memset(line, 0, size * sizeof(real))
    for band in range(first, last + 1):
        kern.add_rows(1, size, sums + band * bands.size + (padded - band * step) * size, size, line, size)
    kern.transpose(bands.planes, bands.width, line, bands.width, pixels, bands.planes)
    memcpy(grad_x, pixels + image.pad_w * image.c, image.w * image.c * sizeof(real))


cdef int input_gradient(const Image* image, const real* grad_y, const real* weight,
                        real* grad_x) noexcept nogil:
    """grad_x [n][h][w][c] from grad_y [n][p][q][k] and weight [k][c][r][s].

    Returns -1 when memory is short or Ctrl-C was pressed.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Bands bands = cut(image, sizeof(real))
    cdef Py_ssize_t bands_in_all = image.n * bands.count, rows = image.n * image.h
    cdef Py_ssize_t size = lines_apart(
        max(bands.panels + bands.terms * bands.pixels, 2 * bands.planes * bands.width), sizeof(real))
    cdef int threads = team_for(
        bands_in_all, team_size(0.03 * image.n * image.p * image.q * image.k * bands.terms)), thread
    cdef real* terms = <real*>malloc(bands.terms * image.k * sizeof(real))
    cdef size_t sums_size = bands_in_all * bands.size * sizeof(real)
    cdef real* sums = <real*>take(sums_size)
    cdef size_t workspace_size = threads * size * sizeof(real)
    cdef real* workspace = <real*>take(workspace_size)
    cdef fnn_tasks tasks
    cdef Watch watch
    if terms is NULL or sums is NULL or workspace is NULL:
        free(terms)
        give(sums, sums_size)
        give(workspace, workspace_size)
        return -1
    kern.transpose(image.k, bands.terms, weight, bands.terms, terms, image.k)
    start(&watch)
    deal(&tasks, bands_in_all, threads)
    if threads == 1:
        bands_share(&tasks, 0, image, &bands, grad_y, terms, sums, workspace, &watch)
        write_rows(image, &bands, sums, 0, rows, workspace, grad_x, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            bands_share(&tasks, thread, image, &bands, grad_y, terms, sums, workspace + thread * size, &watch)
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            write_rows(image, &bands, sums, rows * thread // threads, rows * (thread + 1) // threads,
                       workspace + thread * size, grad_x, &watch)
    work_done(threads > 1)
    free(terms)
    give(sums, sums_size)
    give(workspace, workspace_size)
    return -1 if watch.interrupted else 0


cdef void bands_share(fnn_tasks* tasks, int thread, const Image* image, const Bands* bands,
                      const real* grad_y, const real* terms, real* sums, real* workspace,
                      Watch* watch) noexcept nogil:
    """One thread's share of the bands. `workspace` holds the panels of a product, then T."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef real* t = workspace + bands.panels
    cdef Py_ssize_t task = next_task(tasks, thread, watch)
    while task >= 0:
        band_task(kern, image, bands, grad_y, terms, task, sums + task * bands.size, workspace, t)
        task = next_task(tasks, thread, watch)


cdef void write_rows(const Image* image, const Bands* bands, const real* sums, Py_ssize_t first,
                     Py_ssize_t last, real* line, real* grad_x, Watch* watch) noexcept nogil:
    """Rows first .. last of grad_x, all images' counted through."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t row
    for row in range(first, last):
        if not go_on(watch):
            return
        write_row(kern, image, bands, sums + row // image.h * bands.count * bands.size, row % image.h, line,
                  grad_x + row * image.w * image.c)
