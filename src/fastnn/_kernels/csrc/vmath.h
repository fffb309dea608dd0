/* exp, tanh, sigmoid and the normal distribution on vectors, written once for float and double.
 *
 * All rest on one reduction, e^x = 2^k e^r with |r| <= ln 2 / 2: k by adding a number so large that the
 * fraction falls off, ln 2 subtracted in two parts (Cody and Waite), e^r - 1 = r + r^2 P(r) with a polynomial P
 * of least error (Remez): 1.4e-8 of e^r - 1 for float, 4e-18 of e^r for double.
 * Largest errors measured, in units of the last place: tests/test_math.py.
 */

typedef struct {
    vec r; /* the remainder                  */
    vec k; /* the power of two, and WHOLE    */
} NAME(reduced);

/* `whole` is WHOLE, or that and a number to be added to k. */
INLINE NAME(reduced) NAME(reduce_by)(real whole, vec x) {
    const real high = FLOAT ? (real)0.693359375 : (real)0x1.62e42feep-1;
    const real low = FLOAT ? (real)-2.12194440054690583e-4 : (real)0x1.a39ef35793c76p-33;
    const vec sum = x * (real)1.44269504088896340736 + whole, k = sum - whole;
    return (NAME(reduced)){(x - k * high) - k * low, sum};
}
INLINE NAME(reduced) NAME(reduce_exp)(vec x) { return NAME(reduce_by)(WHOLE, x); }

/* Where 2^k is a normal number one shift makes it, of a k to which the bias of exponents was added. */
INLINE NAME(reduced) NAME(reduce_biased)(vec x) { return NAME(reduce_by)(WHOLE + BIAS, x); }
INLINE vec NAME(biased_power)(vec k) { return (vec)((mask)k << DIGITS); }

/* sum_i c[i] x^(n - 1 - i), odd and even powers apart, so that each step waits for half as many. */
INLINE vec NAME(horner)(int n, const real *c, vec x) {
    const vec square = x * x;
    vec p = splat(c[0]), q = splat(c[1]);
#pragma GCC unroll 26
    for (int i = 2; i < n; i++) {
        if (i % 2)
            q = q * square + c[i];
        else
            p = p * square + c[i];
    }
    return n % 2 ? q * x + p : p * x + q;
}

/* e^r - 1 - r for |r| <= ln 2 / 2 */
INLINE vec NAME(exp_bend)(vec r) {
    static const real single[] = {(real)0.001388251684, (real)0.008366520526, (real)0.04166719992,
                                  (real)0.1666654362, (real)0.4999999815};
    static const real twice[] = {
        (real)2.5117863580782921644e-8, (real)2.7631280458547018772e-7, (real)2.7557216292555204199e-6,
        (real)2.4801489941814203409e-5, (real)1.9841269917393384005e-4, (real)1.3888888947016381082e-3,
        (real)8.3333333333072000282e-3, (real)0.041666666666515416337,  (real)0.16666666666666699075,
        (real)0.50000000000000127417};
    return r * r * (FLOAT ? NAME(horner)(5, single, r) : NAME(horner)(10, twice, r));
}

/* e^r - 1 */
INLINE vec NAME(exp_less_one)(vec r) { return NAME(exp_bend)(r) + r; }

/* e^x; overflows to infinity, underflows through the denormals to zero */
INLINE vec NAME(vexp)(vec x) {
    const real most = FLOAT ? 89 : 710, least = FLOAT ? -104 : -746;
    const NAME(reduced) e = NAME(reduce_exp)(larger(splat(least), lesser(splat(most), x)));
    return times_power(NAME(exp_less_one)(e.r), e.k);
}

/* e^x for x <= 0 */
INLINE vec NAME(vexp_low)(vec x) {
    const NAME(reduced) e = NAME(reduce_exp)(larger(splat(FLOAT ? -104 : -746), x));
    return times_low_power(NAME(exp_less_one)(e.r), e.k);
}

INLINE vec NAME(vabs)(vec x) { return (vec)((mask)x & ~(mask)splat((real)-0.0)); }

/* tanh |x| = m / (m + 2) with m = e^(2 |x|) - 1, which loses nothing near zero; the sign is put back.
 * What m + 2 loses in rounding is found exactly (Dekker): 2 has no digits below the last of the sum. Without a
 * fused multiply-add m loses, too, and gets it back: 1.6 units in the last place, not 2.2, for a tenth of the time. */
typedef struct {
    vec m, lost;
} NAME(tanh_part);

