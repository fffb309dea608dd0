/* Elementwise bodies: y[i] = f(x[i]) over a contiguous run, forward beside backward. */

static void NAME(relu)(ptrdiff_t n, const void *x_, void *y_) {
    const real *x = x_;
    real *y = y_;
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) store(y + i, relu1(load(x + i)));
    if (i < n) store_part(y + i, relu1(load_part(x + i, n - i)), n - i);
}

/* grad_x = grad_y where y > 0, else 0; NaN in y passes the gradient on, as torch does. */
INLINE vec NAME(relu_backward1)(vec grad_y, vec y) { return select(y <= (vec){0}, (vec){0}, grad_y); }

static void NAME(relu_backward)(ptrdiff_t n, const void *grad_y_, const void *y_, void *grad_x_) {
    const real *grad_y = grad_y_, *y = y_;
    real *grad_x = grad_x_;
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        store(grad_x + i, NAME(relu_backward1)(load(grad_y + i), load(y + i)));
    if (i < n)
        store_part(grad_x + i,
                   NAME(relu_backward1)(load_part(grad_y + i, n - i), load_part(y + i, n - i)), n - i);
}
