/* PReLU, forward beside backward: rows of channels, n numbers in all, of which the last row may lack some.
 *
 *     y = x where x >= 0, else slope x        grad_x = g where x > 0, else slope g        sums += g x where x < 0
 *
 * The sums, one a channel, are those of these rows. */
static void NAME(prelu)(ptrdiff_t n, ptrdiff_t channels, const void *x_, const void *slope_, void *y_) {
    const real *x = x_, *slope = slope_;
    real *y = y_;
    for (; n > 0; n -= channels, x += channels, y += channels) {
        const ptrdiff_t row = n < channels ? n : channels;
        ptrdiff_t j = 0;
        for (; j + 2 * VLEN <= row; j += 2 * VLEN) { /* two are read before one is written: see elementwise.h */
            const vec v = load(x + j), w = load(x + j + VLEN);
            store(y + j, select(v < (vec){0}, load(slope + j) * v, v));
            store(y + j + VLEN, select(w < (vec){0}, load(slope + j + VLEN) * w, w));
        }
        for (; j < row; j += VLEN) {
            const vec v = NAME(load_first)(x + j, row - j);
            NAME(store_first)(y + j, select(v < (vec){0}, NAME(load_first)(slope + j, row - j) * v, v), row - j);
        }
    }
}

static void NAME(prelu_backward)(ptrdiff_t n, ptrdiff_t channels, const void *grad_y_, const void *x_,
                                 const void *slope_, void *grad_x_, void *sums_) {
    const real *grad_y = grad_y_, *x = x_, *slope = slope_;
    real *grad_x = grad_x_, *sums = sums_;
    for (; n > 0; n -= channels, grad_y += channels, x += channels, grad_x += channels) {
        const ptrdiff_t row = n < channels ? n : channels;
        for (ptrdiff_t j = 0; j < row; j += VLEN) {
            const vec v = NAME(load_first)(x + j, row - j), g = NAME(load_first)(grad_y + j, row - j);
            const vec sum = NAME(load_first)(sums + j, row - j), zero = {0};
            NAME(store_first)(sums + j, sum + select(v < zero, g * v, zero), row - j);
            NAME(store_first)(grad_x + j, select(v > zero, g, NAME(load_first)(slope + j, row - j) * g), row - j);
        }
    }
}
