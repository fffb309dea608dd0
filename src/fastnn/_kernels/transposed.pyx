"""A^T B, both with the long axis k down the memory: gradients of weights and filters, sums over all pixels.

The first part is for all drivers of gemm_columns (csrc/gemm_tile.h), whose rows are columns of A.

`multiply_transposed` is the product of a weight's gradient. Packed beforehand, B would be another array of
the size of the input (16384 x 512 x 512: 118 -> 94 ms, on two threads 74 -> 48). A long k is cut in slices
whose partial sums are added in order at the end.
"""

from cython.parallel cimport prange
from libc.string cimport memcpy, memset

from fastnn._kernels.gemm cimport KC, LONGEST_KC, MAX_MR, NC, TASKS, add_slices
from fastnn._kernels.pack cimport pack
from fastnn._kernels.runtime cimport (
    CACHE_LINE, LARGE_BYTES, Watch, balanced, ceil_div, deal, fnn_kernels, fnn_tasks, fnn_tile, go_on,
    kernels, lines_apart, next_task, odd_lines, real, share_a_set, team_for
)

cdef enum:
    IN_PLACE_TILES = 16          # of rows, up to which B is not packed ...
    FEW_TILES = 4                # ... where its panels are one line wide
    AHEAD = 64                   # rows by which an A in memory is fetched
    SMALL_SUMS = 64 * 1024       # elements of a C that slices of SLICE steps may have each for themselves
    SLICE = 512
    LARGEST_SUMS = 1024 * 1024   # and of one that slices of LONG_SLICE steps may
    LONG_SLICE = 2048
    STRIP = 8                    # tiles whose columns of A are copied at once
    TURNED_DEPTH = 128           # from which a product is worth being turned
    TRANSPOSED_KC = 224          # steps of a block of a long sum


cdef Py_ssize_t columns_in_place(const fnn_kernels* kern, Py_ssize_t rows, Py_ssize_t columns,
                                 Py_ssize_t b_stride, Py_ssize_t itemsize) noexcept nogil:
    """How many columns of B are multiplied where they lie, by so many rows of A^T; the others are packed.

    To pack B for a few tiles of rows takes longer than it helps them where a panel's row is two lines
    (AVX-512, gradient of 1 x 1 filters for 16 images: 144 -> 32 at 28 x 28 .82 of the time, 384 -> 64 at
    14 x 14 .90, 32 -> 16 at 112 x 112 .57). Where it is one, which may lie across two, only for very few
    (AVX2, Zen 5 32 -> 16 at 112 x 112 .77, 96 -> 24 at 56 x 56 .85; Zen 3 144 -> 32 1.08, 1024 -> 64 at
    14 x 14 1.5), if the rows of B do not fall into one set of L1 (Linear, 1024 -> 10 1.2, 512 -> 10 .79).
    Tiles read whole vectors: columns beyond the last whole panel are one, or packed.
    """
    cdef Py_ssize_t rest = columns % kern.nr
    cdef Py_ssize_t lines = kern.nr * itemsize // CACHE_LINE
    cdef Py_ssize_t most = IN_PLACE_TILES if lines > 1 else FEW_TILES if lines else 0
    if rows > most * kern.mr or lines == 1 and share_a_set(b_stride * itemsize):
        return 0
    return columns if rest == kern.lanes else columns - rest


cdef void fetch_rows(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t b_stride, Py_ssize_t in_place,
                     Py_ssize_t tiles, Py_ssize_t b_bytes) noexcept nogil:
    """Have so many tiles of rows of A^T fetch the rows of B, of `b_bytes`, that come after those of this sum.

    The first tile of rows would wait for the lines of a large B: gradient of 1 x 1 filters 256 -> 64 at 56 x
    56 .73 of the time, of 3 x 3 filters 3 -> 64 at 224 x 224 .56, 3 -> 32 with stride 2 .76.
    """
    tile.next_b, tile.next_step = tile.depth * b_stride, 0
    if in_place >= kern.nr and b_stride - in_place < kern.nr and b_bytes >= LARGE_BYTES:
        tile.next_step = ceil_div(b_stride, ceil_div(in_place, kern.nr) * tiles)


cdef void tiles_in_place(const fnn_kernels* kern, fnn_tile* tile, const real* b, Py_ssize_t b_stride,
                         Py_ssize_t in_place, const real* panels, Py_ssize_t columns, Py_ssize_t offset,
                         Py_ssize_t m0, Py_ssize_t m1, real* c, Py_ssize_t c_stride) noexcept nogil:
    """As column_tiles, by `in_place` columns of the rows b, `b_stride` apart, and by the others in `panels`.

    `tile` may say what is to be fetched while the former are multiplied.
    """
    cdef Py_ssize_t next_step = tile.next_step, next_a = tile.next_a
    if in_place:
        tile.b, tile.b_step, tile.b_panel, tile.columns = b, b_stride, kern.nr, in_place
        column_tiles(kern, tile, offset, m0, m1, c, c_stride)
    if in_place < columns:
        tile.next_step = 0
        if in_place:
            tile.next_a = 0
        tile.b, tile.b_step, tile.b_panel = panels, kern.nr, tile.depth * kern.nr
        tile.columns = columns - in_place
        column_tiles(kern, tile, offset, m0, m1, c + in_place, c_stride)
        tile.next_step, tile.next_a = next_step, next_a


