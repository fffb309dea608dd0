"""The interface of the convolution kernels: builds the walks, packs filters, calls the drivers.

Images are channels-last in memory: (N, H, W, C) here, (N, C, H, W) above. An input of few channels is first
copied into a zero-padded image (`by_rows`, decided in functional/_window.py), where the S taps of a filter
row are one run of S * C numbers: the tile then sees R long taps in place of R * S short ones, and the input
may have any strides. A few images are copied at a time, which takes little memory and .93 to 1.0 of the time
of all (16 x 3 x 224 x 224). So is grad_y for the gradient of such an input, where that is faster than
col2im.pyx.
"""

from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, acquire, acquire_others, finish, release
from fastnn._kernels.col2im cimport Image, input_gradient
from fastnn._kernels.conv_gradient cimport weight_gradient
from fastnn._kernels.convolve cimport convolve
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.im2col cimport filter_gradient_by_filters
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack_by_all, pack_ns, panel_elements
from fastnn._kernels.rows cimport (
    convolve_few_channels, convolve_rows, narrow_group, pack_narrow, pack_narrow_transposed, panel_channels,
    rows_elements, rows_gradient, runs_fit
)
from fastnn._kernels.runtime cimport (
    Watch, ceil_div, fnn_kernels, go_on, kernels, raise_interrupt, real, start, team_size
)
from fastnn._kernels.share cimport share
from fastnn._kernels.walk cimport Walk, find_interior
from fastnn._kernels.winograd cimport winograd_forward

from numpy import ndarray

from fastnn._kernels.memory import empty

cdef enum:
    COPIED_BYTES = 1536 * 1024  # of images of few channels that a thread copies at once: they stay in L2
    FEW_PIXELS = 2    # a filter: with fewer, its gradient is computed filter by filter (im2col.pyx)
    PADDED_BYTES = 64 * 1024  # of the one panel of filters of convolve_padded, in L1 or close by in L2


