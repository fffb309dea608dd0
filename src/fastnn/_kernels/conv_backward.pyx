"""The interface of the convolution kernels, backward: the gradients of the input and of the filters.

Images are channels-last in memory, see conv.pyx. Where the input has few channels, the gradient of the
filters reads its padded copy, as the forward pass does; that of the input is made by col2im.pyx, or from a
padded copy of grad_y where that is faster.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, finish
from fastnn._kernels.col2im cimport Image, input_gradient
from fastnn._kernels.conv cimport Filter, allocate_taps, free_walk, padded_source, source_walk, window
from fastnn._kernels.conv_gradient cimport weight_gradient
from fastnn._kernels.convolve cimport convolve
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.im2col cimport filter_gradient_by_filters
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack_by_all, pack_ns, panel_elements
from fastnn._kernels.rows cimport (
    convolve_few_channels, convolve_rows, filter_elements, narrow_group, pack_narrow_transposed,
    panel_channels, rows_gradient
)
from fastnn._kernels.runtime cimport Watch, ceil_div, fnn_kernels, go_on, kernels, real, start, team_size
from fastnn._kernels.share cimport share
from fastnn._kernels.walk cimport Walk, find_interior

cdef enum:
    FEW_PIXELS = 2    # a filter: with fewer, its gradient is computed filter by filter (im2col.pyx)
    PADDED_BYTES = 64 * 1024  # of the one panel of filters of convolve_padded, in L1 or close by in L2


def backward_input(grad_y, weight, grad_x, tuple geometry):
    """grad_x = the transposed convolution of grad_y; also the forward pass of ConvTranspose2d.

    grad_y (N, P, Q, K), weight (K, C / groups, R, S) and grad_x (N, H, W, C) are contiguous.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Filter f = window(geometry)
    cdef int status
    acquire_all(&arrays, (grad_y, weight), (grad_x,))
    if arrays.item[0].itemsize == sizeof(float):
        status = gradient_of_input[float](&arrays, NULL, &f)
    else:
        status = gradient_of_input[double](&arrays, NULL, &f)
    finish(status, "conv2d_backward")


cdef int gradient_of_input(const Arrays* arrays, const real* of_dtype, const Filter* f) noexcept:
    """The operands grad_y, weight and grad_x. Returns -1 when memory is short or Ctrl-C was pressed.

    The pixels of grad_x with one residue modulo the stride all read the same taps: each class of them is a
    dense walk over grad_y with stride 1. Pixels that no tap reads, three in four of a 1 x 1 filter with
    stride 2, are zero. Where channels are few, see padded_serves.
    """
    cdef const Py_buffer* of_y = &arrays.item[0]
    cdef const Py_buffer* of_x = &arrays.item[2]
    cdef const real* grad_y = <const real*>of_y.buf
    cdef const real* weight = <const real*>arrays.item[1].buf
    cdef real* grad_x = <real*>of_x.buf
    cdef Image image
    cdef Walk walk
    cdef Py_ssize_t n = of_x.shape[0], h = of_x.shape[1], w = of_x.shape[2], c = of_x.shape[3]
    cdef Py_ssize_t k = of_y.shape[3], taps = f.r * f.s, first = 0, a, b
    cdef Py_ssize_t columns = c // f.groups, depth = k // f.groups
    # Classes beyond the image have no pixels.
    cdef Py_ssize_t classes_h = min(f.stride_h, h), classes_w = min(f.stride_w, w)
    cdef Py_ssize_t group = narrow_group(c, k, f.groups, sizeof(real))
    cdef Py_ssize_t width = panel_channels(c, group, sizeof(real))
    cdef bint copied = False
    cdef Py_ssize_t* places
    cdef size_t panels_size
    cdef real* panels
    cdef Zeros zeros
    cdef Watch watch
    cdef int status = 0
    if of_x.len == 0:
        return 0
    if f.by_rows:
        image.n, image.h, image.w, image.c = n, h, w, c
        image.p, image.q, image.k, image.r, image.s = of_y.shape[1], of_y.shape[2], k, f.r, f.s
        image.stride_h, image.stride_w, image.pad_h, image.pad_w = f.stride_h, f.stride_w, f.pad_h, f.pad_w
        image.dilation_h = f.dilation_h
        copied = padded_serves(&image, sizeof(real))
        if not copied:
            with nogil:
                return input_gradient(&image, grad_y, weight, grad_x)
    status = allocate_taps(&walk, taps)
    places = <Py_ssize_t*>malloc((taps + 1) * sizeof(Py_ssize_t))
    panels_size = (filter_elements(c, group, taps, sizeof(real)) if group else
                   f.groups * panel_elements(columns, taps * depth, sizeof(real))) * sizeof(real)
    panels = <real*>take(panels_size)
    if status != 0 or places is NULL or panels is NULL:
        status = -1
    else:
        with nogil:
            walk.n, walk.h, walk.w = of_y.shape[0], of_y.shape[1], of_y.shape[2]
            walk.images = walk.n
            walk.x_n, walk.x_h, walk.x_w = walk.h * walk.w * k, walk.w * k, k
            if sort_taps(f, classes_h, classes_w, places):
                # All pixels at once: 16 x 64 x 56 x 56, 1 x 1, took 1.47 ms class by class, so 1.11.
                zeros.start, zeros.row = <char*>grad_x, w * c * sizeof(real)
                status = share(zero_rows, &zeros, n * h, 0.025 * n * h * zeros.row)
            start(&watch)
            if status:
                pass
            elif group:
                pack_narrow_transposed(weight, places, c, group, taps, panels)
            elif taps * depth:
                pack_by_all(weight, places, taps, depth, columns * taps, columns, taps, f.groups,
                            depth * columns * taps, panels, team_size(pack_ns(c, depth * taps)), &watch)
                status = -1 if watch.interrupted else 0
            for a in range(classes_h):
                for b in range(classes_w):
                    # A class by itself may be too short to look for Ctrl-C.
                    if not go_on(&watch):
                        status = -1
                    if status:
                        break
                    class_walk(&walk, f, a, b, h, w, c)
                    if walk.taps == 0:
                        continue
                    if group:
                        status = convolve_rows(&walk, grad_y, panels + first * group * width,
                                               <const real*>NULL, grad_x, c, group, taps, False, False)
                    elif copied:
                        status = convolve_padded(&walk, f, grad_y, k, panels, grad_x, c)
                    else:
                        status = convolve(&walk, grad_y, panels + first * depth * kernels(sizeof(real)).nr,
                                          taps, depth, <const real*>NULL, grad_x, columns, f.groups, False,
                                          False)
                    first += walk.taps
    free(walk.tap_h)
    free(places)
    give(panels, panels_size)
    return status


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
    """The rows first..last, all images' counted through. See `share`."""
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


