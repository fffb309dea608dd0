"""Products whose right-hand side B is used but once: a layer's weights in training, which each step changes.

To pack all of B beforehand would take it through memory once more, and with the few rows of a mini-batch
for longer than the product. A task packs one block of B at a time, which stays in L2 while the rows of A
pass by::

    for each block of columns                          threads share them
        for each block of k
            pack B[k, n]
            C[:, n] += A[:, k] B[k, n]                 multiply_task of gemm.pyx

A step of training VGG-11 with few images: 1.87 -> 1.13 s. Sums are in the order of k as in gemm.pyx: the
same bits.

The gradient of few rows of inputs takes the rows of the weights as they lie, `multiply_few`: to pack them
would take as long as six rows' product (AVX2, 1024 x 1024: one row 310 -> 100 us, 4 rows 330 -> 180, 8 rows
590 -> 300; of 12 rows no faster).

`multiply_transposed` is the product of a weight's gradient, A^T B, both with the long axis k down the memory.
Packed beforehand, B would be another array of the size of the input (16384 x 512 x 512: 118 -> 94 ms, on two
threads 74 -> 48). A long k is cut in slices whose partial sums are added in order at the end.
"""

from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastnn._kernels.arrays cimport Arrays, acquire, acquire_others, release
from fastnn._kernels.environment cimport Environment, default_environment
from fastnn._kernels.gemm cimport (
    KC, LONGEST_KC, NC, add_slices, column_sums, columns_in_place, copy_columns, fetch_rows, multiply,
    multiply_task, product_ns, tiles_in_place
)
from fastnn._kernels.pack cimport pack, pack_by_all, panel_elements
from fastnn._kernels.runtime cimport (
    CACHE_LINE, Watch, balanced, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, go_on, kernels,
    lines_apart, next_task, odd_lines, raise_interrupt, real, start, team_size
)

cdef enum:
    TASKS = 8                    # in which a product is cut, if its size allows
    MANY_ROWS = 448              # from which B is packed beforehand: blocks of rows share it
    SMALL_SUMS = 64 * 1024       # elements of a C that slices of SLICE steps may have each for themselves
    SLICE = 512
    LARGEST_SUMS = 1024 * 1024   # and of one that slices of LONG_SLICE steps may
    LONG_SLICE = 2048
    FEW_ROWS = 8                 # up to which B is multiplied as it lies
    FEW_COLUMNS = 1024           # of it at once: four of its rows are half of an L1, or all of it
    FEW_UNIT = 16                # columns of a share: whole lines
    STRIP = 8                    # tiles whose columns of A are copied at once
    TURNED_DEPTH = 128           # from which a product is worth being turned
    TRANSPOSED_KC = 224          # steps of a block of a long sum of A^T B


cdef struct Block:
    Py_ssize_t depth, columns    # of a block of B, in L2


cdef Block block_of(const fnn_kernels* kern, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                    bint columns_lie) noexcept nogil:
    """Few rows are bound by memory: where columns of B lie contiguous, a block then has few, for long runs.

    (8 rows, 4096 x 4096: 16.9 -> 14.2 ms.) Blocks are of a like length, of whole panels, and enough for some
    threads.
    """
    cdef bint narrow = columns_lie and m <= kern.mr
    cdef Py_ssize_t nr = kern.nr, most = nr if narrow else max(NC // nr, 1) * nr
    cdef Block block
    block.columns = balanced(n, max(nr, min(most, ceil_div(ceil_div(n, TASKS), nr) * nr)), nr)
    block.depth = KC * NC // nr if narrow else LONGEST_KC
    block.depth = ceil_div(k, max(ceil_div(k, block.depth), <Py_ssize_t>1))
    return block


cdef Py_ssize_t block_elements(const Block* block, Py_ssize_t itemsize) noexcept nogil:
    """Elements of a thread's workspace: one packed block."""
    return lines_apart(block.depth * block.columns, itemsize)


cdef Py_ssize_t unpacked_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint columns_lie,
                                   Py_ssize_t itemsize, int threads) noexcept nogil:
    """Elements of workspace for multiply_unpacked: a block of B a thread, all of it, or none."""
    cdef Block block
    if m <= FEW_ROWS and not columns_lie:
        return 0
    if m >= MANY_ROWS:
        return panel_elements(n, k, itemsize)
    block = block_of(kernels(itemsize), m, n, k, columns_lie)
    return threads * block_elements(&block, itemsize)


