/* y_i += x_i: rows of n numbers. With a y_stride of 0 all are added to one, the sums of the columns of x. */
static void NAME(add_rows)(ptrdiff_t rows, ptrdiff_t n, const void *x_, ptrdiff_t x_stride, void *y_,
                           ptrdiff_t y_stride) {
    const real *x = x_;
    real *y = y_;
    for (; rows > 0; rows--, x += x_stride, y += y_stride) {
        ptrdiff_t j = 0;
        for (; j + VLEN <= n; j += VLEN) store(y + j, load(y + j) + load(x + j));
        if (j < n) store_part(y + j, load_part(y + j, n - j) + load_part(x + j, n - j), n - j);
    }
}
