/* y = a + b or, with `relu`, what of it is above 0; `past`: as in elementwise.h. */
static void NAME(add)(ptrdiff_t n, const void *a_, const void *b_, int relu, void *y_, int past) {
    const real *a = a_, *b = b_;
    real *y = y_;
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec sum = load_across(a + i) + load_across(b + i);
        NAME(put)(past, y + i, relu ? relu1(sum) : sum);
    }
    if (i < n) {
        const vec sum = load_part(a + i, n - i) + load_part(b + i, n - i);
        store_part(y + i, relu ? relu1(sum) : sum, n - i);
    }
}

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
