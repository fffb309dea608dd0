/* Matrix products on the register tile, and the sums that Winograd's transforms are about. */

/* Several tiles, the last one not full, of C = f(A B): A as rows whose two taps have a table each, as rows with
   the places of the taps, and by columns, B packed or in place: panels of any width fill IN_PLACE_COLUMNS. */
enum { TABLES, OFFSETS, COLUMNS, IN_PLACE, PRODUCT_ROWS = 15, LARGEST_TILE = 16, IN_PLACE_COLUMNS = 96 };

/* B [depth][columns] in panels of k->nr columns. */
static void *panels_of(const fnn_kernels *k, const void *b, ptrdiff_t depth, ptrdiff_t columns) {
    void *packed = calloc((size_t)((columns + k->nr) * depth), (size_t)itemsize);
    for (ptrdiff_t j = 0; j < columns; j++)
        for (ptrdiff_t d = 0; d < depth; d++)
            set(packed, (j / k->nr * depth + d) * k->nr + j % k->nr, get(b, d * columns + j));
    return packed;
}

static void *gemm(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n, int kind) {
    const int by_columns = kind == COLUMNS || kind == IN_PLACE, taps = by_columns ? 1 : 2;
    const ptrdiff_t all = taps * size, columns = kind == IN_PLACE ? IN_PLACE_COLUMNS : 2 * size + 1;
    const ptrdiff_t places[2] = {0, size};
    void *a = draw(PRODUCT_ROWS * all, 1), *b = draw(all * columns, 2), *bias = draw(columns, 3);
    void *c = draw(PRODUCT_ROWS * columns, 4), *packed = panels_of(k, b, all, columns);
    const void **table = calloc((size_t)(size + 2 * LARGEST_TILE), sizeof *table);
    void *c_rows[LARGEST_TILE];
    for (int i = 0; i < k->mr; i++) {
        c_rows[i] = at(c, i * columns);
        for (int tap = 0; tap < taps; tap++) table[tap * k->mr + i] = at(a, i * all + tap * size);
    }
    for (ptrdiff_t d = 0; by_columns && d < size; d++) table[d] = at(a, d * PRODUCT_ROWS);
    for (ptrdiff_t row = 0; row < PRODUCT_ROWS; row += k->mr) {
        const ptrdiff_t left = PRODUCT_ROWS - row;
        fnn_tile tile = {.a = table, .a_offset = by_columns ? row : row * all,
                         .tap_offset = kind == OFFSETS ? places : NULL, .taps = taps, .depth = size,
                         .b = kind == IN_PLACE ? b : packed,
                         .b_step = kind == IN_PLACE ? columns : k->nr,
                         .b_panel = kind == IN_PLACE ? k->nr : all * k->nr, .c = c_rows, .c_offset = row * columns,
                         .columns = columns, .bias = by_columns ? NULL : bias,
                         .rows = (int)(left < k->mr ? left : k->mr),
                         .next_b = kind, .next_step = kind, .next_a = kind + 1, .accumulate = kind != TABLES,
                         .relu = by_columns ? 0 : 1 + kind};
        (by_columns ? k->gemm_columns : k->gemm_rows)(&tile);
    }
    *n = PRODUCT_ROWS * columns;
    free(a), free(b), free(bias), free(packed), free(table);
    return c;
}
static void *gemm_tables(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, TABLES); }
static void *gemm_offsets(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, OFFSETS); }
static void *gemm_columns(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, COLUMNS); }
static void *gemm_in_place(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) { return gemm(k, size, n, IN_PLACE); }

/* B as it lies: a product of few rows; and packed, its numbers in their order. */
static void *few_rows(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t columns = 2 * size + 1, panel = (size + 1) * k->nr, panels = (columns + k->nr - 1) / k->nr;
    void *a = draw(ROWS * size, 1), *b = draw(size * columns, 2), *y = draw((ROWS + size) * columns, 3);
    void *packed = draw(panels * panel, 4);
    k->few_rows(ROWS, size, columns, a, size, b, columns, y, columns);
    k->pack_rows(size, columns, b, columns, panel, packed);
    for (ptrdiff_t d = 0; d < size; d++)
        for (ptrdiff_t j = 0; j < columns; j++)
            set(y, (ROWS + d) * columns + j, get(packed, j / k->nr * panel + d * k->nr + j % k->nr));
    for (ptrdiff_t d = 0; d < size; d++) /* zeros behind the last column */
        for (ptrdiff_t j = columns; j < panels * k->nr; j++)
            set(y, d, get(y, d) + get(packed, j / k->nr * panel + d * k->nr + j % k->nr));
    *n = (ROWS + size) * columns;
    free(a), free(b), free(packed);
    return y;
}

/* Winograd's inputs and outputs, tiles of each size. Of some the outputs are added to what is there, without the last
   pixel, and clipped. */
