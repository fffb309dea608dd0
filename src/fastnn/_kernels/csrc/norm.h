/* Normalisation over channels-last rows: sums down the columns, and affine maps along them; and layer
 * normalisation of single rows. Arrays are m rows of c contiguous columns. */

/* The moments below of `wide` vectors of columns: several at once, as each sum waits for its last term. */
INLINE void NAME(moments_of)(int wide, ptrdiff_t m, ptrdiff_t c, ptrdiff_t j, const real *x,
                             const real *center, const real *g, real *const *sums) {
    vec mean[4], product[4], total[4], deviation[4];
    const ptrdiff_t n = c - j;
    x += j;
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++) {
        mean[v] = NAME(load_first)(center + j + v * VLEN, n - v * VLEN);
        product[v] = total[v] = deviation[v] = (vec){0};
    }
    for (ptrdiff_t i = 0; i < m; i++, x += c) {
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) {
            const vec d = (wide > 1 ? load_across(x + v * VLEN) : NAME(load_first)(x, n)) - mean[v];
            deviation[v] += d;
            if (g) {
                const real *at = g + i * c + j + v * VLEN;
                const vec w = wide > 1 ? load_across(at) : NAME(load_first)(at, n);
                product[v] += d * w;
                total[v] += w;
            } else {
                product[v] += d * d;
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++) {
        NAME(store_first)(sums[0] + j + v * VLEN, product[v], n - v * VLEN);
        NAME(store_first)(sums[1] + j + v * VLEN, deviation[v], n - v * VLEN);
        if (g) NAME(store_first)(sums[2] + j + v * VLEN, total[v], n - v * VLEN);
    }
}

/* With d_ij = x_ij - center_j the sums over i of d_ij g_ij, of d_ij and of g_ij, c of each one after the other
 * in `sums`; without g (NULL) of d_ij^2 and of d_ij. */
static void NAME(column_moments)(ptrdiff_t m, ptrdiff_t c, const void *x, const void *center, const void *g,
                                 void *sums_) {
    real *sums[3] = {(real *)sums_, (real *)sums_ + c, (real *)sums_ + 2 * c};
    ptrdiff_t j = 0;
    for (; j + 4 * VLEN <= c; j += 4 * VLEN) NAME(moments_of)(4, m, c, j, x, center, g, sums);
    for (; j < c; j += VLEN) NAME(moments_of)(1, m, c, j, x, center, g, sums);
}

/* (x - center) a + b, or with g: ... + d g, of the vector at j. */
INLINE vec NAME(affine_at)(ptrdiff_t j, const real *x, const real *center, const real *a, const real *b,
                           const real *g, const real *d) {
    const vec v = (load_across(x + j) - load(center + j)) * load(a + j) + load(b + j);
    return g ? v + load_across(g + j) * load(d + j) : v;
}

/* y_ij = (x_ij - center_j) a_j + b_j, or with g: ... + d_j g_ij. The center is taken off first, where nothing
 * is lost: a_j x_ij of data far from zero would be rounded to the digits of its mean. `past`: as in elementwise.h;
 * rows are whole vectors then. */
static void NAME(column_affine)(ptrdiff_t m, ptrdiff_t c, const void *x_, const void *center_, const void *a_,
                                const void *b_, const void *g_, const void *d_, void *y_, int past) {
    const real *center = center_, *a = a_, *b = b_, *d = d_;
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = (const real *)x_ + i * c, *g = g_ ? (const real *)g_ + i * c : NULL;
        real *y = (real *)y_ + i * c;
        ptrdiff_t j = 0;
        for (; j + 2 * VLEN <= c; j += 2 * VLEN) { /* two are read before one is written: see elementwise.h */
            const ptrdiff_t k = j + VLEN;
            const vec v = NAME(affine_at)(j, x, center, a, b, g, d), w = NAME(affine_at)(k, x, center, a, b, g, d);
            NAME(put)(past, y + j, v);
            NAME(put)(past, y + k, w);
        }
        for (; j + VLEN <= c; j += VLEN) NAME(put)(past, y + j, NAME(affine_at)(j, x, center, a, b, g, d));
        if (j < c) {
            const ptrdiff_t n = c - j;
            const vec v = (load_part(x + j, n) - load_part(center + j, n)) * load_part(a + j, n);
            const vec w = v + load_part(b + j, n);
            store_part(y + j, g ? w + load_part(g + j, n) * load_part(d + j, n) : w, n);
        }
    }
}

/* What normalises a row: h = ((x - pilot) - shift) inverse. The mean is pilot + shift, kept in two parts, as
 * the deviations from the first number are small however far from zero the row lies. */
typedef struct {
    real pilot, shift, inverse;
} NAME(row_moments);

/* The sum over a row of d = (x - pilot) - shift, or of d^2: four sums side by side, of 16 vectors in `real`,
 * added in double, always in the same order. */
