/* Elementwise functions, forward beside backward: y = f(x), grad_x = grad_y f'(x).
 *
 * One loop serves all of them: `op` is a constant in each instance, so the switch vanishes. The derivative is taken
 * from what was saved: the output of relu, sigmoid, tanh and exp, the input of the rest.
 *
 *     leaky relu    x where x >= 0, else alpha x
 *     hardtanh      min(max(x, alpha), beta)
 *     hardsigmoid   min(max((x + 3) / 6, 0), 1)                 hardswish    x times that
 *     elu           x where x > 0, else alpha (e^x - 1)
 *     softplus      log(1 + e^(alpha x)) / alpha where alpha x <= beta, else x
 *
 * `past`: y, which begins with a cache line, is to be written past the caches where memory is the limit. A line of an
 * array that is not x is else read before it is written: Sapphire Rapids, relu of 16 MB .79 of the time, of 64 MB .62,
 * with its gradient .61 and .68, batch norm (norm.h) of 16 MB .83. Longer functions gain at 64 MB alone (sigmoid, tanh
 * .83), and asking for it in their loops costs small arrays 2 to 3 %.
 */

#define TWICE_SQRT_2_PI (real)1.59576912160573071176
#define GELU_CUBE (real)0.044715

/* 2 sqrt(2 / pi) (x + 0.044715 x^3), of the approximation of GELU: (1 + tanh z) / 2 = sigmoid(2 z) */
INLINE vec NAME(gelu_argument)(vec x) { return TWICE_SQRT_2_PI * (x + GELU_CUBE * x * x * x); }
/* x s, where s falls faster than x grows: not -inf times 0 */
INLINE vec NAME(times_tail)(vec x, vec s) { return larger(splat(-1000), x) * s; }

INLINE vec NAME(hardsigmoid)(vec x) {
    return lesser(splat(1), larger((vec){0}, (x + 3) * (real)0.16666666666666666667)); /* 0 at -3, 1 at 3 */
}
/* log(1 + e^z) */
INLINE vec NAME(softplus)(vec z) { return larger((vec){0}, z) + vsoftplus_low(z); }

INLINE vec NAME(function)(int op, vec x, real alpha, real beta) {
    switch (op) {
    case FNN_RELU: return relu1(x);
    case FNN_LEAKY_RELU: return select(x < (vec){0}, alpha * x, x);
    case FNN_SIGMOID: return vsigmoid(x);
    case FNN_TANH: return vtanh(x);
    case FNN_SILU: return NAME(times_tail)(x, vsigmoid(x));
    case FNN_GELU: { /* x Phi(x), for x >= 0 as x - x Phi(-x) */
        const vec a = vdistance(x);
        return larger((vec){0}, x) - a * (vgaussian(a) * vnormal_tail(a));
    }
    case FNN_GELU_TANH: return NAME(times_tail)(x, vsigmoid(NAME(gelu_argument)(x)));
    case FNN_HARDTANH: return lesser(splat(beta), larger(splat(alpha), x));
    case FNN_HARDSIGMOID: return NAME(hardsigmoid)(x);
    case FNN_HARDSWISH: return NAME(times_tail)(x, NAME(hardsigmoid)(x));
    case FNN_ELU: return select(x > (vec){0}, x, alpha * vexpm1_low(lesser((vec){0}, x)));
    case FNN_SOFTPLUS: return select(alpha * x > beta, x, NAME(softplus)(alpha * x) / alpha);
    default: return vexp(x);
    }
}

/* f'(x) from what was saved, s */
INLINE vec NAME(derivative)(int op, vec s, real alpha, real beta) {
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
        const vec y = vsigmoid(NAME(gelu_argument)(s)), slope = y * (1 - y);
        return y + select(slope > 0, s * slope * (TWICE_SQRT_2_PI * (1 + 3 * GELU_CUBE * s * s)), slope);
    }
    case FNN_HARDSWISH: /* where it is not flat; at 3 that of the right */
        return select(s >= 3, one, s * (real)0.33333333333333333333 + (real)0.5);
    case FNN_ELU: return select(s > (vec){0}, one, alpha * vexp_low(lesser((vec){0}, s)));
    case FNN_SOFTPLUS: return select(alpha * s > beta, one, vsigmoid(alpha * s));
    default: return s; /* exp: its own output */
    }
}

