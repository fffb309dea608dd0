"""Matrix products: how C = A B is cut for caches and threads.

One block of B, KC x NC elements, stays in L2 while rows of A pass by; the MR rows of A under the tile,
MR x KC elements, stay in L1. B is packed beforehand, so that each step of the tile reads the next NR
elements; A is read where it lies::

    for each task (rows m0..m1, columns n0..n1)        threads share the tasks
        for each block of k                            C holds the partial sums between blocks
            for each MR rows                           A: MR x KC in L1
                for each panel of NR columns           gemm_rows (csrc/gemm_tile.h)

or, where sums are short, for each panel all rows, without a table of them (csrc/even_tile.h).

Every element of C is summed over k in the same order whatever the cut, so the bits depend on neither
the number of threads nor the other rows.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from numpy import empty, ndarray

from fastnn._kernels.arrays cimport Arrays, HeldArrays, acquire_all, acquire_floats, acquire_others
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.memory cimport give, take
from fastnn._kernels.pack cimport pack_by_all, pack_ns
from fastnn._kernels.runtime cimport (
    Watch, balanced, ceil_div, deal, fnn_kernels, fnn_row, fnn_tasks, fnn_tile, go_on, kernels,
    lines_apart, next_task, odd_lines, raise_interrupt, real, share_a_set, start, team_for,
    team_size
)

cdef enum:
    SUM_COLUMNS = 256  # of a block of a sum over rows: its sums stay in L1
    SUM_ROWS = 128     # of a block
    FETCH_BYTES = 8192  # by which far rows of a short product are fetched ahead


cdef bint rows_collide(Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t columns,
                       const fnn_kernels* kern) noexcept nogil:
    """Whether rows `stride` bytes apart would drive each other out of L1, and are worth a copy of their own.

    A tile reads up to 14 rows at once: 1024 x 1024 x 1024 76 -> 103 GFLOP/s. Half as many as a set has places
    need none.
    """
    return rows > 4 and share_a_set(stride) and columns >= 2 * kern.nr


cdef bint is_short(const fnn_kernels* kern, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth,
                   Py_ssize_t stride_bytes) noexcept nogil:
    """Whether a product of rows `stride_bytes` apart is for even_tile.h.

    Its sums are few and short, so that tables of rows would cost as much, and the tiles of MR rows that it
    takes compute little twice.
    """
    cdef Py_ssize_t computed = ceil_div(rows, kern.mr) * kern.mr
    return (depth * ceil_div(columns, kern.nr) <= EVEN_STEPS and kern.mr <= rows and 8 * computed <= 9 * rows
            and not rows_collide(rows, stride_bytes, columns, kern))


cdef void fetch_ahead(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t following, Py_ssize_t depth,
                      Py_ssize_t step, Py_ssize_t steps) noexcept nogil:
    """Have tile `step` of `steps` fetch its share of the block of B `following` elements on; 0 for none.

    Its share is some columns of each of the `depth` steps of the reduction, all taps together.

    A block comes from L3 or memory, and where rows are few the first tile alone would wait for most of it.
    With filters in memory, AVX2, one thread: 512 -> 2048 1 x 1 at 7 x 7 1250 -> 1140 us, 256 -> 512 3 x 3 s2
    at 7 x 7 1340 -> 1250; Winograd's products, 512 -> 512 at 14 x 14, 5300 -> 4700; Linear, 16 x 4096 -> 4096
    9900 -> 7500. Of 17 tiles it gains nothing.
    """
    cdef Py_ssize_t share = ceil_div(kern.nr, steps)
    tile.next_b = tile.next_step = 0
    if following and step * share < kern.nr:
        tile.next_b = following + step * share * depth
        tile.next_step = share


cdef void even_tiles(const fnn_kernels* kern, const fnn_tile* tile, const real* a, Py_ssize_t a_stride,
                     real* c, Py_ssize_t c_stride, Py_ssize_t rows, bint far, bint past) noexcept nogil:
    """At least MR rows of A and C from a and c on, by what else `tile` says; `far` as for multiply_task,
    `past`: see csrc/even_tile.h.

    Far rows come from memory only after several tiles: fetched one tile ahead, of 800 bytes to 2 KB, they are
    late (Zen 5, 16 x 32 x 112 x 112 -> 16, 1 x 1, AVX2 2750 us, 8 KB ahead 1800, by the processor's own
    foresight 2900; AVX-512 1940, 1300, 1450).
    """
    cdef const void* source = a + tile.a_offset
    cdef fnn_row row
    row.rows = &source
    row.r = row.s = row.stride = 1
    row.group, row.channels, row.q = tile.depth, tile.columns, rows
    row.x_pixel, row.y_pixel = a_stride, c_stride
    row.filters, row.filter_step = <void*>tile.b, tile.b_panel
    row.bias, row.accumulate, row.relu = tile.bias, tile.accumulate, tile.relu
    row.y = c + tile.c_offset
    row.elements_ahead, row.past = 0, past
    if far and tile.depth == a_stride:
        row.elements_ahead = <int>max(FETCH_BYTES // <Py_ssize_t>sizeof(real), next_rows(kern, a_stride))
    kern.even_row(&row)


cdef Py_ssize_t next_rows(const fnn_kernels* kern, Py_ssize_t a_stride) noexcept nogil:
    """How far ahead of it a tile of long sums fetches far rows: the tile after the next one's."""
    return 2 * kern.mr * a_stride


