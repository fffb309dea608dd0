/* Steps of the optimizers: one pass over parameters, gradients and states, n numbers of each.
 *
 * Plain loops, which compilers make vectors of; the work is that of memory. `o` holds the options; their
 * derived figures, such as a learning rate over 1 - beta^t, are the driver's.
 */

INLINE real NAME(root)(real x) { return FLOAT ? (real)__builtin_sqrtf((float)x) : (real)__builtin_sqrt(x); }

/* The gradient as the rule sees it: negated to go up, with the decay of the weights. */
INLINE real NAME(slope)(real g, real w, const fnn_step *o) {
    const real signed_g = o->maximize ? -g : g;
    return o->decay != 0 ? signed_g + (real)o->decay * w : signed_g;
}

/* v = keep v + take g, w -= lr v, or with nesterov w -= lr (g + momentum v); without v, w -= lr g */
static void NAME(sgd)(ptrdiff_t n, void *w_, const void *g_, void *v_, void *unused, void *unused_too,
                      const fnn_step *step) {
    const fnn_step o = *step;
    real *restrict w = w_, *restrict v = v_;
    const real *restrict grad = g_;
    const real lr = (real)o.lr, keep = (real)o.keep, take = (real)o.take, momentum = (real)o.momentum;
    (void)unused, (void)unused_too;
    if (!v) {
        for (ptrdiff_t i = 0; i < n; i++) w[i] -= lr * NAME(slope)(grad[i], w[i], &o);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const real g = NAME(slope)(grad[i], w[i], &o);
        v[i] = keep * v[i] + take * g;
        w[i] -= lr * (o.nesterov ? g + momentum * v[i] : v[i]);
    }
}

/* m = keep m + take g, v = square_keep v + square_take g^2, w = shrink w - lr m / (scale sqrt(v) + eps);
 * `largest`, where it is not NULL, is the largest v so far and takes its place. */
INLINE void NAME(adam_run)(int amsgrad, ptrdiff_t n, real *restrict w, const real *restrict grad,
                           real *restrict m, real *restrict v, real *restrict largest, const fnn_step *step) {
    const fnn_step o = *step;
    const real lr = (real)o.lr, keep = (real)o.keep, take = (real)o.take, shrink = (real)o.shrink;
    const real square_keep = (real)o.square_keep, square_take = (real)o.square_take;
    const real scale = (real)o.scale, eps = (real)o.eps;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real g = NAME(slope)(grad[i], w[i], &o);
        real second = square_keep * v[i] + square_take * (g * g);
        m[i] = keep * m[i] + take * g;
        v[i] = second;
        if (amsgrad) largest[i] = second = largest[i] >= second ? largest[i] : second; /* NaN stays */
        w[i] = shrink * w[i] - lr * (m[i] / (scale * NAME(root)(second) + eps));
    }
}

static void NAME(adam)(ptrdiff_t n, void *w, const void *g, void *m, void *v, void *largest,
                       const fnn_step *step) {
    if (largest)
        NAME(adam_run)(1, n, w, g, m, v, largest, step);
    else
        NAME(adam_run)(0, n, w, g, m, v, NULL, step);
}

/* v = square_keep v + square_take g^2, s = g / (sqrt(v) + eps), b = momentum b + s, w -= lr b.
 * With `centered` v is the variance, by a recurrence of its own: the difference of the mean square and the
 * square of the mean may be negative where both are close. */
INLINE void NAME(rmsprop_run)(int centered, int heavy, ptrdiff_t n, real *restrict w,
                              const real *restrict grad, real *restrict v, real *restrict b,
                              real *restrict mean, const fnn_step *step) {
    const fnn_step o = *step;
    const real lr = (real)o.lr, momentum = (real)o.momentum, eps = (real)o.eps;
    const real square_keep = (real)o.square_keep, square_take = (real)o.square_take;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real g = NAME(slope)(grad[i], w[i], &o);
        if (centered) {
            const real apart = g - mean[i];
            mean[i] += square_take * apart;
            v[i] = square_keep * (v[i] + square_take * (apart * apart));
        } else {
            v[i] = square_keep * v[i] + square_take * (g * g);
        }
        real s = g / (NAME(root)(v[i]) + eps);
        if (heavy) b[i] = s = momentum * b[i] + s;
        w[i] -= lr * s;
    }
}

static void NAME(rmsprop)(ptrdiff_t n, void *w, const void *g, void *v, void *b, void *mean,
                          const fnn_step *step) {
    switch (2 * step->centered + (step->momentum != 0)) { /* constants, so that each loop has no branch */
    case 0: NAME(rmsprop_run)(0, 0, n, w, g, v, b, mean, step); break;
    case 1: NAME(rmsprop_run)(0, 1, n, w, g, v, b, mean, step); break;
    case 2: NAME(rmsprop_run)(1, 0, n, w, g, v, b, mean, step); break;
    default: NAME(rmsprop_run)(1, 1, n, w, g, v, b, mean, step);
    }
}
