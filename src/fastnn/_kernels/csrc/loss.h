/* Losses of single elements, forward beside backward, with their sum.
 *
 *     squared              (y - t)^2                     derivative 2 (y - t): the driver's scale has the 2
 *     half squared         (y - t)^2 / 2                            y - t
 *     binary cross entropy, from logits, s = 1 / (1 + e^-y), with a weight w and a weight p of the positive class
 *                          w (p t (-log s) + (1 - t) (-log(1 - s)))
 *                                                        derivative w ((1 - t) s - p t (1 - s))
 *     Huber                q (d - min(d, edge) / 2), d = |y - t|        q sign(y - t)
 *                          where q = height beyond the edge, and height d / edge up to it: L1 has edge 0
 */

typedef struct {
    real edge, height, steep; /* q / d up to the edge */
} NAME(huber);

INLINE NAME(huber) NAME(huber_of)(double edge, double height) {
    /* At edge 0 there is d = 0 alone, whose q is 0. */
    return (NAME(huber)){(real)edge, (real)height, edge > 0 ? (real)(height / edge) : 0};
}

INLINE vec NAME(huber_slope)(vec far, NAME(huber) h) {
    return select(far > h.edge, splat(h.height), far * h.steep);
}

INLINE vec NAME(loss_of)(int op, NAME(huber) h, vec y, vec t, vec w, vec p) {
    if (op == FNN_HUBER) {
        const vec far = vabs(y - t);
        return NAME(huber_slope)(far, h) * (far - (real)0.5 * lesser(far, splat(h.edge)));
    }
    if (op != FNN_BINARY_CROSS_ENTROPY) {
        const vec apart = y - t;
        return op == FNN_SQUARED ? apart * apart : apart * apart * (real)0.5;
    }
    /* -log s = log(1 + e^-|y|) + max(-y, 0), and so for 1 - s */
    const vec near = vsoftplus_low(y), zero = {0};
    return w * (p * t * (near + larger(zero, -y)) + (1 - t) * (near + larger(zero, y)));
}

INLINE vec NAME(slope_of)(int op, NAME(huber) h, vec y, vec t, vec w, vec p) {
    if (op == FNN_HUBER) {
        const vec slope = NAME(huber_slope)(vabs(y - t), h);
        return by_sign(y - t, -slope, slope);
    }
    if (op != FNN_BINARY_CROSS_ENTROPY) return y - t;
    const vec e = vexp_low(-vabs(y)), sum = 1 + e;
    const vec far = quotient(e, sum, e - (sum - 1)); /* of s, 1 - s the smaller */
    return w * ((1 - t) * by_sign(y, far, 1 - far) - p * t * by_sign(y, 1 - far, far));
}

/* n numbers from i on, or ones where there is no array. */
INLINE vec NAME(weight_at)(const real *weight, ptrdiff_t i, ptrdiff_t n) {
    return weight ? NAME(load_first)(weight + i, n) : splat(1);
}

INLINE double NAME(loss_run)(int op, NAME(huber) h, ptrdiff_t n, const real *y, const real *t, const real *w,
                             const real *p, real *losses) {
    NAME(row_sum) sum = {{0}, 0};
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        const ptrdiff_t left = n - i;
        const vec value = NAME(loss_of)(op, h, NAME(load_first)(y + i, left), NAME(load_first)(t + i, left),
                                        NAME(weight_at)(w, i, left), NAME(weight_at)(p, i, left));
        if (losses) NAME(store_first)(losses + i, value, left);
        NAME(add_to_row)(&sum, i, left >= VLEN ? value : NAME(first_lanes)(value, left, 0));
    }
    return NAME(row_total)(sum);
}

INLINE void NAME(loss_backward_run)(int op, NAME(huber) h, ptrdiff_t n, real scale, const real *y, const real *t,
                                    const real *w, const real *p, real *grad_y) {
    for (ptrdiff_t i = 0; i < n; i += VLEN) {
        const ptrdiff_t left = n - i;
        const vec slope = NAME(slope_of)(op, h, NAME(load_first)(y + i, left), NAME(load_first)(t + i, left),
                                         NAME(weight_at)(w, i, left), NAME(weight_at)(p, i, left));
        NAME(store_first)(grad_y + i, slope * scale, left);
    }
}

/* The sum of n losses; each goes to `losses` if that is not NULL. Weights may be NULL. */
static double NAME(loss)(int op, ptrdiff_t n, double edge, double height, const void *y, const void *t, const void *w,
                         const void *p, void *losses) {
    const NAME(huber) h = NAME(huber_of)(edge, height);
    switch (op) {
    case FNN_SQUARED: return NAME(loss_run)(FNN_SQUARED, h, n, y, t, NULL, NULL, losses);
    case FNN_HALF_SQUARED: return NAME(loss_run)(FNN_HALF_SQUARED, h, n, y, t, NULL, NULL, losses);
    case FNN_HUBER: return NAME(loss_run)(FNN_HUBER, h, n, y, t, NULL, NULL, losses);
    default: return NAME(loss_run)(FNN_BINARY_CROSS_ENTROPY, h, n, y, t, w, p, losses);
    }
}

static void NAME(loss_backward)(int op, ptrdiff_t n, double scale, double edge, double height, const void *y,
                                const void *t, const void *w, const void *p, void *grad_y) {
    const NAME(huber) h = NAME(huber_of)(edge, height);
    if (op == FNN_BINARY_CROSS_ENTROPY)
        NAME(loss_backward_run)(FNN_BINARY_CROSS_ENTROPY, h, n, (real)scale, y, t, w, p, grad_y);
    else if (op == FNN_HUBER)
        NAME(loss_backward_run)(FNN_HUBER, h, n, (real)scale, y, t, NULL, NULL, grad_y);
    else
        NAME(loss_backward_run)(FNN_SQUARED, h, n, (real)scale, y, t, NULL, NULL, grad_y);
}