INLINE double NAME(row_moment)(int squares, ptrdiff_t n, const real *x, real pilot, real shift) {
    double total = 0;
    for (ptrdiff_t first = 0; first < n; first += 64 * VLEN) {
        const ptrdiff_t last = n - first < 64 * VLEN ? n : first + 64 * VLEN;
        vec sum[4] = {{0}};
        ptrdiff_t i = first;
        for (; i + 4 * VLEN <= last; i += 4 * VLEN) {
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) {
                const vec d = (load(x + i + v * VLEN) - pilot) - shift;
                sum[v] += squares ? d * d : d;
            }
        }
        for (; i < last; i += VLEN) {
            const vec all = (NAME(load_first)(x + i, last - i) - pilot) - shift;
            const vec d = last - i >= VLEN ? all : NAME(first_lanes)(all, last - i, 0);
            sum[0] += squares ? d * d : d;
        }
        total += NAME(sum_lanes)((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    return total;
}

INLINE void NAME(measure_rows)(ptrdiff_t rows, ptrdiff_t n, const real *x, double eps, NAME(row_moments) *r) {
    double variance[FNN_ABREAST];
    for (ptrdiff_t i = 0; i < rows; i++) {
        r[i].pilot = x[i * n];
        r[i].shift = (real)(NAME(row_moment)(0, n, x + i * n, r[i].pilot, 0) / (double)n);
    }
    for (ptrdiff_t i = 0; i < rows; i++)
        variance[i] = NAME(row_moment)(1, n, x + i * n, r[i].pilot, r[i].shift) / (double)n;
    for (ptrdiff_t i = 0; i < rows; i++) r[i].inverse = (real)(1 / __builtin_sqrt(variance[i] + eps));
}

/* y = (x - mean) / sqrt(variance + eps) w + b over each of a few rows; w and b may be NULL. */
static void NAME(layer_norm)(ptrdiff_t rows, ptrdiff_t n, const void *x_, const void *w_, const void *b_,
                             double eps, void *y_) {
    const real *x = x_, *w = w_, *b = b_;
    real *y = y_;
    NAME(row_moments) measured[FNN_ABREAST];
    NAME(measure_rows)(rows, n, x, eps, measured);
    for (ptrdiff_t row = 0; row < rows; row++, x += n, y += n) {
        const NAME(row_moments) r = measured[row];
        ptrdiff_t i = 0;
        for (; i + VLEN <= n; i += VLEN) {
            const vec h = (load(x + i) - r.pilot - r.shift) * r.inverse;
            const vec s = w ? h * load(w + i) : h;
            store(y + i, b ? s + load(b + i) : s);
        }
        if (i < n) {
            const vec h = (load_part(x + i, n - i) - r.pilot - r.shift) * r.inverse;
            const vec s = w ? h * load_part(w + i, n - i) : h;
            store_part(y + i, b ? s + load_part(b + i, n - i) : s, n - i);
        }
    }
}

/* grad_x of a few rows; their part of the gradients of w and b is added to grad_w and grad_b. (load_across, and sums
 * that begin with a line: Zen 5, AVX-512, 4096 rows of 768 .7 to .87 of the time; forward gains nothing by it.)
 *
 *     grad_x = (g - mean g - h mean(g h)) / sqrt(variance + eps),    g = grad_y w,  h = normalised x
 */
typedef struct {
    real g, gh;
} NAME(row_means);

INLINE NAME(row_means) NAME(gradient_means)(ptrdiff_t n, const real *grad_y, const real *x, const real *w,
                                            NAME(row_moments) r, real *grad_w, real *grad_b) {
    NAME(row_sum) gs = {{0}, 0}, ghs = {{0}, 0};
    real sum_g = 0, sum_gh = 0;
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN) {
        const vec dy = load_across(grad_y + i), g = w ? dy * load(w + i) : dy;
        const vec h = (load_across(x + i) - r.pilot - r.shift) * r.inverse;
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
    return (NAME(row_means)){(real)((sum_g + NAME(row_total)(gs)) / (double)n),
                             (real)((sum_gh + NAME(row_total)(ghs)) / (double)n)};
}

static void NAME(layer_norm_backward)(ptrdiff_t rows, ptrdiff_t n, const void *grad_y_, const void *x_,
                                      const void *w_, double eps, void *grad_x_, void *grad_w, void *grad_b) {
    const real *grad_y = grad_y_, *x = x_, *w = w_;
    real *grad_x = grad_x_;
    NAME(row_moments) measured[FNN_ABREAST];
    NAME(row_means) means[FNN_ABREAST];
    NAME(measure_rows)(rows, n, x, eps, measured);
    for (ptrdiff_t row = 0; row < rows; row++)
        means[row] = NAME(gradient_means)(n, grad_y + row * n, x + row * n, w, measured[row], grad_w, grad_b);
    for (ptrdiff_t row = 0; row < rows; row++, x += n, grad_y += n, grad_x += n) {
        const NAME(row_moments) r = measured[row];
        const NAME(row_means) mean = means[row];
        ptrdiff_t i = 0;
        for (; i + VLEN <= n; i += VLEN) {
            const vec dy = load_across(grad_y + i), g = w ? dy * load(w + i) : dy;
            const vec h = (load_across(x + i) - r.pilot - r.shift) * r.inverse;
            store(grad_x + i, (g - mean.g - h * mean.gh) * r.inverse);
        }
        for (; i < n; i++) {
            const real h = (x[i] - r.pilot - r.shift) * r.inverse, g = w ? grad_y[i] * w[i] : grad_y[i];
            grad_x[i] = (g - mean.g - h * mean.gh) * r.inverse;
        }
    }
}