cdef void multiply_unpacked(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride,
                            bint columns_lie, const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m,
                            Py_ssize_t n, Py_ssize_t k, int relu, real* workspace, int threads,
                            Watch* watch) noexcept nogil:
    """C[m, n] = f(A[m, k] B + bias), the columns of B contiguous or, without bias and f, its rows.

    `b_stride` is from one of them to the next. `columns_lie`, which a stride of 1 does not tell, is that of
    unpacked_workspace, whose elements `workspace` holds.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Block block = block_of(kern, m, n, k, columns_lie)
    cdef Py_ssize_t depth_stride = 1 if columns_lie else b_stride, n_stride = b_stride if columns_lie else 1
    cdef fnn_tasks tasks
    cdef int thread
    if m == 0 or n == 0:
        return
    if m <= FEW_ROWS and not columns_lie:
        multiply_few(a, a_stride, b, b_stride, c, c_stride, m, n, k, threads, watch)
        return
    if m >= MANY_ROWS:
        pack_by_all(b, NULL, 1, k, depth_stride, n, n_stride, 1, 0, workspace, threads, watch)
        multiply(a, a_stride, workspace, bias, c, c_stride, m, n, k, False, relu, threads, watch)
        return
    deal(&tasks, ceil_div(n, block.columns), threads)
    if threads == 1:
        unpacked_share(&tasks, 0, kern, a, a_stride, b, depth_stride, n_stride, bias, c, c_stride, m, n, k,
                       &block, relu, workspace, watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            unpacked_share(&tasks, thread, kern, a, a_stride, b, depth_stride, n_stride, bias, c, c_stride, m,
                           n, k, &block, relu,
                           workspace + thread * block_elements(&block, sizeof(real)), watch)


cdef void unpacked_share(fnn_tasks* tasks, int thread, const fnn_kernels* kern, const real* a,
                         Py_ssize_t a_stride, const real* b, Py_ssize_t depth_stride, Py_ssize_t n_stride,
                         const real* bias, real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n,
                         Py_ssize_t k, const Block* block, int relu, real* panels,
                         Watch* watch) noexcept nogil:
    """One thread's share of the blocks of columns."""
    cdef Py_ssize_t blocks = ceil_div(k, block.depth) if k else 1
    cdef Py_ssize_t task = next_task(tasks, thread, watch), n0, columns, i, k0, depth
    while task >= 0:
        n0 = task * block.columns
        columns = min(block.columns, n - n0)
        for i in range(blocks):
            if not go_on(watch):
                return
            k0 = i * block.depth
            depth = min(block.depth, k - k0)
            pack(b + k0 * depth_stride + n0 * n_stride, NULL, 1, depth, depth_stride, columns, n_stride,
                 panels)
            multiply_task(kern, a + k0, a_stride, panels, NULL if bias is NULL or i else bias + n0, c + n0,
                          c_stride, 0, m, 0, columns, depth, i > 0, relu if i == blocks - 1 else 0)
        task = next_task(tasks, thread, watch)