/* g f'(x). Where a function is flat nothing passes, not even infinity times 0; NaN passes g on, as in torch. */
INLINE vec NAME(gradient)(int op, vec g, vec s, real alpha, real beta) {
    switch (op) {
    case FNN_RELU: return select(s <= (vec){0}, (vec){0}, g);
    case FNN_HARDTANH: return select((s <= alpha) | (s >= beta), (vec){0}, g);
    case FNN_HARDSIGMOID: return select((s <= -3) | (s >= 3), (vec){0}, g * (real)0.16666666666666666667);
    case FNN_HARDSWISH: return select(s <= -3, (vec){0}, g * NAME(derivative)(op, s, alpha, beta));
    default: return g * NAME(derivative)(op, s, alpha, beta);
    }
}

/* So many vectors are read before one is written: NumPy's arrays begin 16 bytes into a cache line, and a load across
 * two lines waits for stores around it (Zen 3, 1024 x 1024: relu 144 us one by one, 111 so). Vectors of
 * 16 bytes do not lie across lines, and of double the code of so many terms is long. */
enum { NAME(AHEAD) = VBYTES > 16 && sizeof(real) == sizeof(float) ? 2 : 1 };
INLINE vec NAME(load_of)(int op, const real *x) { return fnn_is_short(op) ? load_across(x) : load(x); }
INLINE void NAME(load_ahead)(int op, vec *v, const real *x) {
#pragma GCC unroll 2
    for (int j = 0; j < NAME(AHEAD); j++) v[j] = NAME(load_of)(op, x + j * VLEN);
}

/* Tanh, and what comes of a sigmoid, of whole blocks in two loops; returns how far it came. Their instructions wait
 * one for the other, and of the chain a processor holds but a few vectors' worth at a time: two short chains take .75
 * to .97 of the time (2048 numbers, a vector: AVX2 on Zen 3, 32 vectors a loop, tanh 5.5 ns, in two loops 4.1; GELU's
 * approximation 5.2, 4.3; SiLU 3.2, 3.1; AVX-512 on Zen 5, 8 a loop, GELU's approximation 3.6, 2.9; SiLU 2.7, 2.2;
 * sigmoid 2.5, 2.2). With AVX2 the sigmoid is short enough alone, and so is tanh where it is taken by pieces. GELU by
 * its normal distribution gains nothing by it, but by MIXED: 8.0 -> 6.4. */
#if VBYTES >= 32
enum { NAME(STAGE) = VBYTES == 32 ? 32 : 8 };
INLINE int NAME(in_two)(int op) {
    return op == FNN_SILU || op == FNN_GELU_TANH || (op == FNN_TANH && !TANH_BY_PIECES)
        || (op == FNN_SIGMOID && VBYTES > 32);
}
INLINE vec NAME(first_loop)(int op, vec x) {
    return op == FNN_TANH ? NAME(tanh_exp)(x).m
                          : NAME(sigmoid_sum)(op == FNN_GELU_TANH ? NAME(gelu_argument)(x) : x);
}
INLINE vec NAME(second_loop)(int op, vec x, vec e) {
    switch (op) {
    case FNN_TANH: return NAME(tanh_from)(x, (NAME(tanh_part)){e, {0}});
    case FNN_SIGMOID: return NAME(sigmoid_from)(e);
    default: return NAME(times_tail)(x, NAME(sigmoid_from)(e));
    }
}
INLINE ptrdiff_t NAME(map_blocks)(int op, ptrdiff_t n, const real *x, real *y) {
    vec e[NAME(STAGE)];
    ptrdiff_t i = 0;
    if (!NAME(in_two)(op)) return 0;
    for (; i + NAME(STAGE) * VLEN <= n; i += NAME(STAGE) * VLEN) {
        for (int k = 0; k < NAME(STAGE); k += NAME(AHEAD)) {
            vec v[NAME(AHEAD)];
            NAME(load_ahead)(op, v, x + i + k * VLEN);
#pragma GCC unroll 2
            for (int j = 0; j < NAME(AHEAD); j++) e[k + j] = NAME(first_loop)(op, v[j]);
        }
        for (int j = 0; j < NAME(STAGE); j++)
            store(y + i + j * VLEN, NAME(second_loop)(op, load(x + i + j * VLEN), e[j]));
    }
    return i;
}
#else
INLINE ptrdiff_t NAME(map_blocks)(int op, ptrdiff_t n, const real *x, real *y) {
    (void)op, (void)n, (void)x, (void)y;
    return 0;
}
#endif

