/* Softmax and its logarithm over one contiguous row, forward beside backward.
 *
 *     y_j = e^(x_j - m) / sum_i e^(x_i - m)        m = max_i x_i, so that nothing overflows
 */

/* The sum of a vector's elements, always in the same order. */
INLINE real NAME(sum_lanes)(vec v) {
    real sum = 0;
    for (int i = 0; i < VLEN; i++) sum += v[i];
    return sum;
}

INLINE real NAME(row_max)(ptrdiff_t n, const real *x) {
    real largest = x[0];
    ptrdiff_t i = 0;
    if (n >= VLEN) {
        vec m = load(x);
        for (i = VLEN; i + VLEN <= n; i += VLEN) {
            const vec v = load(x + i);
            m = select((v > m) | (v != v), v, m); /* a NaN stays */
        }
        for (int j = 0; j < VLEN; j++)
            if (m[j] > largest || m[j] != m[j]) largest = m[j];
    }
    for (; i < n; i++)
        if (x[i] > largest || x[i] != x[i]) largest = x[i];
    return largest;
}

static void NAME(softmax)(ptrdiff_t n, const void *x_, void *y_, int log) {
    const real *x = x_;
    real *y = y_;
    const real largest = NAME(row_max)(n, x);
    vec sums = {0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec e = vexp(load(x + i) - largest);
        sums += e;
        if (!log) store(y + i, e);
    }
    real sum = NAME(sum_lanes)(sums);
    if (i < n) {
        const vec e = vexp(load_part(x + i, n - i) - largest);
        for (int j = 0; j < n - i; j++) sum += e[j];
        if (!log) store_part(y + i, e, n - i);
    }
    if (log) {
        const real shift = FLOAT ? (real)__builtin_logf((float)sum) : (real)__builtin_log(sum);
        for (i = 0; i < n; i++) y[i] = x[i] - largest - shift;
    } else {
        for (i = 0; i < n; i++) y[i] /= sum;
    }
}

/* grad_x = y (grad_y - sum grad_y y); of the logarithm, grad_x = grad_y - e^y sum grad_y */
static void NAME(softmax_backward)(ptrdiff_t n, const void *grad_y_, const void *y_, void *grad_x_, int log) {
    const real *grad_y = grad_y_, *y = y_;
    real *grad_x = grad_x_;
    vec sums = {0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        sums += log ? load(grad_y + i) : load(grad_y + i) * load(y + i);
    real sum = NAME(sum_lanes)(sums);
    for (; i < n; i++) sum += log ? grad_y[i] : grad_y[i] * y[i];
    for (i = 0; i + VLEN <= n; i += VLEN) {
        const vec g = load(grad_y + i), v = load(y + i);
        store(grad_x + i, log ? g - vexp(v) * sum : v * (g - sum));
    }
    if (i < n) {
        const vec g = load_part(grad_y + i, n - i), v = load_part(y + i, n - i);
        store_part(grad_x + i, log ? g - vexp(v) * sum : v * (g - sum), n - i);
    }
}