cdef void multiply_few(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride, real* c,
                       Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, int threads,
                       Watch* watch) noexcept nogil:
    """C[m, n] = A[m, k] B[k, n] for few rows of A, those of B multiplied as they lie: n numbers each."""
    cdef Py_ssize_t width = min(<Py_ssize_t>FEW_COLUMNS, n if threads == 1 else ceil_div(n, 4 * threads))
    cdef fnn_tasks tasks
    cdef int thread
    width = ceil_div(width, FEW_UNIT) * FEW_UNIT
    deal(&tasks, ceil_div(n, width), threads)
    if threads == 1:
        few_share(&tasks, 0, a, a_stride, b, b_stride, c, c_stride, m, n, k, width, watch)
    else:
        for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            few_share(&tasks, thread, a, a_stride, b, b_stride, c, c_stride, m, n, k, width, watch)


cdef void few_share(fnn_tasks* tasks, int thread, const real* a, Py_ssize_t a_stride, const real* b,
                    Py_ssize_t b_stride, real* c, Py_ssize_t c_stride, Py_ssize_t m, Py_ssize_t n,
                    Py_ssize_t k, Py_ssize_t width, Watch* watch) noexcept nogil:
    """One thread's share of the blocks of `width` columns."""
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Py_ssize_t task = next_task(tasks, thread, watch), j, i, block, k0, columns
    while task >= 0:
        j = task * width
        columns = min(width, n - j)
        for i in range(m):
            memset(c + i * c_stride + j, 0, columns * sizeof(real))
        for block in range(ceil_div(k, KC)):
            if not go_on(watch):
                return
            k0 = block * KC
            kern.few_rows(m, min(<Py_ssize_t>KC, k - k0), columns, a + k0, a_stride, b + k0 * b_stride + j,
                          b_stride, c + j, c_stride)
        task = next_task(tasks, thread, watch)


cdef struct Cut:
    Py_ssize_t slices, depth   # slices of the sum over k, and the steps of one
    Py_ssize_t length          # steps of a block of them
    Py_ssize_t blocks, width   # blocks of columns, and the columns of one: whole panels
    Py_ssize_t parts, height   # parts of the rows, and the rows of one: whole tiles