INLINE void NAME(map_run)(int op, ptrdiff_t n, real alpha, real beta, const real *x, real *y, int past) {
    ptrdiff_t i = NAME(map_blocks)(op, n, x, y);
    past = past && fnn_is_short(op);
    for (; i + NAME(AHEAD) * VLEN <= n; i += NAME(AHEAD) * VLEN) {
        vec v[NAME(AHEAD)];
        NAME(load_ahead)(op, v, x + i);
#pragma GCC unroll 2
        for (int j = 0; j < NAME(AHEAD); j++) NAME(put)(past, y + i + j * VLEN, NAME(function)(op, v[j], alpha, beta));
    }
    for (; NAME(AHEAD) > 1 && i + VLEN <= n; i += VLEN) store(y + i, NAME(function)(op, load(x + i), alpha, beta));
    if (i < n) store_part(y + i, NAME(function)(op, load_part(x + i, n - i), alpha, beta), n - i);
}

INLINE void NAME(map_backward_run)(int op, ptrdiff_t n, real alpha, real beta, const real *grad_y, const real *s,
                                   real *grad_x, int past) {
    ptrdiff_t i = 0;
    past = past && fnn_is_short_back(op);
    for (; i + VLEN <= n; i += VLEN) {
        const vec g = NAME(load_of)(op, grad_y + i), of = NAME(load_of)(op, s + i);
        NAME(put)(past, grad_x + i, NAME(gradient)(op, g, of, alpha, beta));
    }
    if (i < n)
        store_part(grad_x + i,
                   NAME(gradient)(op, load_part(grad_y + i, n - i), load_part(s + i, n - i), alpha, beta), n - i);
}

#define CASE(op) case op: NAME(map_run)(op, n, (real)alpha, (real)beta, x, y, past); break;
static MIXED void NAME(map)(int op, ptrdiff_t n, double alpha, double beta, const void *x, void *y, int past) {
    switch (op) {
        CASE(FNN_RELU) CASE(FNN_LEAKY_RELU) CASE(FNN_SIGMOID) CASE(FNN_TANH)
        CASE(FNN_SILU) CASE(FNN_GELU) CASE(FNN_GELU_TANH) CASE(FNN_HARDTANH) CASE(FNN_HARDSIGMOID)
        CASE(FNN_HARDSWISH) CASE(FNN_ELU) CASE(FNN_SOFTPLUS) CASE(FNN_EXP)
    }
}
#undef CASE

#define CASE(op) case op: NAME(map_backward_run)(op, n, (real)alpha, (real)beta, grad_y, saved, grad_x, past); break;
static void NAME(map_backward)(int op, ptrdiff_t n, double alpha, double beta, const void *grad_y, const void *saved,
                               void *grad_x, int past) {
    switch (op) {
        CASE(FNN_RELU) CASE(FNN_LEAKY_RELU) CASE(FNN_SIGMOID) CASE(FNN_TANH)
        CASE(FNN_SILU) CASE(FNN_GELU) CASE(FNN_GELU_TANH) CASE(FNN_HARDTANH) CASE(FNN_HARDSIGMOID)
        CASE(FNN_HARDSWISH) CASE(FNN_ELU) CASE(FNN_SOFTPLUS) CASE(FNN_EXP)
    }
}
#undef CASE
#undef TWICE_SQRT_2_PI
#undef GELU_CUBE