cdef void column_tiles(const fnn_kernels* kern, fnn_tile* tile, Py_ssize_t offset, Py_ssize_t m0,
                       Py_ssize_t m1, real* c, Py_ssize_t c_stride) noexcept nogil:
    """Rows m0..m1 of C, `c_stride` apart, by gemm_columns; `offset` is the place of row 0 in each row of A.

    `tile` has A, B and what is to be fetched, which the tiles share. A line of A, counted from where its rows
    begin, is fetched by the tile it begins in.
    """
    cdef void* c_rows[MAX_MR]
    cdef Py_ssize_t steps = ceil_div(m1 - m0, kern.mr), step, m, i
    cdef Py_ssize_t height = ceil_div(m1 - m0, max(steps, <Py_ssize_t>1)), next_a = tile.next_a
    cdef Py_ssize_t line = CACHE_LINE // sizeof(real), skipped
    tile.c, tile.c_offset = c_rows, 0
    tile.taps, tile.bias, tile.relu = 1, NULL, False
    for step in range(steps):
        m = m0 + step * height
        tile.a_offset = offset + m
        tile.rows = min(height, m1 - m)
        for i in range(tile.rows):
            c_rows[i] = c + (m + i) * c_stride
        skipped = (line - tile.a_offset % line) % line
        tile.next_a = next_a + skipped if next_a and skipped < tile.rows else 0
        kern.gemm_columns(tile)
        tile.next_b += ceil_div(tile.columns, kern.nr) * tile.depth * tile.next_step
    tile.next_a = next_a


cdef void copy_columns(const void** rows, Py_ssize_t count, Py_ssize_t first, Py_ssize_t columns, real* copy,
                       Py_ssize_t pitch) noexcept nogil:
    """Copy some columns of A, the first of which is `first`, to rows `pitch` apart; `rows` are those then."""
    cdef Py_ssize_t i
    for i in range(count):
        memcpy(copy + i * pitch, <const real*>rows[i] + first, columns * sizeof(real))
        rows[i] = copy + i * pitch


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
    cut.parts = ceil_div(m, cut.height)  # a whole number of tiles in each may leave none for the last ones
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

    Those that share a set drive each other out (Zen 3, gradient of a weight of 1024 x 1024 by 64, 256, 1024
    rows: 2.05, 8.45, 37.1 ms, copied 1.50, 6.88, 31.3).
    """
    return share_a_set(stride * itemsize) and depth > 16 and columns > 4 * nr


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
    cdef Py_ssize_t in_place = columns_in_place(kern, readers, columns, b_stride, sizeof(real))
    cdef const real* from_b
    cdef bint copied
    tile.a = a_rows
    for block in range(max(ceil_div(k1 - k0, cut.length), <Py_ssize_t>1)):
        if not go_on(watch):
            return
        tile.depth = min(cut.length, k1 - k0)
        tile.accumulate = block > 0 or (accumulate and slice == 0)
        from_b = b + k0 * b_stride + n0
        if not packed:
            pack(from_b + in_place, NULL, 1, tile.depth, b_stride, columns - in_place, 1, panels)
        fetch_rows(kern, &tile, b_stride, in_place, tiles, k * b_stride * sizeof(real))
        strip, tile.next_a = m1 - m0, 0
        copied = columns_collide(a_stride, tile.depth, columns, kern.nr, sizeof(real))
        if copied:
            strip = STRIP * kern.mr
        elif k * a_stride * <Py_ssize_t>sizeof(real) >= LARGE_BYTES:
            # Zen 5, 16 images, with the rows of B: 1 x 1 filters 32 -> 16 at 112 x 112 .72 of the time (AVX2
            # .88), 16 -> 96 .88 (.92). To fetch the pixels under 3 x 3 filters gains nothing.
            tile.next_a = AHEAD * a_stride
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
    cdef int team, thread
    cdef Py_ssize_t room
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
    team = team_for(cut.slices * cut.blocks * cut.parts, threads)
    room = thread_elements(&cut, sizeof(real))
    partial = workspace + team * room
    deal(&tasks, cut.slices * cut.blocks * cut.parts, team)
    if team == 1:
        transposed_share(&tasks, 0, kern, &cut, a, a_stride, b, b_stride, c, partial, m, n, k, accumulate,
                         workspace, watch)
    else:
        for thread in prange(team, schedule="static", chunksize=1, num_threads=team):
            transposed_share(&tasks, thread, kern, &cut, a, a_stride, b, b_stride, c, partial, m, n, k,
                             accumulate, workspace + thread * room, watch)
    if watch is NULL or not watch.interrupted:
        add_slices(c, partial, cut.slices - 1, m * n)