cdef Cut cut_transposed(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    """How a transposed product is shared.

    A long sum is cut in slices, where a C for each of them is affordable. A short one writes more than it
    reads and is cut by rows, so that long runs of C are written and a thread packs B but once; one between
    is cut by columns, each of which is packed once.

    A step of a tile reads a line of A, whatever the tile takes of it, and one of B: so the blocks of a sum
    are half as long as a product's, and L1 holds both. One thread, AVX2: 512 -> 128 1 x 1 at 28 x 28 .94 of
    the time of blocks of 384, 16 x 2048 -> 512 at 7 x 7 .88, 16 x 256 -> 1024 at 14 x 14 .96.
    """
    cdef const fnn_kernels* kern = kernels(itemsize)
    cdef Py_ssize_t nr = kern.nr, tiles = ceil_div(m, kern.mr), share
    cdef Cut cut
    cut.slices = 1
    if m * n <= LARGEST_SUMS:
        cut.slices = max(1, min(k // (SLICE if m * n < SMALL_SUMS else LONG_SLICE), <Py_ssize_t>TASKS))
    cut.depth = ceil_div(k, cut.slices)
    cut.length = cut.depth
    if cut.depth > LONGEST_KC:
        cut.length = ceil_div(cut.depth, ceil_div(cut.depth, TRANSPOSED_KC))
    share = TASKS // cut.slices
    cut.parts = max(1, tiles // 4) if k <= KC else 1
    cut.width = max((4 if k <= KC else 1) * KC * NC // min(cut.depth, <Py_ssize_t>KC) // nr, 1) * nr
    cut.width = balanced(n, min(cut.width, ceil_div(ceil_div(n, ceil_div(share, cut.parts)), nr) * nr), nr)
    cut.blocks = ceil_div(n, cut.width)
    if k > KC:
        cut.parts = max(1, min(share // cut.blocks, tiles // 4))
    cut.height = ceil_div(tiles, cut.parts) * kern.mr
    return cut


cdef Py_ssize_t thread_elements(const Cut* cut, Py_ssize_t itemsize) noexcept nogil:
    """Elements of a thread's workspace: a packed block of B, and copied columns of A."""
    return lines_apart(cut.length * (cut.width + copied_pitch(itemsize)), itemsize)


cdef Py_ssize_t copied_pitch(Py_ssize_t itemsize) noexcept nogil:
    """From one row of copied columns to the next."""
    return odd_lines(STRIP * kernels(itemsize).mr, itemsize)


cdef bint columns_collide(Py_ssize_t stride, Py_ssize_t depth, Py_ssize_t columns, Py_ssize_t nr,
                          Py_ssize_t itemsize) noexcept nogil:
    """Whether columns of A, rows of which are `stride` apart, are to be copied for the panels of B to read.

    Lines that are a multiple of 64 lines apart fall into one set of L1, which holds 8 or 12 of them (Zen 3,
    gradient of a weight of 1024 x 1024 by 64, 256, 1024 rows: 2.05, 8.45, 37.1 ms, copied 1.50, 6.88, 31.3).
    """
    return stride * itemsize % (64 * CACHE_LINE) == 0 and depth > 16 and columns > 4 * nr


cdef bint is_turned(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize) noexcept nogil:
    """Whether A^T B is computed as B^T A and turned: its many rows fill panels better than its few columns.

    One thread, gradient of 1 x 1 filters, AVX-512: 24 -> 144 at 56 x 56 .73 of the time, 16 -> 96 at 112 x
    112 .62, 8 -> 48 at 28 x 28 .40 (AVX2 .80).
    """
    cdef const fnn_kernels* kern = kernels(itemsize)
    return (n < kern.nr <= m and k >= TURNED_DEPTH
            and 10 * n * thirds_of_panels(kern, m) < 9 * m * thirds_of_panels(kern, n))


cdef Py_ssize_t thirds_of_panels(const fnn_kernels* kern, Py_ssize_t columns) noexcept nogil:
    """What the panels of so many columns cost: one vector, the last panel's, two thirds of a whole panel."""
    cdef Py_ssize_t rest = columns % kern.nr
    return 3 * (columns // kern.nr) + (0 if rest == 0 else 2 if rest <= kern.lanes else 3)


cdef Py_ssize_t gradient_workspace(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t itemsize,
                                   int threads) noexcept nogil:
    """Elements of workspace for multiply_transposed: what threads need, and a C a slice but the first.

    Of a turned product, besides: a C as it is computed and one turned, which is added to the C that is there.
    """
    cdef Cut cut
    if k == 0:
        return 0
    if is_turned(m, n, k, itemsize):
        return 2 * lines_apart(m * n, itemsize) + gradient_workspace(n, m, k, itemsize, threads)
    cut = cut_transposed(m, n, k, itemsize)
    return threads * thread_elements(&cut, itemsize) + (cut.slices - 1) * m * n


cdef void transposed_task(const fnn_kernels* kern, const Cut* cut, Py_ssize_t task, const real* a,
                          Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride, real* c, real* partial,
                          Py_ssize_t rows, Py_ssize_t n, Py_ssize_t k, bint accumulate, real* panels,
                          bint packed, Watch* watch) noexcept nogil:
    """The sum over one slice of k, for one block of columns and one part of the rows.

    `packed` says that `panels` holds what is packed of the block of B.
    """
    cdef const void* a_rows[LONGEST_KC]
    cdef fnn_tile tile
    cdef Py_ssize_t slice = task // (cut.blocks * cut.parts)
    cdef Py_ssize_t n0 = task // cut.parts % cut.blocks * cut.width, m0 = task % cut.parts * cut.height
    cdef Py_ssize_t m1 = min(rows, m0 + cut.height), m, strip
    cdef Py_ssize_t k0 = min(k, slice * cut.depth), k1 = min(k, k0 + cut.depth), block, i
    cdef Py_ssize_t pitch = copied_pitch(sizeof(real))
    cdef real* copy = panels + cut.length * cut.width
    cdef real* sums = c if slice == 0 else partial + (slice - 1) * rows * n
    cdef Py_ssize_t columns = min(n - n0, cut.width), tiles = ceil_div(m1 - m0, kern.mr)
    # A block of B that is packed once serves all parts of the rows: see transposed_share.
    cdef Py_ssize_t readers = rows if cut.depth == cut.length else cut.height
    cdef Py_ssize_t in_place = columns_in_place(kern, readers, columns, sizeof(real))
    cdef const real* from_b
    cdef bint copied
    tile.a, tile.bias = a_rows, NULL
    tile.taps, tile.relu = 1, False
    for block in range(max(ceil_div(k1 - k0, cut.length), <Py_ssize_t>1)):
        if not go_on(watch):
            return
        tile.depth = min(cut.length, k1 - k0)
        tile.accumulate = block > 0 or (accumulate and slice == 0)
        from_b = b + k0 * b_stride + n0
        if not packed:
            pack(from_b + in_place, NULL, 1, tile.depth, b_stride, columns - in_place, 1, panels)
        fetch_rows(kern, &tile, b_stride, in_place, tiles, k * b_stride * sizeof(real))
        strip = m1 - m0
        copied = columns_collide(a_stride, tile.depth, columns, kern.nr, sizeof(real))
        if copied:
            strip = STRIP * kern.mr
        m = m0
        while m < m1:
            for i in range(tile.depth):
                a_rows[i] = a + (k0 + i) * a_stride
            if copied:
                copy_columns(a_rows, tile.depth, m, min(strip, m1 - m), copy, pitch)
            tiles_in_place(kern, &tile, from_b, b_stride, in_place, panels, columns, -m if copied else 0, m,
                           min(m1, m + strip), sums + n0, n)
            m += strip
        k0 += cut.length


cdef void transposed_share(fnn_tasks* tasks, int thread, const fnn_kernels* kern, const Cut* cut,
                           const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride, real* c,
                           real* partial, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint accumulate,
                           real* panels, Watch* watch) noexcept nogil:
    """One thread's share. A block of B that is short enough to lie in `panels` stays for the next rows."""
    cdef Py_ssize_t task = next_task(tasks, thread, watch), last = -1
    while task >= 0:
        transposed_task(kern, cut, task, a, a_stride, b, b_stride, c, partial, m, n, k, accumulate, panels,
                        cut.depth == cut.length and task // cut.parts == last, watch)
        last = task // cut.parts
        task = next_task(tasks, thread, watch)


cdef void multiply_transposed(const real* a, Py_ssize_t a_stride, const real* b, Py_ssize_t b_stride,
                              real* c, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint accumulate,
                              real* workspace, int threads, Watch* watch) noexcept nogil:
    """C[m, n] = or += A^T B = sum_k a[k, m] b[k, n], C contiguous.

    `workspace` holds gradient_workspace(m, n, k, sizeof(real), threads) elements.
    """
    cdef const fnn_kernels* kern = kernels(sizeof(real))
    cdef Cut cut
    cdef fnn_tasks tasks
    cdef int thread
    cdef real* partial
    cdef real* turned
    if m == 0 or n == 0:
        return
    if k == 0:
        if not accumulate:
            memset(c, 0, m * n * sizeof(real))
        return
    if is_turned(m, n, k, sizeof(real)):
        turned = workspace + lines_apart(m * n, sizeof(real))
        multiply_transposed(b, b_stride, a, a_stride, workspace, n, m, k, False,
                            turned + lines_apart(m * n, sizeof(real)), threads, watch)
        if watch is not NULL and watch.interrupted:
            return
        kern.transpose(n, m, workspace, m, turned if accumulate else c, n)
        if accumulate:
            add_slices(c, turned, 1, m * n)
        return
    cut = cut_transposed(m, n, k, sizeof(real))
    partial = workspace + threads * thread_elements(&cut, sizeof(real))
    deal(&tasks, cut.slices * cut.blocks * cut.parts, threads)
    for thread in prange(threads, schedule="static", chunksize=1, num_threads=threads):
        transposed_share(&tasks, thread, kern, &cut, a, a_stride, b, b_stride, c, partial, m, n, k,
                         accumulate, workspace + thread * thread_elements(&cut, sizeof(real)), watch)
    add_slices(c, partial, cut.slices - 1, m * n)


def linear(x, weight, bias, y, int relu):
    """y [m, n] = f(x [m, k] W^T + bias), W [n, k], all contiguous; bias may be None."""
    cdef Environment _caller = default_environment()
    cdef Arrays arrays
    cdef bint short_of_memory
    arrays.count = 0
    try:
        acquire(&arrays, x, False)
        acquire_others(&arrays, weight, y, bias)
        if arrays.item[0].itemsize == sizeof(float):
            short_of_memory = run_linear[float](&arrays, NULL, relu)
        else:
            short_of_memory = run_linear[double](&arrays, NULL, relu)
    finally:
        release(&arrays)
    raise_interrupt()
    if short_of_memory:
        raise MemoryError("linear: no memory for a block of weights")


cdef bint run_linear(Arrays* arrays, const real* of_dtype, int relu) noexcept:
    """Whether memory is short."""
    cdef Py_buffer* x = &arrays.item[0]
    cdef Py_buffer* y = &arrays.item[2]
    cdef const real* bias = <const real*>arrays.item[3].buf if arrays.count == 4 else NULL
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = y.shape[1]
    cdef int threads = team_size(product_ns(m, n, k))
    cdef Py_ssize_t size = max(unpacked_workspace(m, n, k, True, sizeof(real), threads), <Py_ssize_t>1)
    cdef real* workspace = <real*>malloc(size * sizeof(real))
    cdef Watch watch
    if workspace is NULL:
        return True
    with nogil:
        start(&watch)
        multiply_unpacked(<const real*>x.buf, k, <const real*>arrays.item[1].buf, k, True, bias, <real*>y.buf,
                          n, m, n, k, relu, workspace, threads, &watch)
    free(workspace)
    return False


def linear_backward(const real[:, ::1] grad_y, const real[:, ::1] x, const real[:, ::1] weight,
                    real[:, ::1] grad_x, real[:, ::1] grad_weight, real[::1] grad_bias, bint accumulate):
    """grad_x = grad_y W, grad_weight = or += grad_y^T x, grad_bias = the column sums of grad_y.

    grad_x and grad_bias may have no rows: they are then not computed. weight is not empty.
    """
    cdef Environment _caller = default_environment()
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = weight.shape[0]
    cdef int threads = team_size(product_ns(m, n, k))
    cdef Py_ssize_t size = max(unpacked_workspace(m, k, n, False, sizeof(real), threads),
                               gradient_workspace(n, k, m, sizeof(real), threads), <Py_ssize_t>1)
    cdef real* workspace
    cdef Watch watch
    workspace = <real*>malloc(size * sizeof(real))
    if workspace is NULL:
        raise MemoryError(f"linear_backward: no memory for a workspace of {size} elements")
    start(&watch)
    with nogil:
        if m and grad_x.shape[0]:
            multiply_unpacked(&grad_y[0, 0], n, &weight[0, 0], k, False, <const real*>NULL, &grad_x[0, 0], k,
                              m, k, n, False, workspace, threads, &watch)
        multiply_transposed(&grad_y[0, 0] if m else NULL, n, &x[0, 0] if m else NULL, k,
                            &grad_weight[0, 0], n, k, m, accumulate, workspace, threads, &watch)
        if grad_bias.shape[0]:
            column_sums(&grad_y[0, 0] if m else NULL, &grad_bias[0], m, n, &watch)
    free(workspace)
    raise_interrupt()
