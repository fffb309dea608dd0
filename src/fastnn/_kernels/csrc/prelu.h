/* PReLU, forward beside backward: rows of numbers, each with the slope of its place; n in all, the last row may be
 * shorter.
 *
 *     y = x where x >= 0, else slope x        grad_x = g where x > 0, else slope g        sums += g x where x < 0
 *
 * The sums, one a place, grow by those of these rows. */
static void NAME(prelu)(ptrdiff_t n, ptrdiff_t row, const void *x_, const void *slope_, void *y_) {
    const real *x = x_, *slope = slope_;
    real *y = y_;
    for (; n > 0; n -= row, x += row, y += row) {
        const ptrdiff_t here = n < row ? n : row;
        ptrdiff_t j = 0;
        for (; j + 2 * VLEN <= here; j += 2 * VLEN) { /* two are read before one is written: see elementwise.h */
            const vec v = load(x + j), w = load(x + j + VLEN);
            store(y + j, select(v < (vec){0}, load(slope + j) * v, v));
            store(y + j + VLEN, select(w < (vec){0}, load(slope + j + VLEN) * w, w));
        }
        for (; j < here; j += VLEN) {
            const vec v = NAME(load_first)(x + j, here - j);
            NAME(store_first)(y + j, select(v < (vec){0}, NAME(load_first)(slope + j, here - j) * v, v), here - j);
        }
    }
}

static void NAME(prelu_backward)(ptrdiff_t n, ptrdiff_t row, const void *grad_y_, const void *x_,
                                 const void *slope_, void *grad_x_, void *sums_) {
    const real *grad_y = grad_y_, *x = x_, *slope = slope_;
    real *grad_x = grad_x_, *sums = sums_;
    for (; n > 0; n -= row, grad_y += row, x += row, grad_x += row) {
        const ptrdiff_t here = n < row ? n : row;
        for (ptrdiff_t j = 0; j < here; j += VLEN) {
            const vec v = NAME(load_first)(x + j, here - j), g = NAME(load_first)(grad_y + j, here - j);
            const vec sum = NAME(load_first)(sums + j, here - j), zero = {0};
            NAME(store_first)(sums + j, sum + select(v < zero, g * v, zero), here - j);
            NAME(store_first)(grad_x + j, select(v > zero, g, NAME(load_first)(slope + j, here - j) * g), here - j);
        }
    }
}