static const int tile_sizes[] = {9, 6, 5, 4};

static void *winograd(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t stride = size + 3, done = 0;
    void *x = draw(81 * size, 1), *v = calloc(81 * (size_t)stride, (size_t)itemsize);
    void *bias = draw(size, 2), *y = draw(40 * size, 3), *products[81], *outputs[16];
    const void *pixels[81];
    for (int i = 0; i < 81; i++) pixels[i] = at(x, i * size), products[i] = at(v, i * stride);
    for (int t = 0; t < 4; t++) {
        int add = t > 1, count = fnn_tile_outputs(tile_sizes[t]) * fnn_tile_outputs(tile_sizes[t]);
        for (int i = 0; i < count; i++, done += size) outputs[i] = add && i == count - 1 ? NULL : at(y, done);
        k->winograd_input(tile_sizes[t], pixels, size, products);
        k->winograd_output(tile_sizes[t], (const void *const *)products, size, add ? NULL : bias, add, 1 + add,
                           outputs);
    }
    *n = done;
    free(x), free(v), free(bias);
    return y;
}

/* Strips of outputs of three channels: less than a tile, tiles and runs of them, whole ones stored as they are. What is
   added to, and rows and pixels beside the outputs, are there already. */
static void *winograd_strip(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    enum { CHANNELS = FNN_STRIP_CHANNELS, MOST = 50, ROW = 64 * CHANNELS + FNN_STRIP_BEYOND, GAP = 3 };
    static const ptrdiff_t outputs[] = {1, 4, 7, 20, 16, 36, MOST};
    enum { N = sizeof outputs / sizeof *outputs };
    const ptrdiff_t panels = (size + k->nr - 1) / k->nr, matrix = panels * k->nr * CHANNELS, pitch = size + GAP;
    void *x = draw(6 * ROW, 1), *plain = draw(36 * size * CHANNELS, 2), *bias = draw(size, 3);
    void *u = calloc((size_t)(36 * matrix), (size_t)itemsize), *y = draw(N * 4 * MOST * pitch, 4);
    for (ptrdiff_t i = 0; i < 36 * CHANNELS; i++)
        for (ptrdiff_t j = 0; j < size; j++)
            set(u, i / CHANNELS * matrix + (j / k->nr * CHANNELS + i % CHANNELS) * k->nr + j % k->nr,
                get(plain, i * size + j));
    for (int i = 0; i < N; i++) {
        fnn_strip strip = {.x = x, .x_row = ROW, .u = u, .factor = matrix, .bias = size % 2 ? bias : NULL,
                           .y = at(y, i * 4 * MOST * pitch), .y_row = MOST * pitch, .y_pixel = pitch,
                           .rows = 4 - i % 2, .q = outputs[i], .filters = size, .accumulate = i > 4,
                           .relu = (int)(size % 3)};
        k->winograd_strip(&strip);
    }
    *n = N * 4 * MOST * pitch;
    free(x), free(plain), free(bias), free(u);
    return y;
}

/* Filters there, whose number is one of whole vectors. */
static void *winograd_filter(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t filters = (size + 15) / 16 * 16, tap = filters + 5, done = 0;
    void *g = draw(9 * tap, 1), *u = draw(104 * filters, 2);
    for (int t = 0; t < 4; t++) {
        int factors = fnn_tile_factors(tile_sizes[t]);
        k->winograd_filter(tile_sizes[t], g, tap, filters, at(u, done), filters);
        done += factors * factors * filters;
    }
    *n = done;
    free(g);
    return u;
}

/* And the way back: the output's gradient to panels, their sums to the gradient of the filters. */
static void *winograd_gradients(const fnn_kernels *k, ptrdiff_t size, ptrdiff_t *n) {
    ptrdiff_t panels = (size + k->nr - 1) / k->nr, stride = panels * k->nr, done = 0;
    void *grad = draw(16 * size, 1), *z = calloc(81 * (size_t)stride, (size_t)itemsize), *y = draw(169 * size, 2);
    const void *pixels[16];
    for (int i = 0; i < 16; i++) pixels[i] = i == 3 ? NULL : at(grad, i * size);
    for (int t = 0; t < 3; t++) { /* tiles of 4 are for the forward pass */
        const int tile = tile_sizes[t];
        k->winograd_gradient(tile, pixels, size, z, k->nr, stride);
        for (ptrdiff_t i = 0; i < tile * tile; i++, done += size)
            memcpy(at(y, done), at(z, i * stride), (size_t)(size * itemsize)); /* panels side by side */
        k->winograd_filter_gradient(tile, at(y, done - tile * tile * size), size, size, at(y, done));
        done += 9 * size;
    }
    *n = done;
    free(grad), free(z);
    return y;
}