cdef int pad_images(const real* x, const Padding* pad, real* y, int threads) noexcept nogil:
    """Copy images into [n][padded_h][padded_w][c], zeros around them. Returns -1 when interrupted."""
    cdef Py_ssize_t rows = pad.n * pad.padded_h
    cdef Watch watch
    cdef int thread
    start(&watch)
    if threads == 1:
        pad_rows(x, pad, 0, rows, y, &watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            pad_rows(x, pad, rows * thread // threads, rows * (thread + 1) // threads, y, &watch)
    return -1 if watch.interrupted else 0


cdef void pad_rows(const real* images, const Padding* pad, Py_ssize_t first, Py_ssize_t last, real* y,
                   Watch* watch) noexcept nogil:
    """The padded rows first..last, all images' counted through."""
    cdef Py_ssize_t n = first // pad.padded_h, h = first % pad.padded_h - pad.top, row
    for row in range(first, last):
        if not go_on(watch):
            return
        pad_row(images, pad, n, h, y + row * pad.padded_w * pad.c)
        h += 1
        if h == pad.padded_h - pad.top:
            h = -pad.top
            n += 1


cdef void pad_row(const real* images, const Padding* pad, Py_ssize_t n, Py_ssize_t h, real* y) noexcept nogil:
    """Row h of image n with the padding beside it; a row of zeros where the image has none."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t c = pad.c, left = pad.left * c, length = pad.w * c
    cdef Py_ssize_t right = pad.padded_w * c - left - length, j, k
    cdef const real* x
    if not 0 <= h < pad.h:
        kern.pad_row(left + length + right, NULL, 0, 0, y)
        return
    x = images + n * pad.x_n + h * pad.x_h
    if (pad.x_c == 1 or c == 1) and pad.x_w == c:
        kern.pad_row(left, x, length, right, y)
        return
    kern.pad_row(left, NULL, 0, 0, y)
    kern.pad_row(0, NULL, 0, right, y + left + length)
    if pad.x_w == 1:
        kern.transpose(c, pad.w, x, pad.x_c, y + left, c)
    else:
        for k in range(c):
            for j in range(pad.w):
                y[left + j * c + k] = x[j * pad.x_w + k * pad.x_c]


cdef Py_ssize_t padded(Py_ssize_t size, Py_ssize_t pad, Py_ssize_t output, Py_ssize_t stride,
                       Py_ssize_t reach) noexcept nogil:
    """The size of an axis with all the padding that its windows read."""
    return max(size + pad, (output - 1) * stride + reach)


cdef int allocate_taps(Walk* walk, Py_ssize_t taps) noexcept nogil:
    """Room for the tables of a walk. Returns -1 when memory is short."""
    walk.tap_h = <Py_ssize_t*>malloc(3 * (taps + 1) * sizeof(Py_ssize_t))
    walk.tap_w = walk.tap_h + taps
    walk.tap_offset = walk.tap_w + taps
    return -1 if walk.tap_h is NULL else 0


cdef int filter_walk(Walk* walk, Py_ssize_t n, Py_ssize_t p, Py_ssize_t q, Py_ssize_t y_pixel,
                     const Filter* f) noexcept nogil:
    """The forward walk, but for its source. Returns -1 when memory is short."""
    cdef Py_ssize_t tap
    walk.n, walk.p, walk.q = n, p, q
    walk.y_n, walk.y_p, walk.y_q, walk.y_start = p * q * y_pixel, q * y_pixel, y_pixel, 0
    walk.stride_h, walk.stride_w = f.stride_h, f.stride_w
    walk.taps = f.r * f.s
    if allocate_taps(walk, walk.taps) != 0:
        return -1
    for tap in range(walk.taps):
        walk.tap_h[tap] = tap // f.s * f.dilation_h - f.pad_h
        walk.tap_w[tap] = tap % f.s * f.dilation_w - f.pad_w
    return 0


cdef real* padded_source(Walk* walk, const real* x, Py_ssize_t h, Py_ssize_t w, Py_ssize_t c, Py_ssize_t x_n,
                         Py_ssize_t x_h, Py_ssize_t x_w, Py_ssize_t x_c, const Filter* f) noexcept nogil:
    """Copy the images with their padding, and walk over the copy by filter rows.

    Returns NULL without memory, or when interrupted.
    """
    cdef Py_ssize_t row
    cdef Py_ssize_t padded_h = padded(h, f.pad_h, walk.p, f.stride_h, (f.r - 1) * f.dilation_h + 1)
    cdef Py_ssize_t padded_w = padded(w, f.pad_w, walk.q, f.stride_w, f.s)
    cdef size_t size = walk.n * padded_h * padded_w * c * sizeof(real)
    cdef real* copy = <real*>take(size)
    cdef Padding pad
    if copy is NULL:
        return NULL
    pad.n, pad.h, pad.w, pad.c, pad.x_n, pad.x_h, pad.x_w, pad.x_c = walk.n, h, w, c, x_n, x_h, x_w, x_c
    pad.top, pad.left, pad.padded_h, pad.padded_w = f.pad_h, f.pad_w, padded_h, padded_w
    # By several threads sooner than the copy is worth it: each then convolves what it wrote.
    if pad_images(x, &pad, copy, team_size(2.0 * walk.n * h * w * c)) != 0:
        give(copy, size)
        return NULL
    walk.h, walk.w = padded_h, padded_w
    walk.x_n, walk.x_h, walk.x_w = padded_h * padded_w * c, padded_w * c, c
    walk.taps = f.r
    for row in range(f.r):
        walk.tap_h[row] = row * f.dilation_h
        walk.tap_w[row] = 0
    return copy


cdef Filter window(tuple geometry):
    cdef Filter f
    (f.r, f.s, f.stride_h, f.stride_w, f.pad_h, f.pad_w, f.dilation_h, f.dilation_w, f.groups,
     f.by_rows) = geometry
    return f


def packed_size(Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t taps, Py_ssize_t groups,
                Py_ssize_t itemsize):
    """Elements of packed filters; each reads `channels` / `groups` channels through `taps` taps."""
    cdef Py_ssize_t group = narrow_group(channels, filters, groups, itemsize)
    if group:
        return rows_elements(channels, group, taps, itemsize)
    return groups * panel_elements(filters // groups, channels // groups * taps, itemsize)


def pack_filters(const real[:, :, :, ::1] weight, Py_ssize_t groups, real[::1] panels):
    """Pack filters (K, C / groups, R, S) for `forward`; `panels` holds packed_size elements."""
    cdef Environment _caller = default_environment()
    cdef Py_ssize_t columns = weight.shape[0] // groups, depth = weight.shape[1]
    cdef Py_ssize_t taps = weight.shape[2] * weight.shape[3]
    cdef Py_ssize_t group = narrow_group(depth * groups, weight.shape[0], groups, sizeof(real))
    cdef Watch watch
    if panels.shape[0] == 0:
        return
    start(&watch)
    with nogil:
        if group:
            pack_narrow(&weight[0, 0, 0, 0], NULL, weight.shape[0], group, taps, &panels[0])
        else:
            pack_by_all(&weight[0, 0, 0, 0], NULL, taps, depth, taps, columns, depth * taps, groups,
                        columns * depth * taps, &panels[0],
                        team_size(pack_ns(weight.shape[0], depth * taps)), &watch)
    raise_interrupt()


def forward(x, panels, bias, y, tuple geometry, int relu, bint accumulate=False):
    """y = f(filters * x + bias); x (N, H, W, C), y (N, P, Q, K).

    y is contiguous, or a range of the channels of what is.

    `panels` comes from pack_filters. Channels of x must be contiguous unless the geometry says `by_rows`.
    `bias` may be None; f is max(0, .) with `relu` 1, min(6, max(0, .)) with 2. With `accumulate` y already
    holds numbers, which are added before f.
    """
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef int status
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire_others(&arrays, panels, y, bias)
        status = direct_forward(&arrays, window(geometry), accumulate, relu)
    finally:
        release(&arrays)
    finish(status, "conv2d")


cdef int direct_forward(Arrays* arrays, Filter f, bint accumulate, int relu) noexcept:
    """The operands x, panels, y and perhaps bias, of either dtype."""
    if arrays.item[0].itemsize == sizeof(float):
        return run_forward[float](arrays, NULL, f, accumulate, relu)
    return run_forward[double](arrays, NULL, f, accumulate, relu)


cdef int run_forward(Arrays* arrays, const real* of_dtype, Filter f, bint accumulate, int relu) noexcept:
    cdef Py_buffer* x = &arrays.item[0]
    cdef Py_buffer* y = &arrays.item[2]
    cdef const real* panels = <const real*>arrays.item[1].buf
    cdef const real* bias = <const real*>arrays.item[3].buf if arrays.count == 4 else NULL
    cdef Py_ssize_t n = x.shape[0], together = n, first = 0
    cdef int status = 0
    if y.len == 0:
        return 0
    if f.by_rows:
        together = team_size(1e9) * max(COPIED_BYTES // max(x.len // n, <Py_ssize_t>1), <Py_ssize_t>1)
    while first < n and status == 0:
        status = convolve_images(x, panels, bias, y, first, min(together, n - first), &f, accumulate, relu)
        first += together
    return status


cdef int convolve_images(const Py_buffer* x, const real* panels, const real* bias, const Py_buffer* y,
                         Py_ssize_t first, Py_ssize_t n, const Filter* f, bint accumulate,
                         int relu) noexcept:
    """n images from the `first` on."""
    cdef Py_ssize_t c = x.shape[3], k = y.shape[3], group = narrow_group(c, k, f.groups, sizeof(real))
    cdef Py_ssize_t[4] shape = [n, x.shape[1], x.shape[2], c]
    cdef const real* source = <const real*>(<const char*>x.buf + first * x.strides[0])
    cdef real* to = <real*>(<char*>y.buf + first * y.strides[0])
    cdef Walk walk
    cdef real* copy = NULL
    cdef int status = source_walk(&walk, source, shape, x.strides, f, y.shape[1], y.shape[2],
                                  y.strides[2] // <Py_ssize_t>sizeof(real), &copy)
    if status == 0:
        with nogil:
            if copy is not NULL:
                source = copy
            if group:
                status = convolve_rows(&walk, source, panels, bias, to, c, group, walk.taps, accumulate, relu)
            elif copy is not NULL and runs_fit(&walk, f.s * c, sizeof(real)):
                status = convolve_few_channels(&walk, copy, panels, f.s * c, bias, to, k, accumulate, relu)
            else:
                status = convolve(&walk, source, panels, walk.taps,
                                  c // f.groups if copy is NULL else f.s * c, bias, to, k // f.groups,
                                  f.groups, accumulate, relu)
    free_walk(&walk, copy, c * sizeof(real))
    return status


cdef class Prepared:
    """A convolution of which all is known but the numbers of x: what a layer keeps for its next call.

    Called with x (N, C, H, W) it returns y (N, K, P, Q), or None where x is not what it was prepared for: a
    plain array of that shape and dtype whose channels are contiguous (or which the kernel copies anyhow).
    """

    cdef object panels, bias, y_shape, dtype
    cdef Filter f
    cdef int tile, relu
    cdef Py_ssize_t x_shape[4]

    def __init__(self, x_shape, panels, bias, y_shape, tuple geometry, int tile, int relu):
        """`y_shape` is (N, P, Q, K), `x_shape` (N, C, H, W); `tile`: see `fastnn.functional.conv.Packed`."""
        cdef int i
        for i in range(4):
            self.x_shape[i] = x_shape[i]
        self.panels, self.bias, self.y_shape, self.dtype = panels, bias, y_shape, panels.dtype
        self.f = window(geometry)
        self.tile, self.relu = tile, relu

    def __call__(self, x):
        """y, or None."""
        cdef Environment _caller = default_environment()
        cdef Arrays arrays
        cdef int status
        if type(x) is not ndarray or x.dtype is not self.dtype:
            return None
        y = empty(self.y_shape, self.dtype)
        arrays.count = 0
        try:
            acquire(&arrays, x, False)
            if not self.fits(&arrays.item[0]):
                return None
            acquire_others(&arrays, self.panels, y, self.bias)
            status = self.run(&arrays)
        finally:
            release(&arrays)
        finish(status, "conv2d")
        return y.transpose(0, 3, 1, 2)

    cdef int run(self, Arrays* arrays) noexcept:
        cdef Py_buffer* x = &arrays.item[0]
        cdef Py_ssize_t* sizes = x.shape
        cdef Py_ssize_t* steps = x.strides
        cdef Py_ssize_t shape[4]
        cdef Py_ssize_t strides[4]
        cdef int status
        # (N, C, H, W) as (N, H, W, C), which is how the kernels see it
        shape[0], shape[1], shape[2], shape[3] = sizes[0], sizes[2], sizes[3], sizes[1]
        strides[0], strides[1], strides[2], strides[3] = steps[0], steps[2], steps[3], steps[1]
        x.shape, x.strides = shape, strides
        if self.tile:
            status = winograd_forward(arrays, self.tile, self.f.pad_h, self.f.pad_w, self.f.dilation_h,
                                      self.f.dilation_w, False, self.relu)
        else:
            status = direct_forward(arrays, self.f, False, self.relu)
        x.shape, x.strides = sizes, steps
        return status

    cdef bint fits(self, const Py_buffer* x) noexcept:
        cdef int i
        if x.ndim != 4 or <Py_ssize_t>x.buf % x.itemsize:
            return False
        for i in range(4):
            if x.shape[i] != self.x_shape[i] or x.strides[i] % x.itemsize:
                return False
        return self.f.by_rows or x.shape[1] == 1 or x.strides[1] == x.itemsize


cdef int source_walk(Walk* walk, const real* x, const Py_ssize_t* shape, const Py_ssize_t* strides,
                     const Filter* f, Py_ssize_t p, Py_ssize_t q, Py_ssize_t y_pixel, real** copy) noexcept:
    """The forward walk over x, or over a padded copy where channels are few. -1: no memory, or interrupted.

    `shape` and `strides`, in bytes, of x (N, H, W, C); pixels of y are `y_pixel` numbers apart.
    """
    cdef Py_ssize_t size = sizeof(real)
    if filter_walk(walk, shape[0], p, q, y_pixel, f) != 0:
        return -1
    if f.by_rows:
        copy[0] = padded_source(walk, x, shape[1], shape[2], shape[3], strides[0] // size, strides[1] // size,
                                strides[2] // size, strides[3] // size, f)
        if copy[0] is NULL:
            return -1
    else:
        walk.h, walk.w = shape[1], shape[2]
        walk.x_n, walk.x_h, walk.x_w = strides[0] // size, strides[1] // size, strides[2] // size
    find_interior(walk)
    return 0


cdef void free_walk(Walk* walk, void* copy, Py_ssize_t pixel) noexcept nogil:
    """Free its tables, and the padded copy if there is one, with pixels of so many bytes."""
    free(walk.tap_h)
    if copy is not NULL:
        give(copy, walk.n * walk.h * walk.w * pixel)


def backward_input(const real[:, :, :, ::1] grad_y, const real[:, :, :, ::1] weight,
                   real[:, :, :, ::1] grad_x, tuple geometry):
    """grad_x = the transposed convolution of grad_y; also the forward pass of ConvTranspose2d.

    The pixels of grad_x with one residue modulo the stride all read the same taps: each class of them is a
    dense walk over grad_y with stride 1. Pixels that no tap reads, three in four of a 1 x 1 filter with
    stride 2, are zero. Where channels are few, see padded_serves.
    """
    cdef Environment _caller = default_environment()
    cdef Filter f = window(geometry)
    cdef Image image
    cdef Walk walk
    cdef Py_ssize_t c = grad_x.shape[3], k = grad_y.shape[3], taps = f.r * f.s, first = 0, a, b
    cdef Py_ssize_t columns = c // f.groups, depth = k // f.groups
    # Classes beyond the image have no pixels.
    cdef Py_ssize_t image_rows = grad_x.shape[0] * grad_x.shape[1]
    cdef Py_ssize_t classes_h = min(f.stride_h, grad_x.shape[1]), classes_w = min(f.stride_w, grad_x.shape[2])
    cdef Py_ssize_t group = narrow_group(c, k, f.groups, sizeof(real))
    cdef Py_ssize_t width = panel_channels(c, group, sizeof(real))
    cdef bint copied = False
    cdef Py_ssize_t* places
    cdef size_t panels_size
    cdef real* panels
    cdef Zeros zeros
    cdef Watch watch
    cdef int status = 0
    if grad_x.size == 0:
        return
    if f.by_rows:
        image.n, image.h, image.w, image.c = grad_x.shape[0], grad_x.shape[1], grad_x.shape[2], c
        image.p, image.q, image.k, image.r, image.s = grad_y.shape[1], grad_y.shape[2], k, f.r, f.s
        image.stride_h, image.stride_w, image.pad_h, image.pad_w = f.stride_h, f.stride_w, f.pad_h, f.pad_w
        image.dilation_h = f.dilation_h
        copied = padded_serves(&image, sizeof(real))
        if not copied:
            with nogil:
                status = input_gradient(&image, &grad_y[0, 0, 0, 0], &weight[0, 0, 0, 0],
                                        &grad_x[0, 0, 0, 0])
            finish(status, "conv2d_backward")
            return
    status = allocate_taps(&walk, taps)
    places = <Py_ssize_t*>malloc((taps + 1) * sizeof(Py_ssize_t))
    panels_size = (rows_elements(c, group, taps, sizeof(real)) if group else
                   f.groups * panel_elements(columns, taps * depth, sizeof(real))) * sizeof(real)
    panels = <real*>take(panels_size)
    if status != 0 or places is NULL or panels is NULL:
        status = -1
    else:
        with nogil:
            walk.n, walk.h, walk.w = grad_y.shape[0], grad_y.shape[1], grad_y.shape[2]
            walk.x_n, walk.x_h, walk.x_w = walk.h * walk.w * k, walk.w * k, k
            if sort_taps(&f, classes_h, classes_w, places):
                # All pixels at once: 16 x 64 x 56 x 56, 1 x 1, took 1.47 ms class by class, so 1.11.
                zeros.start, zeros.row = <char*>&grad_x[0, 0, 0, 0], grad_x.shape[2] * c * sizeof(real)
                share(zero_rows, &zeros, image_rows, 0.025 * image_rows * zeros.row)
            start(&watch)
            if group:
                pack_narrow_transposed(&weight[0, 0, 0, 0], places, c, group, taps, panels)
            elif taps * depth:
                pack_by_all(&weight[0, 0, 0, 0], places, taps, depth, columns * taps, columns, taps, f.groups,
                            depth * columns * taps, panels, team_size(pack_ns(c, depth * taps)), &watch)
                status = -1 if watch.interrupted else 0
            for a in range(classes_h):
                for b in range(classes_w):
                    if status:
                        break
                    class_walk(&walk, &f, a, b, grad_x.shape[1], grad_x.shape[2], c)
                    if walk.taps == 0:
                        continue
                    if group:
                        status = convolve_rows(&walk, &grad_y[0, 0, 0, 0],
                                               panels + first * group * width,
                                               <const real*>NULL, &grad_x[0, 0, 0, 0], c, group, taps, False,
                                               False)
                    elif copied:
                        status = convolve_padded(&walk, &f, &grad_y[0, 0, 0, 0], k, panels,
                                                 &grad_x[0, 0, 0, 0], c)
                    else:
                        status = convolve(&walk, &grad_y[0, 0, 0, 0] if grad_y.shape[0] else NULL,
                                          panels + first * depth * kernels(sizeof(real)).nr, taps, depth,
                                          <const real*>NULL, &grad_x[0, 0, 0, 0], columns, f.groups, False,
                                          False)
                    first += walk.taps
    free(walk.tap_h)
    free(places)
    give(panels, panels_size)
    finish(status, "conv2d_backward")


cdef bint padded_serves(const Image* image, Py_ssize_t itemsize) noexcept nogil:
    """Whether an input of few channels gets its gradient by `convolve_padded` rather than by col2im.

    For each tap, `convolve_padded` takes .24 K ns a pixel of the input, tiles filled up, and vector of
    channels; col2im .57 + .033 K ns = .033 (17 + K) a pixel of the output and channel. AVX2, us by col2im and
    by `convolve_padded`: 16 x 8 x 32 x 32, 3 x 3 from 16 filters 1300, 570; 4 x 8 x 56 x 56 from 64 2400,
    1720; 2 x 8 x 112 x 112 from 8 1520, 420.
    """
    cdef const fnn_kernels* kern = kernels(itemsize)
    cdef Py_ssize_t computed = ceil_div(image.w, kern.mr) * kern.mr
    return (image.stride_h == image.stride_w == 1 and image.w >= kern.mr
            and image.pad_h <= (image.r - 1) * image.dilation_h and image.pad_w < image.s
            and image.r * image.s * image.k * kern.nr * itemsize <= PADDED_BYTES
            and (17 + image.k) * image.c * image.p * image.q
            > 7 * image.k * ceil_div(image.c, kern.lanes) * image.h * computed)


cdef int convolve_padded(Walk* walk, const Filter* f, const real* grad_y, Py_ssize_t k, const real* panels,
                         real* grad_x, Py_ssize_t c) noexcept nogil:
    """grad_x as the convolution of grad_y, copied with zeros around it, whose taps are runs of S * K numbers.

    The stride is 1: all pixels are one class. `walk`, which goes over grad_y, becomes that over the copy;
    `panels` are the filters turned around. Returns -1 when memory is short or the call was interrupted.
    """
    cdef Filter turned = f[0]
    cdef real* copy
    cdef int status
    turned.pad_h, turned.pad_w = (f.r - 1) * f.dilation_h - f.pad_h, f.s - 1 - f.pad_w
    copy = padded_source(walk, grad_y, walk.h, walk.w, k, walk.x_n, walk.x_h, walk.x_w, 1, &turned)
    if copy is NULL:
        return -1
    status = convolve_few_channels(walk, copy, panels, f.s * k, <const real*>NULL, grad_x, c, False, False)
    give(copy, walk.n * walk.h * walk.w * k * sizeof(real))
    return status


cdef bint in_class(Py_ssize_t residue, Py_ssize_t pad, Py_ssize_t tap, Py_ssize_t dilation,
                   Py_ssize_t stride) noexcept nogil:
    """Whether pixels with this residue modulo the stride were read through this tap."""
    return (residue + pad - tap * dilation) % stride == 0


cdef bint sort_taps(const Filter* f, Py_ssize_t classes_h, Py_ssize_t classes_w,
                    Py_ssize_t* places) noexcept nogil:
    """Places of the taps by the class of input pixels that read them: those of each class lie together.

    Backwards, so that in the walk over grad_y they go forwards, as those of a convolution do. Taps that no
    pixel reads come last. Returns whether there is a class whose pixels are read through none.
    """
    cdef Py_ssize_t a, b, r, s, tap, count = 0, before
    cdef bint unread = False
    for tap in range(f.r * f.s):
        places[tap] = -1
    for a in range(classes_h):
        for b in range(classes_w):
            before = count
            for r in range(f.r - 1, -1, -1):
                for s in range(f.s - 1, -1, -1):
                    if (in_class(a, f.pad_h, r, f.dilation_h, f.stride_h)
                            and in_class(b, f.pad_w, s, f.dilation_w, f.stride_w)):
                        places[r * f.s + s] = count
                        count += 1
            unread = unread or count == before
    for tap in range(f.r * f.s):
        if places[tap] < 0:
            places[tap] = count
            count += 1
    return unread


cdef struct Zeros:
    char* start
    Py_ssize_t row     # bytes


cdef void zero_rows(const void* job, Py_ssize_t first, Py_ssize_t last, int thread) noexcept nogil:
    """The rows first..last of an image. See `share`."""
    cdef const Zeros* zeros = <const Zeros*>job
    memset(zeros.start + first * zeros.row, 0, (last - first) * zeros.row)


cdef void class_walk(Walk* walk, const Filter* f, Py_ssize_t a, Py_ssize_t b, Py_ssize_t h, Py_ssize_t w,
                     Py_ssize_t c) noexcept nogil:
    """The walk over grad_y of the pixels (a + p stride_h, b + q stride_w) of grad_x, of h x w x c."""
    cdef Py_ssize_t r, s
    walk.p = ceil_div(h - a, f.stride_h)
    walk.q = ceil_div(w - b, f.stride_w)
    walk.y_n, walk.y_p, walk.y_q = h * w * c, f.stride_h * w * c, f.stride_w * c
    walk.y_start = (a * w + b) * c
    walk.stride_h, walk.stride_w = 1, 1
    walk.taps = 0
    for r in range(f.r - 1, -1, -1):
        for s in range(f.s - 1, -1, -1):
            if (in_class(a, f.pad_h, r, f.dilation_h, f.stride_h)
                    and in_class(b, f.pad_w, s, f.dilation_w, f.stride_w)):
                walk.tap_h[walk.taps] = (a + f.pad_h - r * f.dilation_h) // f.stride_h
                walk.tap_w[walk.taps] = (b + f.pad_w - s * f.dilation_w) // f.stride_w
                walk.taps += 1
    find_interior(walk)


def backward_weight(const real[:, :, :, ::1] grad_y, const real[:, :, :, :] x,
                    real[:, :, :, ::1] grad_weight, tuple geometry):
    """grad_weight (K, C / groups, R, S) from grad_y (N, P, Q, K) and x (N, H, W, C)."""
    cdef Environment _caller = default_environment()
    cdef Filter f = window(geometry)
    cdef Walk walk
    cdef Py_ssize_t c = x.shape[3], k = grad_y.shape[3]
    cdef Py_ssize_t group = narrow_group(c, k, f.groups, sizeof(real))
    cdef real* copy = NULL
    cdef const real* source
    cdef int status
    if grad_weight.size == 0:
        return
    if grad_y.size == 0 or x.size == 0:  # no outputs, or no inputs but padding
        grad_weight[:] = 0
        return
    status = source_walk(&walk, &x[0, 0, 0, 0], x.shape, x.strides, &f, grad_y.shape[1],
                         grad_y.shape[2], k, &copy)
    if status == 0:
        with nogil:
            source = copy if copy is not NULL else &x[0, 0, 0, 0]
            if group:
                status = rows_gradient(&walk, source, &grad_y[0, 0, 0, 0], c, group, &grad_weight[0, 0, 0, 0])
            elif copy is not NULL:
                status = weight_gradient_by_rows(&walk, source, &grad_y[0, 0, 0, 0], c, k, f.s,
                                                 &grad_weight[0, 0, 0, 0])
            elif walk.n * walk.p * walk.q < FEW_PIXELS * (k // f.groups):
                status = filter_gradient_by_filters(&walk, source, &grad_y[0, 0, 0, 0], f.groups,
                                                    c // f.groups, k // f.groups, &grad_weight[0, 0, 0, 0])
            else:
                status = weight_gradient(&walk, source, &grad_y[0, 0, 0, 0], f.groups, c // f.groups,
                                         k // f.groups, &grad_weight[0, 0, 0, 0])
    free_walk(&walk, copy, c * sizeof(real))
    finish(status, "conv2d_backward")


cdef int weight_gradient_by_rows(const Walk* walk, const real* x, const real* grad_y, Py_ssize_t c,
                                 Py_ssize_t k, Py_ssize_t s, real* grad_weight) noexcept nogil:
    """As weight_gradient, over a padded copy: a tap is a filter row, its depth S * C."""
    cdef Py_ssize_t rows = walk.taps, size = rows * s * c, filter, channel, r, j
    cdef real* by_rows = <real*>malloc(k * size * sizeof(real))
    cdef int status
    if by_rows is NULL:
        return -1
    status = weight_gradient(walk, x, grad_y, 1, s * c, k, by_rows)
    # [k][s * c][r] -> [k][c][r][s]
    for filter in range(k):
        for channel in range(c):
            for r in range(rows):
                for j in range(s):
                    grad_weight[((filter * c + channel) * rows + r) * s + j] = \
                        by_rows[filter * size + (j * c + channel) * rows + r]
    free(by_rows)
    return status