def backward_weight(grad_y, x, grad_weight, tuple geometry):
    """grad_weight (K, C / groups, R, S) from grad_y (N, P, Q, K), both contiguous, and x (N, H, W, C)."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    cdef Filter f = window(geometry)
    cdef int status
    acquire_all(&arrays, (grad_y, x), (grad_weight,))
    if arrays.item[0].itemsize == sizeof(float):
        status = gradient_of_filters[float](&arrays, NULL, &f)
    else:
        status = gradient_of_filters[double](&arrays, NULL, &f)
    finish(status, "conv2d_backward")


cdef int gradient_of_filters(const Arrays* arrays, const real* of_dtype, const Filter* f) noexcept:
    """The operands grad_y, x and grad_weight."""
    cdef const Py_buffer* of_y = &arrays.item[0]
    cdef const Py_buffer* of_x = &arrays.item[1]
    cdef const Py_buffer* of_weight = &arrays.item[2]
    cdef const real* grad_y = <const real*>of_y.buf
    cdef const real* source = <const real*>of_x.buf
    cdef real* grad_weight = <real*>of_weight.buf
    cdef Py_ssize_t c = of_x.shape[3], k = of_y.shape[3]
    cdef Py_ssize_t group = narrow_group(c, k, f.groups, sizeof(real))
    cdef real* copy = NULL
    cdef Walk walk
    cdef int status
    if of_y.len == 0 or of_x.len == 0:  # no outputs, or no inputs but padding
        memset(grad_weight, 0, of_weight.len)
        return 0
    with nogil:
        status = source_walk(&walk, source, of_x.shape, of_x.strides, f, of_y.shape[1], of_y.shape[2], k,
                             &copy)
        source = copy if copy is not NULL else source
        if status != 0:
            pass
        elif group:
            status = rows_gradient(&walk, source, grad_y, c, group, grad_weight)
        elif copy is not NULL:
            status = weight_gradient_by_rows(&walk, source, grad_y, c, k, f.s, grad_weight)
        elif walk.n * walk.p * walk.q < FEW_PIXELS * (k // f.groups):
            status = filter_gradient_by_filters(&walk, source, grad_y, f.groups, c // f.groups, k // f.groups,
                                                grad_weight)
        else:
            status = weight_gradient(&walk, source, grad_y, f.groups, c // f.groups, k // f.groups,
                                     grad_weight)
        free_walk(&walk, copy, c * sizeof(real))
    return status


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
    for filter in range(k if status == 0 else 0):
        for channel in range(c):
            for r in range(rows):
                for j in range(s):
                    grad_weight[((filter * c + channel) * rows + r) * s + j] = \
                        by_rows[filter * size + (j * c + channel) * rows + r]
    free(by_rows)
    return status
