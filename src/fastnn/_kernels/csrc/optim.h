/* Steps of the optimizers: one pass over parameters, gradients and states, n numbers of each.
 *
 * `o` holds the options; their derived figures, such as a learning rate over 1 - beta^t, are the driver's. The work is
 * that of memory. Left to the compiler as plain loops they were as fast, and their code of three times the length.
 */

/* The gradient as the rule sees it: negated to go up, with the decay of the weights. */
INLINE vec NAME(slope)(vec g, vec w, const fnn_step *o) {
    const vec up = (vec)((mask)g ^ (mask)splat(o->maximize ? (real)-0.0 : 0)); /* the sign alone */
    return o->decay != 0 ? up + (real)o->decay * w : up;
}

/* v = keep v + take g, w -= lr v, or with nesterov w -= lr (g + momentum v); without v, w -= lr g */
INLINE void NAME(sgd_step)(ptrdiff_t n, real *w, const real *grad, real *v, const fnn_step *o) {
    const vec at = NAME(load_first)(w, n), g = NAME(slope)(NAME(load_first)(grad, n), at, o);
    vec s = g;
    if (v) {
        const vec speed = (real)o->keep * NAME(load_first)(v, n) + (real)o->take * g;
        NAME(store_first)(v, speed, n);
        s = o->nesterov ? g + (real)o->momentum * speed : speed;
    }
    NAME(store_first)(w, at - (real)o->lr * s, n);
}

/* m = keep m + take g, v = square_keep v + square_take g^2, w = shrink w - lr m / (scale sqrt(v) + eps);
 * `largest`, where it is not NULL, is the largest v so far and takes its place. */
INLINE void NAME(adam_step)(ptrdiff_t n, real *w, const real *grad, real *m, real *v, real *largest,
                            const fnn_step *o) {
    const vec at = NAME(load_first)(w, n), g = NAME(slope)(NAME(load_first)(grad, n), at, o);
    const vec first = (real)o->keep * NAME(load_first)(m, n) + (real)o->take * g;
    vec second = (real)o->square_keep * NAME(load_first)(v, n) + (real)o->square_take * (g * g);
    NAME(store_first)(m, first, n);
    NAME(store_first)(v, second, n);
    if (largest) {
        const vec before = NAME(load_first)(largest, n);
        second = select(before >= second, before, second); /* NaN stays */
        NAME(store_first)(largest, second, n);
    }
    const vec size = (real)o->scale * root(second) + (real)o->eps;
    NAME(store_first)(w, (real)o->shrink * at - (real)o->lr * (first / size), n);
}

/* v = square_keep v + square_take g^2, s = g / (sqrt(v) + eps), b = momentum b + s, w -= lr b; without b, w -= lr s.
 * With a mean v is the variance, by a recurrence of its own: the difference of the mean square and the square of the
 * mean may be negative where both are close. */
INLINE void NAME(rmsprop_step)(ptrdiff_t n, real *w, const real *grad, real *v, real *b, real *mean,
                               const fnn_step *o) {
    const vec at = NAME(load_first)(w, n), g = NAME(slope)(NAME(load_first)(grad, n), at, o);
    const vec before = NAME(load_first)(v, n);
    vec square;
    if (mean) {
        const vec old = NAME(load_first)(mean, n), apart = g - old;
        NAME(store_first)(mean, old + (real)o->square_take * apart, n);
        square = (real)o->square_keep * (before + (real)o->square_take * (apart * apart));
    } else {
        square = (real)o->square_keep * before + (real)o->square_take * (g * g);
    }
    NAME(store_first)(v, square, n);
    vec s = g / (root(square) + (real)o->eps);
    if (b) {
        s = (real)o->momentum * NAME(load_first)(b, n) + s;
        NAME(store_first)(b, s, n);
    }
    NAME(store_first)(w, at - (real)o->lr * s, n);
}

/* Numbers i .. i + n - 1; a, b and c are the arrays of the rule's state, NULL for none. */
INLINE void NAME(step_of)(int rule, ptrdiff_t i, ptrdiff_t n, real *w, const real *g, real *a, real *b, real *c,
                          const fnn_step *o) {
    w += i, g += i;
    if (a) a += i;
    if (b) b += i;
    if (c) c += i;
    if (rule == FNN_SGD)
        NAME(sgd_step)(n, w, g, a, o);
    else if (rule == FNN_ADAM)
        NAME(adam_step)(n, w, g, a, b, c, o);
    else
        NAME(rmsprop_step)(n, w, g, a, b, c, o);
}

/* Whole vectors, then the rest. Which arrays there are is known where it is inlined, all but RMSprop's mean, so
 * that loops do not ask: SGD's, where it lay badly, took 1.7 times as long. */
INLINE void NAME(optimizer_run)(int rule, ptrdiff_t n, real *w, const real *g, real *a, real *b, real *c,
                                const fnn_step *step) {
    const fnn_step o = *step; /* a copy, which no store to the arrays can change */
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) NAME(step_of)(rule, i, VLEN, w, g, a, b, c, &o);
    if (i < n) NAME(step_of)(rule, i, n - i, w, g, a, b, c, &o);
}

static void NAME(sgd)(ptrdiff_t n, void *w, const void *g, void *v, void *b, void *c, const fnn_step *step) {
    if (v)
        NAME(optimizer_run)(FNN_SGD, n, w, g, v, b, c, step);
    else
        NAME(optimizer_run)(FNN_SGD, n, w, g, NULL, b, c, step);
}
static void NAME(adam)(ptrdiff_t n, void *w, const void *g, void *m, void *v, void *largest, const fnn_step *step) {
    if (largest)
        NAME(optimizer_run)(FNN_ADAM, n, w, g, m, v, largest, step);
    else
        NAME(optimizer_run)(FNN_ADAM, n, w, g, m, v, NULL, step);
}
static void NAME(rmsprop)(ptrdiff_t n, void *w, const void *g, void *v, void *b, void *mean, const fnn_step *step) {
    if (b && mean)
        NAME(optimizer_run)(FNN_RMSPROP, n, w, g, v, b, mean, step);
    else if (b)
        NAME(optimizer_run)(FNN_RMSPROP, n, w, g, v, b, NULL, step);
    else
        NAME(optimizer_run)(FNN_RMSPROP, n, w, g, v, NULL, mean, step);
}