cdef void multiply_task(const fnn_kernels* kern, const real* a, Py_ssize_t a_stride, const real* panels,
                        const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m0, Py_ssize_t m1,
                        Py_ssize_t n0, Py_ssize_t n1, Py_ssize_t k, bint accumulate,
                        int relu, Py_ssize_t following=0, bint far=False) noexcept nogil:
    """Rows m0..m1 and columns n0..n1 (n0 at the start of a panel).

    `following` is how far from these columns of B the ones lie that come next, 0 for nowhere. `far`: A lies
    beyond L2, its rows one after the other.
    """
    cdef const void* a_rows[MAX_MR]
    cdef void* c_rows[MAX_MR]
    cdef real a_copy[A_COPY]
    cdef fnn_tile tile
    cdef bint copied = rows_collide(m1 - m0, a_stride * sizeof(real), n1 - n0, kern)
    cdef Py_ssize_t steps = ceil_div(m1 - m0, kern.mr)
    # 16 rows are two tiles of 8, not one of 14 and a slow one of 2.
    cdef Py_ssize_t height = ceil_div(m1 - m0, steps)
    cdef Py_ssize_t blocks = max(ceil_div(k, LONGEST_KC), <Py_ssize_t>1), length = ceil_div(k, blocks)
    cdef Py_ssize_t block, k0, m, i, step, after
    tile.a = a_rows
    tile.c = c_rows
    tile.tap_offset = NULL
    tile.taps = 1
    tile.b_panel = k * kern.nr
    tile.c_offset = n0
    tile.columns = n1 - n0
    tile.a_offset = 0
    tile.next_a = next_rows(kern, a_stride) if far and not copied else 0
    for block in range(blocks):
        k0 = block * length
        tile.depth = min(length, k - k0)
        tile.b = panels + n0 * k + k0 * kern.nr
        tile.accumulate = accumulate or k0 > 0
        tile.bias = NULL if bias is NULL or k0 > 0 else bias + n0
        tile.relu = relu if block == blocks - 1 else 0
        if is_short(kern, m1 - m0, n1 - n0, tile.depth, a_stride * sizeof(real)):
            even_tiles(kern, &tile, a + m0 * a_stride + k0, a_stride, c + m0 * c_stride, c_stride, m1 - m0,
                       far, False)
            continue
        after = length * kern.nr
        if block == blocks - 1:
            after = following - k0 * kern.nr if following else 0
        for step in range(steps):
            m = m0 + step * height
            fetch_ahead(kern, &tile, after, tile.depth, step, steps)
            tile.rows = min(height, m1 - m)
            for i in range(tile.rows):
                a_rows[i] = a + (m + i) * a_stride + k0
                c_rows[i] = c + (m + i) * c_stride
                if copied:
                    memcpy(a_copy + i * PITCH, a_rows[i], tile.depth * sizeof(real))
                    a_rows[i] = a_copy + i * PITCH
            kern.gemm_rows(&tile)


