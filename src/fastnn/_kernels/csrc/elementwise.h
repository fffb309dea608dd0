/* Elementwise functions, forward beside backward: y = f(x), grad_x = grad_y f'(x).
 *
 * One loop serves all of them: `op` is a constant in each instance, so the switch vanishes. The
 * derivative is taken from what was saved: the output of relu, sigmoid and tanh, the input of the rest.
 */

#define SQRT_2_PI (real)0.79788456080286535588
#define GELU_CUBE (real)0.044715

INLINE vec NAME(function)(int op, vec x, real alpha) {
    switch (op) {
    case FNN_RELU: return relu1(x);
    case FNN_LEAKY_RELU: return select(x < (vec){0}, alpha * x, x);
    case FNN_SIGMOID: return vsigmoid(x);
    case FNN_TANH: return vtanh(x);
    case FNN_SILU: return larger(splat(-1000), x) * vsigmoid(x); /* not -inf times 0 */
    case FNN_GELU: { /* x Phi(x), for x >= 0 as x - x Phi(-x) */
        const vec a = vdistance(x);
        return relu1(x) - a * (vgaussian(a) * vnormal_tail(a));
    }
    case FNN_GELU_TANH: return larger(splat(-1000), x) *
                               (vtanh(SQRT_2_PI * (x + GELU_CUBE * x * x * x)) + 1) / 2;
    default: return vexp(x);
    }
}

/* f'(x) from what was saved, s */
INLINE vec NAME(derivative)(int op, vec s, real alpha) {
    const vec one = splat(1);
    switch (op) {
    case FNN_LEAKY_RELU: return select(s > (vec){0}, one, splat(alpha));
    case FNN_SIGMOID: return s * (1 - s);
    case FNN_TANH: return 1 - s * s;
    case FNN_SILU: {
        const vec y = vsigmoid(s);
        return select(y > 0, select(y < 1, y * (1 + s * (1 - y)), one), y);
    }
    case FNN_GELU: {
        const vec a = vdistance(s), gaussian = vgaussian(a), tail = gaussian * vnormal_tail(a);
        const vec slope = a * gaussian * (real)0.39894228040143267794; /* a times the density */
        return by_sign(s, tail - slope, (1 - tail) + slope);
    }
    case FNN_GELU_TANH: {
        const vec t = vtanh(SQRT_2_PI * (s + GELU_CUBE * s * s * s)), slope = 1 - t * t;
        const vec inner = SQRT_2_PI * (1 + 3 * GELU_CUBE * s * s);
        return (t + 1) / 2 + select(slope > 0, s * slope * inner / 2, slope);
    }
    default: return s; /* exp: its own output */
    }
}

/* g f'(x). A relu that is off passes nothing, not even infinity times 0; NaN passes g on, as in torch. */
INLINE vec NAME(gradient)(int op, vec g, vec s, real alpha) {
    return op == FNN_RELU ? select(s <= (vec){0}, (vec){0}, g) : g * NAME(derivative)(op, s, alpha);
}

/* Sigmoid, x sigmoid(x) and tanh of whole blocks in two loops; returns how far it came. Their instructions wait one
 * for the other, and of the chain a Zen 3 holds but four vectors' worth at a time: two short chains take two thirds
 * of the time (2048 numbers, a vector: sigmoid 5.8 ns, in two loops 4.3; tanh 5.5, 4.1). GELU gains nothing. */
#if VBYTES == 32
enum { NAME(STAGE) = 32 };
INLINE ptrdiff_t NAME(map_blocks)(int op, ptrdiff_t n, const real *x, real *y) {
    vec e[NAME(STAGE)];
    ptrdiff_t i = 0;
    for (; i + NAME(STAGE) * VLEN <= n; i += NAME(STAGE) * VLEN) {
        for (int j = 0; j < NAME(STAGE); j++) {
            const vec v = load(x + i + j * VLEN);
            e[j] = op == FNN_TANH ? NAME(tanh_exp)(v).m : NAME(exp_minus_abs)(v);
        }
        for (int j = 0; j < NAME(STAGE); j++) {
            const vec v = load(x + i + j * VLEN);
            const vec s = op == FNN_TANH ? NAME(tanh_from)(v, (NAME(tanh_part)){e[j], {0}})
                                         : NAME(sigmoid_from)(v, e[j]);
            store(y + i + j * VLEN, op == FNN_SILU ? larger(splat(-1000), v) * s : s);
        }
    }
    return i;
}
#else
INLINE ptrdiff_t NAME(map_blocks)(int op, ptrdiff_t n, const real *x, real *y) {
    (void)op, (void)n, (void)x, (void)y;
    return 0;
}
#endif

INLINE void NAME(map_run)(int op, ptrdiff_t n, real alpha, const real *x, real *y) {
    const int in_blocks = op == FNN_SIGMOID || op == FNN_SILU || op == FNN_TANH;
    ptrdiff_t i = in_blocks ? NAME(map_blocks)(op, n, x, y) : 0;
    for (; i + VLEN <= n; i += VLEN) store(y + i, NAME(function)(op, load(x + i), alpha));
    if (i < n) store_part(y + i, NAME(function)(op, load_part(x + i, n - i), alpha), n - i);
}

INLINE void NAME(map_backward_run)(int op, ptrdiff_t n, real alpha, const real *grad_y, const real *s,
                                   real *grad_x) {
    ptrdiff_t i = 0;
    for (; i + VLEN <= n; i += VLEN)
        store(grad_x + i, NAME(gradient)(op, load(grad_y + i), load(s + i), alpha));
    if (i < n)
        store_part(grad_x + i,
                   NAME(gradient)(op, load_part(grad_y + i, n - i), load_part(s + i, n - i), alpha), n - i);
}

#define CASE(op) case op: NAME(map_run)(op, n, (real)alpha, x, y); break;
static void NAME(map)(int op, ptrdiff_t n, double alpha, const void *x, void *y) {
    switch (op) {
        CASE(FNN_RELU) CASE(FNN_LEAKY_RELU) CASE(FNN_SIGMOID) CASE(FNN_TANH)
        CASE(FNN_SILU) CASE(FNN_GELU) CASE(FNN_GELU_TANH) CASE(FNN_EXP)
    }
}
#undef CASE

#define CASE(op) case op: NAME(map_backward_run)(op, n, (real)alpha, grad_y, saved, grad_x); break;
static void NAME(map_backward)(int op, ptrdiff_t n, double alpha, const void *grad_y, const void *saved,
                               void *grad_x) {
    switch (op) {
        CASE(FNN_RELU) CASE(FNN_LEAKY_RELU) CASE(FNN_SIGMOID) CASE(FNN_TANH)
        CASE(FNN_SILU) CASE(FNN_GELU) CASE(FNN_GELU_TANH) CASE(FNN_EXP)
    }
}
#undef CASE
#undef SQRT_2_PI
#undef GELU_CUBE
