/* Normalisation over channels-last rows: sums down the columns, and affine maps along them; and layer
 * normalisation of single rows. Arrays are m rows of c contiguous columns. */

/* sum[j] = sum_i (x_ij - center_j) g_ij, total[j] = sum_i g_ij; g is x - center itself where it is NULL. */
static void NAME(column_moments)(ptrdiff_t m, ptrdiff_t c, const void *x_, const void *center_,
                                 const void *g_, void *sum_, void *total_) {
    const real *center = center_;
    for (ptrdiff_t j = 0; j < c; j += VLEN) {
        const ptrdiff_t n = c - j;
        const real *x = (const real *)x_ + j, *g = g_ ? (const real *)g_ + j : NULL;
        const vec mean = n >= VLEN ? load(center + j) : load_part(center + j, n);
        vec sum = {0}, total = {0};
        for (ptrdiff_t i = 0; i < m; i++, x += c) {
            const vec d = (n >= VLEN ? load(x) : load_part(x, n)) - mean;
            const vec w = !g ? d : n >= VLEN ? load(g + i * c) : load_part(g + i * c, n);
            sum += d * w;
            total += w;
        }
        n >= VLEN ? store((real *)sum_ + j, sum) : store_part((real *)sum_ + j, sum, n);
        n >= VLEN ? store((real *)total_ + j, total) : store_part((real *)total_ + j, total, n);
    }
}

/* y_ij = (x_ij - center_j) a_j + b_j, or with g: ... + d_j g_ij. The center is taken off first, where nothing
 * is lost: a_j x_ij of data far from zero would be rounded to the digits of its mean. */
static void NAME(column_affine)(ptrdiff_t m, ptrdiff_t c, const void *x_, const void *center_, const void *a_,
                                const void *b_, const void *g_, const void *d_, void *y_) {
    const real *center = center_, *a = a_, *b = b_, *d = d_;
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = (const real *)x_ + i * c, *g = g_ ? (const real *)g_ + i * c : NULL;
        real *y = (real *)y_ + i * c;
        ptrdiff_t j = 0;
        for (; j + VLEN <= c; j += VLEN) {
            const vec v = (load(x + j) - load(center + j)) * load(a + j) + load(b + j);
            store(y + j, g ? v + load(g + j) * load(d + j) : v);
        }
        for (; j < c; j++) y[j] = (x[j] - center[j]) * a[j] + b[j] + (g ? g[j] * d[j] : 0);
    }
}

/* What normalises a row: h = ((x - pilot) - shift) inverse. The mean is pilot + shift, kept in two parts, as
 * the deviations from the first number are small however far from zero the row lies. */
typedef struct {
    real pilot, shift, inverse;
} NAME(row_moments);

INLINE NAME(row_moments) NAME(measure_row)(ptrdiff_t n, const real *x, double eps) {
    const real pilot = x[0];
    NAME(row_sum) sums = {{0}, 0};
    real rest = 0;
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) NAME(add_to_row)(&sums, i, load(x + i) - pilot);
    for (; i < n; i++) rest += x[i] - pilot;
    const real shift = (real)((NAME(row_total)(sums) + rest) / (double)n);
    sums = (NAME(row_sum)){{0}, 0};
    rest = 0;
    for (i = 0; i + VLEN <= n; i += VLEN) {
        const vec d = load(x + i) - pilot - shift;
        NAME(add_to_row)(&sums, i, d * d);
    }
    for (; i < n; i++) rest += (x[i] - pilot - shift) * (x[i] - pilot - shift);
    const double variance = (NAME(row_total)(sums) + rest) / (double)n;
    return (NAME(row_moments)){pilot, shift, (real)(1 / __builtin_sqrt(variance + eps))};
}

/* y = (x - mean) / sqrt(variance + eps) w + b over one row; w and b may be NULL. */
static void NAME(layer_norm)(ptrdiff_t n, const void *x_, const void *w_, const void *b_, double eps,
                             void *y_) {
    const real *x = x_, *w = w_, *b = b_;
    real *y = y_;
    const NAME(row_moments) r = NAME(measure_row)(n, x, eps);
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec h = (load(x + i) - r.pilot - r.shift) * r.inverse;
        const vec s = w ? h * load(w + i) : h;
        store(y + i, b ? s + load(b + i) : s);
    }
    for (; i < n; i++) {
        const real h = (x[i] - r.pilot - r.shift) * r.inverse, s = w ? h * w[i] : h;
        y[i] = b ? s + b[i] : s;
    }
}

/* grad_x of one row; the row's part of the gradients of w and b is added to grad_w and grad_b.
 *
 *     grad_x = (g - mean g - h mean(g h)) / sqrt(variance + eps),    g = grad_y w,  h = normalised x
 */
static void NAME(layer_norm_backward)(ptrdiff_t n, const void *grad_y_, const void *x_, const void *w_,
                                      double eps, void *grad_x_, void *grad_w_, void *grad_b_) {
    const real *grad_y = grad_y_, *x = x_, *w = w_;
    real *grad_x = grad_x_, *grad_w = grad_w_, *grad_b = grad_b_, sum_g = 0, sum_gh = 0;
    const NAME(row_moments) r = NAME(measure_row)(n, x, eps);
    NAME(row_sum) gs = {{0}, 0}, ghs = {{0}, 0};
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec dy = load(grad_y + i), g = w ? dy * load(w + i) : dy;
        const vec h = (load(x + i) - r.pilot - r.shift) * r.inverse;
        NAME(add_to_row)(&gs, i, g);
        NAME(add_to_row)(&ghs, i, g * h);
        store(grad_w + i, load(grad_w + i) + dy * h);
        store(grad_b + i, load(grad_b + i) + dy);
    }
    for (; i < n; i++) {
        const real h = (x[i] - r.pilot - r.shift) * r.inverse, g = w ? grad_y[i] * w[i] : grad_y[i];
        sum_g += g;
        sum_gh += g * h;
        grad_w[i] += grad_y[i] * h;
        grad_b[i] += grad_y[i];
    }
    sum_g = (real)((sum_g + NAME(row_total)(gs)) / (double)n);
    sum_gh = (real)((sum_gh + NAME(row_total)(ghs)) / (double)n);
    for (i = 0; i + VLEN <= n; i += VLEN) {
        const vec dy = load(grad_y + i), g = w ? dy * load(w + i) : dy;
        const vec h = (load(x + i) - r.pilot - r.shift) * r.inverse;
        store(grad_x + i, (g - sum_g - h * sum_gh) * r.inverse);
    }
    for (; i < n; i++) {
        const real h = (x[i] - r.pilot - r.shift) * r.inverse, g = w ? grad_y[i] * w[i] : grad_y[i];
        grad_x[i] = (g - sum_g - h * sum_gh) * r.inverse;
    }
}
