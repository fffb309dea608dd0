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

/* A sum along a row: of blocks of 64 vectors in `real`, across blocks in double, always in the same order. So a
 * row of a million floats keeps its digits, and one of a few vectors costs no more than a plain sum. */
typedef struct {
    vec block;
    double blocks;
} NAME(row_sum);

/* Add the vector that starts at element i of the row. */
INLINE void NAME(add_to_row)(NAME(row_sum) *sum, ptrdiff_t i, vec v) {
    sum->block += v;
    if (i / VLEN % 64 == 63) {
        sum->blocks += NAME(sum_lanes)(sum->block);
        sum->block = (vec){0};
    }
}

INLINE double NAME(row_total)(NAME(row_sum) sum) { return sum.blocks + NAME(sum_lanes)(sum.block); }

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
    NAME(row_sum) sums = {{0}, 0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec e = vexp(load(x + i) - largest);
        NAME(add_to_row)(&sums, i, e);
        if (!log) store(y + i, e);
    }
    real sum = (real)NAME(row_total)(sums);
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
    NAME(row_sum) sums = {{0}, 0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        NAME(add_to_row)(&sums, i, log ? load(grad_y + i) : load(grad_y + i) * load(y + i));
    real sum = (real)NAME(row_total)(sums);
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
