"""Matrix products on the register tile, for the drivers of Linear, convolution and the recurrences."""

from fastnn._kernels.pack cimport panel_elements
from fastnn._kernels.runtime cimport Watch, fnn_kernels, fnn_tile, real

# Block sizes of all drivers of the tile. KC: 14 rows x 384 floats are 21 KB of a 32 KB L1. NC: KC x 256
# floats are 384 KB, under half of the 1 MB L2 of the smallest AVX-512 machine. MC: rows of a task, so that B
# is used often enough to pay for its way into L2.
cdef enum:
    KC = 384
    NC = 256
    MC = 112
    MAX_MR = 16
    TASKS = 8         # in which a product with weights in training is cut, if its size allows
    EVEN_STEPS = 384  # of a short product, over all panels
    LONGEST_KC = 448  # a block may be so long, rather than leave a short one
    PITCH = 464       # elements from row to row of a copy of A: no power of two, and 16 rows are
    A_COPY = 7424
    BEYOND_L2_BYTES = 1024 * 1024  # of rows that are no longer in L2

cdef bint rows_collide(Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t columns,
                       const fnn_kernels* kern) noexcept nogil

cdef bint is_short(const fnn_kernels* kern, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth,
                   Py_ssize_t stride_bytes) noexcept nogil

cdef void fetch_ahead(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t following, Py_ssize_t depth,
                      Py_ssize_t step, Py_ssize_t steps) noexcept nogil

cdef void even_tiles(const fnn_kernels* kern, const fnn_tile* tile, const real* a, Py_ssize_t a_stride,
                     real* c, Py_ssize_t c_stride, Py_ssize_t rows, bint far, bint past) noexcept nogil

cdef Py_ssize_t next_rows(const fnn_kernels* kern, Py_ssize_t a_stride) noexcept nogil

cdef void multiply_task(const fnn_kernels* kern, const real* a, Py_ssize_t a_stride, const real* panels,
                        const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m0, Py_ssize_t m1,
                        Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t k, bint accumulate,
                        int relu, Py_ssize_t following=*, bint far=*) noexcept nogil

cdef void multiply(const real* a, Py_ssize_t a_stride, const real* panels, const real* bias,
                   real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                   bint accumulate, int relu, int threads, Watch* watch) noexcept nogil

cdef void add_slices(real* total, const real* slices, Py_ssize_t count, Py_ssize_t size) noexcept nogil

cdef void column_sums(const real* a, real* sums, Py_ssize_t m, Py_ssize_t n, Watch* watch) noexcept nogil

cdef double product_ns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k) noexcept nogil
