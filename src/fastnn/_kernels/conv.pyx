"""The interface of the convolution kernels, forward: builds the walks, packs filters, calls the drivers.

Images are channels-last in memory: (N, H, W, C) here, (N, C, H, W) above. An input of few channels is first
copied into a zero-padded image (`by_rows`, decided in functional/_window.py), where the S taps of a filter
row are one run of S * C numbers: the tile then sees R long taps in place of R * S short ones, and the input
may have any strides. A few images are copied at a time, which takes little memory and .93 to 1.0 of the time
of all (16 x 3 x 224 x 224).
"""

from libc.stdlib cimport free, malloc

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, acquire_floats, acquire_others, finish
from fastnn._kernels.convolve cimport convolve
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack_by_all, pack_ns, panel_elements
from fastnn._kernels.rows cimport (
    convolve_few_channels, convolve_rows, filter_elements, narrow_group, pack_narrow, pixels_fit, runs_fit
)
from fastnn._kernels.runtime cimport Watch, go_on, raise_interrupt, real, start, team_size
from fastnn._kernels.walk cimport Padding, Walk, find_interior, pad_images
from fastnn._kernels.winograd_forward cimport winograd_forward

from numpy import ndarray

from fastnn._kernels.memory import empty

cdef enum:
    COPIED_BYTES = 1536 * 1024  # of images of few channels that a thread copies at once: they stay in L2


cdef Py_ssize_t padded(Py_ssize_t size, Py_ssize_t pad, Py_ssize_t output, Py_ssize_t stride,
                       Py_ssize_t reach) noexcept nogil:
    """The size of an axis with all the padding that its windows read."""
    return max(size + pad, (output - 1) * stride + reach)


cdef int allocate_taps(Walk* walk, Py_ssize_t taps) noexcept nogil:
    """Room for the tables of a walk. Returns -1 when memory is short."""
    walk.tap_h = <Py_ssize_t*>malloc(3 * (taps + 1) * sizeof(Py_ssize_t))
    if walk.tap_h is NULL:
        return -1
    walk.tap_w = walk.tap_h + taps
    walk.tap_offset = walk.tap_w + taps
    return 0


cdef int filter_walk(Walk* walk, Py_ssize_t n, Py_ssize_t p, Py_ssize_t q, Py_ssize_t y_pixel,
                     const Filter* f) noexcept nogil:
    """The forward walk, but for its source. Returns -1 when memory is short."""
    walk.n, walk.p, walk.q, walk.images = n, p, q, n
    walk.y_n, walk.y_p, walk.y_q, walk.y_start = p * q * y_pixel, q * y_pixel, y_pixel, 0
    walk.stride_h, walk.stride_w = f.stride_h, f.stride_w
    if allocate_taps(walk, f.r * f.s) != 0:
        return -1
    fill_taps(walk, f, False)
    return 0


cdef void fill_taps(Walk* walk, const Filter* f, bint by_rows) noexcept nogil:
    """A tap for each place in the filter or, `by_rows`, for each row, over images that have their padding."""
    cdef Py_ssize_t across = 1 if by_rows else f.s, tap
    walk.taps = f.r * across
    for tap in range(walk.taps):
        walk.tap_h[tap] = tap // across * f.dilation_h - (0 if by_rows else f.pad_h)
        walk.tap_w[tap] = tap % across * f.dilation_w - (0 if by_rows else f.pad_w)


