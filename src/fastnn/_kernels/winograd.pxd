"""Tiles of Winograd's algorithm, shared by its drivers."""

from fastnn._kernels.runtime cimport Watch, fnn_kernels, fnn_tile_factors, real
from fastnn._kernels.walk cimport Pixel

cdef enum:
    MOST_PRODUCTS = 81   # of a tile of 4 x 4 outputs with stride 2
    MOST_OUTPUTS = 16
    CHANNELS = 16        # whose filters are transformed at once, in L1

# How images are cut in tiles. With dilation a tile's outputs, and its inputs, are so far apart.
cdef struct Tiling:
    int size                          # inputs of a tile along each axis
    int outputs                       # of a tile along each axis
    Py_ssize_t stride, dilation_h, dilation_w
    Py_ssize_t n, rows, columns       # images, and tiles of each
    Py_ssize_t p, q                   # outputs of an image
    Py_ssize_t h, w, pad_h, pad_w     # its inputs
    Py_ssize_t x_n, x_h, x_w          # the strides of x, in elements; channels are contiguous

# How the work is cut, and where V and M of a block have what.
cdef struct Plan:
    int size                       # of a tile
    int products
    Py_ssize_t c, k                # channels, filters
    Py_ssize_t block, filters      # tiles and filters of a task
    Py_ssize_t y_pixel             # from one pixel of y to the next
    # Products with the same factor are rows of one matrix, the block's tiles one after the other. Of each
    # product its factor, how many of a tile share that, and its row for the first tile.
    int factor[MOST_PRODUCTS]
    int rows[MOST_PRODUCTS]
    Py_ssize_t row[MOST_PRODUCTS]

# A convolution, forward; x, zeros, panels, weight, bias, y and workspaces hold the dtype of the data.
cdef struct Forward:
    const fnn_kernels* kern
    const Tiling* tiling
    Plan plan
    Py_ssize_t tiles                  # of all images
    Py_ssize_t itemsize
    const void* x
    const void* zeros
    const void* panels                # U, or NULL, and then ...
    const void* weight                # ... the filters as they are
    const void* bias
    void* y
    bint transposed                   # filters and channels are exchanged, and each filter rotated
    bint accumulate
    int relu
    void* workspace                   # of each thread: V and M; of few tiles U, M and room for taps
    Py_ssize_t room                   # numbers of one thread's
    Watch watch
    # Of few tiles (winograd_forward.pyx)
    Py_ssize_t depth                  # channels of a block
    Py_ssize_t tile0, tile1           # of the round
    Py_ssize_t shares                 # of these: tasks of a block of filters
    void* v
    Py_ssize_t v_block                # from the V of one block of channels to the next

cdef void cut_tiles(Tiling* tiling, int size, const Py_ssize_t* shape, const Py_ssize_t* strides,
                    Py_ssize_t itemsize, Py_ssize_t p, Py_ssize_t q, Py_ssize_t pad_h, Py_ssize_t pad_w,
                    Py_ssize_t dilation_h, Py_ssize_t dilation_w) noexcept nogil
cdef Pixel first_output(const Tiling* tiling, Py_ssize_t tile) noexcept nogil
cdef void tile_sources(const Tiling* tiling, const real* x, const real* zeros, Pixel first,
                       const void** sources) noexcept nogil
cdef void fetch_sources(const Tiling* tiling, const void** sources, Py_ssize_t bytes) noexcept nogil
cdef void fetch_pixels(const Tiling* tiling, const void** pixels, Py_ssize_t bytes) noexcept nogil
cdef void tile_pixels(const Tiling* tiling, const real* y, Py_ssize_t y_pixel, Pixel first,
                      const void** pixels) noexcept nogil

cdef void cut_blocks(const fnn_kernels* kern, Plan* plan, Py_ssize_t tiles,
                     Py_ssize_t itemsize) noexcept nogil
cdef int winograd_threads(const Plan* plan, Py_ssize_t tiles) noexcept nogil
cdef void place_products(Plan* plan) noexcept nogil
cdef Py_ssize_t matrix_room(const Plan* plan, Py_ssize_t width) noexcept nogil
cdef real* product_row(const Plan* plan, real* matrix, Py_ssize_t width, Py_ssize_t tile,
                       int product) noexcept nogil
cdef bint multiply_tiles(const fnn_kernels* kern, const Plan* plan, real* v, Py_ssize_t begin, Py_ssize_t end,
                         Py_ssize_t depth, const real* u, Py_ssize_t matrix, Py_ssize_t width,
                         bint accumulate, real* m, Watch* watch) noexcept nogil
cdef void transform_outputs(const Forward* job, real* m, Py_ssize_t tile0, Py_ssize_t tile1, Py_ssize_t k0,
                            Py_ssize_t k1) noexcept nogil

cdef Py_ssize_t matrix_elements(Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil
cdef void pack_panel(const fnn_kernels* kern, int size, const real* weight, bint transposed,
                     Py_ssize_t filters, Py_ssize_t channels, Py_ssize_t k0, Py_ssize_t c0, Py_ssize_t depth,
                     Py_ssize_t matrix, real* panel, real* taps) noexcept nogil

cdef int convolve_many(Forward* job) noexcept nogil

cdef inline int products_of(int factor, int size) noexcept nogil:
    """Products of a tile along an axis that have this factor: with stride 2 all of odd inputs the last."""
    cdef int last = fnn_tile_factors(size) - 1
    return size - last if factor == last else 1