cdef struct Product:
    # What `multiply` was asked for, and how it is cut: tasks of mc rows and nc columns.
    const fnn_kernels* kern
    const void* a
    const void* panels
    const void* bias
    void* c
    Py_ssize_t a_stride, c_stride, m, n, k
    Py_ssize_t m_tasks, mc, n_tasks, nc
    Py_ssize_t pitch            # elements from row to row of a copy of A
    bint accumulate
    int relu


cdef void multiply(const real* a, Py_ssize_t a_stride, const real* panels, const real* bias,
                   real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                   bint accumulate, int relu, int threads, Watch* watch) noexcept nogil:
    """C[m, n] = f(A[m, k] B[k, n] + bias): A and C by rows, B packed, bias [n] or NULL.

    With `accumulate` C holds what the product is added to. Called from inside a parallel region, `threads`
    is 1. `watch` may be NULL, where the caller looks for signals itself.
    """
    cdef Product p
    cdef fnn_tasks tasks
    cdef int team, thread
    cdef Py_ssize_t size = 0
    cdef real* copies = NULL
    if m == 0 or n == 0:
        return
    p.kern = kernels(sizeof(real))
    p.a, p.panels, p.bias, p.c = a, panels, bias, c
    p.a_stride, p.c_stride, p.m, p.n, p.k = a_stride, c_stride, m, n, k
    p.accumulate, p.relu = accumulate, relu
    p.mc = balanced(m, MC // p.kern.mr * p.kern.mr, p.kern.mr)
    # Of few rows the columns are what there is to share: four panels, which a tile of one row takes at once,
    # or fewer if there is not a task for each thread.
    p.nc = 4 * p.kern.nr if m <= p.mc else max(NC // p.kern.nr, 1) * p.kern.nr
    if m <= p.mc and ceil_div(n, p.nc) < threads:
        p.nc = ceil_div(n, threads * p.kern.nr) * p.kern.nr
    p.m_tasks, p.n_tasks = ceil_div(m, p.mc), ceil_div(n, p.nc)
    team = team_for(p.m_tasks * p.n_tasks, threads)
    p.pitch = odd_lines(k, sizeof(real))
    if p.n_tasks > 1 and rows_collide(m, a_stride * sizeof(real), p.nc, p.kern):
        size = lines_apart(min(m, p.mc) * p.pitch, sizeof(real))
        copies = <real*>take(team * size * sizeof(real))
    deal(&tasks, p.m_tasks * p.n_tasks, team)
    if team == 1:
        multiply_share(&p, &tasks, 0, watch, copies)
    else:
        for thread in prange(team, schedule="static", chunksize=1, num_threads=team):
            multiply_share(&p, &tasks, thread, watch,
                           <real*>NULL if copies is NULL else copies + thread * size)
    if copies is not NULL:
        give(copies, team * size * sizeof(real))


cdef void multiply_share(const Product* p, fnn_tasks* tasks, int thread, Watch* watch,
                         real* copy) noexcept nogil:
    """One thread's share: blocks of columns first, then of rows. With `copy`, of rows that collide, the other
    way about, so that they are copied once; without memory for it each task copies them.

    Zen 5, AVX-512: 64 x 1024 -> 1024 .95 of the time, 1024 x 1024 -> 1024 .96; AVX2: 64 x 4096 -> 4096 .93.
    """
    cdef const real* rows
    cdef real* c
    cdef Py_ssize_t task = next_task(tasks, thread, watch), copied = -1, stride = p.a_stride
    cdef Py_ssize_t m0, m1, n0, i, following
    cdef bint far = stride == p.k and p.m * p.k * <Py_ssize_t>sizeof(real) > BEYOND_L2_BYTES and copy is NULL
    while task >= 0:
        if copy is NULL:
            m0, n0 = task % p.m_tasks * p.mc, task // p.m_tasks * p.nc
        else:
            m0, n0 = task // p.n_tasks * p.mc, task % p.n_tasks * p.nc
        m1 = min(p.m, m0 + p.mc)
        rows, c = <const real*>p.a + m0 * p.a_stride, <real*>p.c + m0 * p.c_stride
        if copy is not NULL:
            for i in range(m1 - m0 if m0 != copied else 0):
                memcpy(copy + i * p.pitch, rows + i * p.a_stride, p.k * sizeof(real))
            rows, stride, copied = copy, p.pitch, m0
        # What comes next, unless each thread has but one block of columns: the next one is then another's.
        following = 0
        if n0 + p.nc < p.n and p.n_tasks > tasks.runs and (p.m_tasks == 1 or copy is not NULL):
            following = p.nc * p.k
        multiply_task(p.kern, rows, stride, <const real*>p.panels, <const real*>p.bias, c, p.c_stride, 0,
                      m1 - m0, n0, min(p.n, n0 + p.nc), p.k, p.accumulate, p.relu, following, far)
        task = next_task(tasks, thread, watch)


cdef void add_slices(real* total, const real* slices, Py_ssize_t count, Py_ssize_t size) noexcept nogil:
    """Add the slices of `size` numbers to `total`, in order: the bits do not depend on who made them."""
    kernels(sizeof(real)).add_rows(count, size, slices, size, total, 0)


cdef void column_sums(const real* a, real* sums, Py_ssize_t m, Py_ssize_t n, Watch* watch) noexcept nogil:
    """sums[j] = sum_i a[i, j], m rows of n: the gradient of a bias.

    Of narrow rows several are taken at once, as one of whole vectors: 50,176 of 6 193 -> 62 us.
    """
    cdef Py_ssize_t lanes = kernels(sizeof(real)).lanes
    cdef Py_ssize_t rows = SUM_COLUMNS // (n * lanes) * lanes if n else 0, whole
    cdef real wide[SUM_COLUMNS]
    if rows == 0 or m < 2 * rows:
        sum_blocks(a, sums, m, n, watch)
        return
    whole = m // rows
    sum_blocks(a, wide, whole, rows * n, watch)
    sum_blocks(a + whole * rows * n, sums, m - whole * rows, n, watch)
    kernels(sizeof(real)).add_rows(rows, n, wide, n, sums, 0)


cdef void sum_blocks(const real* a, real* sums, Py_ssize_t m, Py_ssize_t n, Watch* watch) noexcept nogil:
    """`column_sums`, whatever the rows.

    Blocks of SUM_ROWS rows are summed first and then added: the error of a long float32 sum grows with the
    number of blocks, not of rows.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t across, down, i, j, width
    cdef real block[SUM_COLUMNS]
    memset(sums, 0, n * sizeof(real))
    for across in range(ceil_div(n, SUM_COLUMNS)):
        j = across * SUM_COLUMNS
        width = min(<Py_ssize_t>SUM_COLUMNS, n - j)
        for down in range(ceil_div(m, SUM_ROWS)):
            if not go_on(watch):
                return
            i = down * SUM_ROWS
            memset(block, 0, width * sizeof(real))
            kern.add_rows(min(<Py_ssize_t>SUM_ROWS, m - i), width, a + i * n + j, n, block, 0)
            kern.add_rows(1, width, block, 0, sums + j, 0)


cdef double product_ns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    """Serial time of a product: 50 GFLOP/s, packing and edges included; a row or two wait for B's memory."""
    return 0.04 * max(m, <Py_ssize_t>3) * n * k


def pack_weight(weight, panels):
    """Pack W [n, k], contiguous, as the right-hand side B = W^T of a product.

    `panels` holds panel_size(n, k) numbers.
    """
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_all(&arrays, (weight,), (panels,))
    if arrays.item[0].itemsize == sizeof(float):
        run_pack[float](&arrays, NULL)
    else:
        run_pack[double](&arrays, NULL)
    raise_interrupt()


cdef void run_pack(const Arrays* arrays, const real* of_dtype) noexcept:
    """The operands weight and panels."""
    cdef const Py_buffer* weight = &arrays.item[0]
    cdef Py_ssize_t n = weight.shape[0], k = weight.shape[1]
    cdef Watch watch
    if n == 0 or k == 0:
        return
    with nogil:
        start(&watch)
        pack_by_all(<const real*>weight.buf, NULL, 1, k, 1, n, k, 1, 0, <real*>arrays.item[1].buf,
                    team_size(pack_ns(n, k)), &watch)


def panel_size(Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize):
    """Elements of the packed form of a k x n right-hand side."""
    return panel_elements(n, k, itemsize)


def row_total(rows, total):
    """total[j] = sum_i rows[i, j], both contiguous."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_all(&arrays, (rows,), (total,))
    if arrays.item[0].itemsize == sizeof(float):
        run_total[float](&arrays, NULL)
    else:
        run_total[double](&arrays, NULL)
    raise_interrupt()


cdef void run_total(const Arrays* arrays, const real* of_dtype) noexcept:
    """The operands rows and total."""
    cdef const Py_buffer* rows = &arrays.item[0]
    cdef Watch watch
    if arrays.item[1].len == 0:
        return
    with nogil:
        start(&watch)
        column_sums(<const real*>rows.buf, <real*>arrays.item[1].buf, rows.shape[0], rows.shape[1], &watch)


def linear(x, panels, bias, y, int relu):
    """y [m, n] = f(x [m, k] B + bias), B packed by pack_weight, x and y contiguous; bias may be None."""
    cdef Environment _caller = default_environment()
    cdef HeldArrays arrays
    arrays.count = 0
    acquire_floats(&arrays, x)
    acquire_others(&arrays, panels, y, bias)
    linear_arrays(&arrays, relu)
    raise_interrupt()


cdef void linear_arrays(Arrays* arrays, int relu) noexcept:
    """The operands x, panels, y and perhaps bias, of either dtype."""
    if arrays.item[0].itemsize == sizeof(float):
        run_linear[float](arrays, NULL, relu)
    else:
        run_linear[double](arrays, NULL, relu)


cdef void run_linear(Arrays* arrays, const real* of_dtype, int relu) noexcept:
    cdef Py_buffer* x = &arrays.item[0]
    cdef Py_buffer* y = &arrays.item[2]
    cdef const real* bias = <const real*>arrays.item[3].buf if arrays.count == 4 else NULL
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = y.shape[1]
    cdef Watch watch
    if m == 0 or n == 0:
        return
    with nogil:
        start(&watch)
        multiply(<const real*>x.buf, k, <const real*>arrays.item[1].buf, bias, <real*>y.buf, n, m, n, k,
                 False, relu, team_size(product_ns(m, n, k)), &watch)


cdef class Prepared:
    """A product with one packed B: what a layer keeps for its next call.

    Called with x (M, K) it returns y (M, N), or None where x is not a contiguous matrix of the dtype and K.
    """

    cdef object panels, bias, dtype
    cdef Py_ssize_t k, n
    cdef int relu

    def __init__(self, panels, bias, Py_ssize_t k, Py_ssize_t n, int relu):
        self.panels, self.bias, self.dtype = panels, bias, panels.dtype
        self.k, self.n, self.relu = k, n, relu

    def __call__(self, x):
        """y, or None."""
        cdef Environment _caller = default_environment()
        cdef HeldArrays arrays
        arrays.count = 0
        if type(x) is not ndarray or x.dtype is not self.dtype:
            return None
        acquire_floats(&arrays, x)
        if not self.fits(&arrays.item[0]):
            return None
        y = empty((arrays.item[0].shape[0], self.n), self.dtype)
        acquire_others(&arrays, self.panels, y, self.bias)
        linear_arrays(&arrays, self.relu)
        raise_interrupt()
        return y

    cdef bint fits(self, const Py_buffer* x) noexcept:
        return (x.ndim == 2 and x.shape[1] == self.k and x.strides[1] == x.itemsize
                and x.strides[0] == self.k * x.itemsize and <Py_ssize_t>x.buf % x.itemsize == 0)
