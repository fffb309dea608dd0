/* A row of an image with zeros beside it. */

INLINE void NAME(zeros)(real *y, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i += VLEN) NAME(store_first)(y + i, (vec){0}, n - i);
}

/* y = `left` zeros, n numbers of x, `right` zeros. Calls of memset and memcpy for runs as short as these are
 * would cost more than the copy. */
static void NAME(pad_row)(ptrdiff_t left, const void *x_, ptrdiff_t n, ptrdiff_t right, void *y_) {
    const real *x = x_;
    real *y = (real *)y_ + left;
    NAME(zeros)(y_, left);
    for (ptrdiff_t i = 0; i < n; i += VLEN) NAME(store_first)(y + i, NAME(load_first)(x + i, n - i), n - i);
    NAME(zeros)(y + n, right);
}