cdef real* padded_source(Walk* walk, const real* x, Py_ssize_t h, Py_ssize_t w, Py_ssize_t c, Py_ssize_t x_n,
                         Py_ssize_t x_h, Py_ssize_t x_w, Py_ssize_t x_c, const Filter* f) noexcept nogil:
    """Copy the images with their padding, and walk over the copy by filter rows.

    Returns NULL without memory, or when interrupted.
    """
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
    fill_taps(walk, f, True)
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
        return filter_elements(channels, group, taps, itemsize)
    return groups * panel_elements(filters // groups, channels // groups * taps, itemsize)


def pack_filters(weight, Py_ssize_t groups, panels):
    """Pack filters (K, C / groups, R, S), contiguous, for `forward`; `panels` holds packed_size elements."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_all(&arrays, (weight,), (panels,))
    if arrays.item[0].itemsize == sizeof(float):
        pack_all[float](&arrays, NULL, groups)
    else:
        pack_all[double](&arrays, NULL, groups)
    raise_interrupt()


cdef void pack_all(const Arrays* arrays, const real* of_dtype, Py_ssize_t groups) noexcept:
    """The operands weight and panels."""
    cdef const Py_buffer* of_weight = &arrays.item[0]
    cdef const real* weight = <const real*>of_weight.buf
    cdef real* panels = <real*>arrays.item[1].buf
    cdef Py_ssize_t filters = of_weight.shape[0], columns = filters // groups, depth = of_weight.shape[1]
    cdef Py_ssize_t taps = of_weight.shape[2] * of_weight.shape[3]
    cdef Py_ssize_t group = narrow_group(depth * groups, filters, groups, sizeof(real))
    cdef Watch watch
    if arrays.item[1].len == 0:
        return
    start(&watch)
    with nogil:
        if group:
            pack_narrow(weight, NULL, filters, group, taps, panels)
        else:
            pack_by_all(weight, NULL, taps, depth, taps, columns, depth * taps, groups,
                        columns * depth * taps, panels, team_size(pack_ns(filters, depth * taps)), &watch)


def forward(x, panels, bias, y, tuple geometry, int relu, bint accumulate=False):
    """y = f(filters * x + bias); x (N, H, W, C), y (N, P, Q, K).

    y is contiguous, or a range of the channels of what is.

    `panels` comes from pack_filters. Channels of x must be contiguous unless the geometry says `by_rows`.
    `bias` may be None; f is max(0, .) with `relu` 1, min(6, max(0, .)) with 2. With `accumulate` y already
    holds numbers, which are added before f.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef int status
    acquire_floats(&arrays, x)
    acquire_others(&arrays, panels, y, bias)
    status = direct_forward(&arrays, window(geometry), accumulate, relu)
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
    cdef Watch watch   # beside the drivers' own: of many small pieces none may run so long that it looks
    cdef int status = 0
    if y.len == 0:
        return 0
    if f.by_rows and x.len > COPIED_BYTES:
        together = team_size(1e9) * max(COPIED_BYTES // (x.len // n), <Py_ssize_t>1)
    start(&watch)
    while first < n and status == 0:
        status = convolve_images(x, panels, bias, y, first, min(together, n - first), &f, accumulate, relu)
        first += together
        if not go_on(&watch):
            status = -1
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
    cdef Py_ssize_t run     # numbers of a tap
    cdef bint even
    cdef int status
    with nogil:
        status = source_walk(&walk, source, shape, x.strides, f, y.shape[1], y.shape[2],
                             y.strides[2] // <Py_ssize_t>sizeof(real), &copy)
        walk.images = y.shape[0]
        if copy is NULL:
            run, even = c // f.groups, f.groups == 1 and status == 0 and pixels_fit(&walk, c, sizeof(real))
        else:
            source, run = copy, f.s * c
            even = runs_fit(&walk, run, sizeof(real))
        if status != 0:
            pass
        elif group:
            status = convolve_rows(&walk, source, panels, bias, to, c, group, walk.taps, accumulate, relu)
        elif even:
            status = convolve_few_channels(&walk, source, panels, run, bias, to, k, accumulate, relu)
        else:
            status = convolve(&walk, source, panels, walk.taps, run, bias, to, k // f.groups, f.groups,
                              accumulate, relu)
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
        cdef HeldArrays arrays
        arrays.count = 0
        cdef int status
        if type(x) is not ndarray or x.dtype is not self.dtype:
            return None
        acquire_floats(&arrays, x)
        if not self.fits(&arrays.item[0]):
            return None
        y = empty(self.y_shape, self.dtype)
        acquire_others(&arrays, self.panels, y, self.bias)
        status = self.run(&arrays)
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
                     const Filter* f, Py_ssize_t p, Py_ssize_t q, Py_ssize_t y_pixel,
                     real** copy) noexcept nogil:
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