INLINE NAME(tanh_part) NAME(tanh_exp)(vec x) {
    const real most = FLOAT ? 10 : 20; /* tanh rounds to 1 */
    const NAME(reduced) e = NAME(reduce_biased)(2 * lesser(splat(most), NAME(vabs)(x)));
    const vec scale = NAME(biased_power)(e.k);
    const vec bend = NAME(exp_bend)(e.r), p = bend + e.r, m = p * scale + (scale - 1);
#if FUSED
    return (NAME(tanh_part)){m, {0}};
#else
    return (NAME(tanh_part)){m, (bend - (p - e.r)) * scale + (p * scale - (m - (scale - 1)))};
#endif
}
INLINE vec NAME(tanh_from)(vec x, NAME(tanh_part) t) {
    const vec sum = t.m + 2, rest = t.m - (sum - 2);
#if FUSED
    const vec y = quotient(t.m, sum, rest);
#else
    const vec rough = t.m / sum, y = rough + (t.lost - rough * (rest + t.lost)) / sum;
#endif
    return (vec)((mask)y | ((mask)x & (mask)splat((real)-0.0)));
}
#define TANH_BY_PIECES (VBYTES == 64 && FLOAT)
#if VBYTES == 64
#include "tanh_pieces.h"
#else
INLINE vec NAME(tanh_by_pieces)(vec x) { return x; }
#endif
INLINE vec NAME(vtanh)(vec x) {
    return TANH_BY_PIECES ? NAME(tanh_by_pieces)(x) : NAME(tanh_from)(x, NAME(tanh_exp)(x));
}

/* e^x = (1 + p) 2^k, where 2^k is a normal number, or 0. Of the arguments of `lesser` and `larger` below the second
 * stays if it is NaN. */
typedef struct {
    vec p;     /* e^r - 1 */
    vec scale; /* 2^k     */
} NAME(power);
INLINE NAME(power) NAME(normal_power)(vec x) {
    const NAME(reduced) e = NAME(reduce_biased)(x);
    return (NAME(power)){NAME(exp_less_one)(e.r), NAME(biased_power)(e.k)};
}
/* e^x for x <= 0, but 0 below 2^-126.5 (double: 2^-1022.5): the exponent's bits of 2^k are 0 then, and so is 2^k. */
INLINE vec NAME(vexp_normal)(vec x) {
    const NAME(power) e = NAME(normal_power)(larger(splat(FLOAT ? -88 : -709), x));
    return e.p * e.scale + e.scale;
}
/* 1 / (1 + e^-x), both divided by 2^64: so the sum is a normal number where the result is not, or is 0. It is rounded
 * but once: what 2^k + 1 loses of the lesser one is added to what is smaller than 2^k. */
#define SIGMOID_ONE ((real)0x1p-64)
INLINE vec NAME(sigmoid_sum)(vec x) {
    const real most = 40, least = FLOAT ? -104 : -746;
    const NAME(reduced) e = NAME(reduce_by)(WHOLE + BIAS - 64, -larger(splat(least), lesser(splat(most), x)));
    const vec scale = NAME(biased_power)(e.k), sum = scale + SIGMOID_ONE, lost = SIGMOID_ONE - (sum - scale);
    return (NAME(exp_less_one)(e.r) * scale + lost) + sum;
}
INLINE vec NAME(sigmoid_from)(vec sum) { return ratio(splat(SIGMOID_ONE), sum); }
INLINE vec NAME(vsigmoid)(vec x) { return NAME(sigmoid_from)(NAME(sigmoid_sum)(x)); }
#undef SIGMOID_ONE

/* e^x - 1, where 2^k is a normal number; and for x <= 0, however low: at the bound it rounds to -1 */
INLINE vec NAME(vexpm1_normal)(vec x) {
    const NAME(power) e = NAME(normal_power)(x);
    return e.p * e.scale + (e.scale - 1);
}
INLINE vec NAME(vexpm1_low)(vec x) { return NAME(vexpm1_normal)(larger(splat(FLOAT ? -20 : -40), x)); }

/* Tanh once more, for the gates of recurrences, with half the instructions: 2.5 units of the last place. The sum keeps
 * what it loses in rounding, and the sign comes with the argument. By pieces tanh is short enough as it is. */
INLINE vec NAME(gate_tanh)(vec x) {
    if (TANH_BY_PIECES) return NAME(tanh_by_pieces)(x);
    const real most = FLOAT ? 10 : 20;
    const vec m = NAME(vexpm1_normal)(2 * larger(splat(-most), lesser(splat(most), x)));
    return ratio(m, m + 2);
}

/* log(1 + e) for 0 <= e <= 1: 2 atanh(s) with s = e / (2 + e), by polynomials of least error in s^2. */
INLINE vec NAME(vlog1p)(vec e) {
    static const real single[] = {(real)0.2322432922, (real)0.217065758, (real)0.2859235799,
                                  (real)0.3999970633, (real)0.6666666732};
    static const real twice[] = {
        (real)0.15231262619428984839, (real)0.063341108517702453959, (real)0.099420248965547346282,
        (real)0.10480399234365274052, (real)0.1176799776724103616,   (real)0.1333317694913817845,
        (real)0.15384620253804162399, (real)0.18181818086005655452,  (real)0.22222222223331986844,
        (real)0.28571428571421943297, (real)0.40000000000000015478,  (real)0.66666666666666666661};
    const vec sum = 2 + e, s = quotient(e, sum, e - (sum - 2)), square = s * s;
    return s * square * (FLOAT ? NAME(horner)(5, single, square) : NAME(horner)(12, twice, square)) + 2 * s;
}
/* log(1 + e^-|x|): with max(0, x) added log(1 + e^x), and nothing overflows */
INLINE vec NAME(vsoftplus_low)(vec x) { return NAME(vlog1p)(NAME(vexp_low)(-NAME(vabs)(x))); }

/* |x|, or a number for which e^(-x^2 / 2), in vgaussian, is 0. NaN stays. */
INLINE vec NAME(vdistance)(vec x) { return lesser(splat(FLOAT ? (real)13.27 : (real)37.66), NAME(vabs)(x)); }

/* e^(-a^2 / 2), a from vdistance; 0 below 2^-126.5, as in vexp_normal. Far out the rounding of a^2 alone is
 * many units in the last place of the result: the exponent gets it back. */
INLINE vec NAME(vgaussian)(vec a) {
    const vec square = a * a;
    NAME(reduced) e = NAME(reduce_biased)(square * (real)-0.5);
    e.r -= (real)0.5 * square_rest(a, square);
    const vec scale = NAME(biased_power)(e.k);
    return NAME(exp_less_one)(e.r) * scale + scale;
}

/* P(X > a) / e^(-a^2 / 2) of a normal X, a from vdistance. In float a quotient of polynomials of least relative error
 * for a < 13.3 (5e-9; of its coefficients, rounded, 8e-9). In double u = 1 / (a + 3.5) times a Chebyshev series in
 * t = (a - 3.5) u = 1 - 7 u, after Schonfelder (1978), cut at 1e-18. Both were computed from erfc. */
INLINE vec NAME(vnormal_tail)(vec a) {
    static const real above[] = {(real)0.00468469225, (real)0.0465932004, (real)0.21127516, (real)0.507701397,
                                 (real)0.582645655};
    static const real below[] = {(real)0.0117426151, (real)0.116800435, (real)0.541138291,
                                 (real)1.39192188, (real)1.94517112, (real)1.16529131};
    static const real twice[] = {
        (real)-3.868814531977447701e-10, (real)-7.6951435244925582842e-10, (real)2.812536676663974772e-9,
        (real)8.2294134142328352419e-9, (real)-5.5709787642071822834e-9, (real)-4.2597660471839875595e-8,
        (real)-2.9288759818725721861e-8, (real)1.3067579221999830662e-7, (real)2.9469244625838726336e-7,
        (real)-1.4781565161464034545e-7, (real)-1.4797743409048521988e-6, (real)-1.1629746158325062161e-6,
        (real)5.6522803817603451426e-6, (real)1.1506034522830004014e-5, (real)-1.8789018738290904082e-5,
        (real)-7.558454963801728376e-5, (real)6.7033255671467404335e-5, (real)4.7665708973309443056e-4,
        (real)-4.4501295280010246007e-4, (real)-3.1891010475832244018e-3, (real)6.4762189200414511395e-3,
        (real)0.01740783260202747047, (real)-0.11605092871408298971, (real)0.31542496988795269384,
        (real)-0.56556181605377895271, (real)0.7444160754359381273};
    if (FLOAT) return ratio(NAME(horner)(5, above, a), NAME(horner)(6, below, a));
    const vec u = ratio(splat(1), a + (real)3.5);
    return u * NAME(horner)(26, twice, 1 - 7 * u);
}

#define vexp NAME(vexp)
#define vexp_low NAME(vexp_low)
#define vexp_normal NAME(vexp_normal)
#define vexpm1_low NAME(vexpm1_low)
#define vabs NAME(vabs)
#define vtanh NAME(vtanh)
#define vsigmoid NAME(vsigmoid)
#define gate_tanh NAME(gate_tanh)
#define vlog1p NAME(vlog1p)
#define vsoftplus_low NAME(vsoftplus_low)
#define vdistance NAME(vdistance)
#define vgaussian NAME(vgaussian)
#define vnormal_tail NAME(vnormal_tail)
