/* exp, tanh, sigmoid and the normal distribution on vectors, written once for float and double.
 *
 * All rest on one reduction, e^x = 2^k e^r with |r| <= ln 2 / 2: k by adding a number so large that the
 * fraction falls off, ln 2 subtracted in two parts (Cody and Waite), e^r - 1 - r by its Taylor series, whose
 * first term left out is below 1e-8 (float, r^8 / 8!) and 1e-17 (double, r^14 / 14!).
 * Largest errors measured, in units of the last place: tests/test_math.py.
 */
#define FLOAT (sizeof(real) == sizeof(float))

typedef struct {
    vec r; /* the remainder                             */
    mask k; /* the power of two, as integers            */
} NAME(reduced);

INLINE NAME(reduced) NAME(reduce_exp)(vec x) {
    const real shift = FLOAT ? (real)0x1.8p23 : (real)0x1.8p52;
    const real high = FLOAT ? (real)0.693359375 : (real)0x1.62e42feep-1;
    const real low = FLOAT ? (real)-2.12194440054690583e-4 : (real)0x1.a39ef35793c76p-33;
    const vec shifted = x * (real)1.44269504088896340736 + shift;
    const vec k = shifted - shift;
    return (NAME(reduced)){(x - k * high) - k * low, (mask)shifted - (mask)(splat(shift))};
}

/* e^r - 1 - r for |r| <= ln 2 / 2 */
INLINE vec NAME(exp_tail)(vec r) {
    static const real inverse_factorial[] = {
        (real)(1 / 6227020800.0), (real)(1 / 479001600.0), (real)(1 / 39916800.0), (real)(1 / 3628800.0),
        (real)(1 / 362880.0),     (real)(1 / 40320.0),     (real)(1 / 5040.0),     (real)(1 / 720.0),
        (real)(1 / 120.0),        (real)(1 / 24.0),        (real)(1 / 6.0),        (real)(1 / 2.0)};
    const int first = FLOAT ? 6 : 0;
    vec p = splat(inverse_factorial[first]);
#pragma GCC unroll 12
    for (int i = first + 1; i < 12; i++) p = p * r + inverse_factorial[i];
    return r * r * p;
}

/* 2^k for k in the range of normal numbers */
INLINE vec NAME(power_of_two)(mask k) { return (vec)((k + (FLOAT ? 127 : 1023)) << (FLOAT ? 23 : 52)); }

/* e^x; overflows to infinity, underflows through the denormals to zero */
INLINE vec NAME(vexp)(vec x) {
    const real most = FLOAT ? 89 : 710, least = FLOAT ? -104 : -746;
    x = select(x > most, splat(most), x);
    x = select(x < least, splat(least), x);
    const NAME(reduced) e = NAME(reduce_exp)(x);
    /* 2^k in two factors: k alone may lie outside the exponents of normal numbers */
    const mask half = e.k >> 1;
    const vec p = (NAME(exp_tail)(e.r) + e.r) + 1;
    return p * NAME(power_of_two)(half) * NAME(power_of_two)(e.k - half);
}

/* tanh |x| = m / (m + 2) with m = e^(2 |x|) - 1, which loses nothing near zero; the sign is put back.
 * What m + 2 loses in rounding is found exactly (Dekker) and the quotient corrected for it; 1 / (m + 2) is
 * (1 - y) / 2. */
INLINE vec NAME(vtanh)(vec x) {
    const mask sign = (mask)splat((real)-0.0);
    const real most = FLOAT ? 10 : 20; /* tanh rounds to 1 */
    vec a = (vec)((mask)x & ~sign);
    a = select(a > most, splat(most), a);
    const NAME(reduced) e = NAME(reduce_exp)(2 * a);
    const vec scale = NAME(power_of_two)(e.k);
    const vec m = NAME(exp_tail)(e.r) * scale + (e.r * scale + (scale - 1));
    const vec sum = m + 2, lost = select(m < 2, m - (sum - 2), 2 - (sum - m)), y = m / sum;
    return (vec)((mask)(y - y * (1 - y) * (lost / 2)) | ((mask)x & sign));
}

/* 1 / (1 + e^-x), by e^-|x|, which does not overflow; corrected as tanh is, 1 / (1 + e) being y or 1 - y */
INLINE vec NAME(vsigmoid)(vec x) {
    const mask sign = (mask)splat((real)-0.0);
    const vec e = NAME(vexp)((vec)((mask)x | sign));
    const mask negative = x < (vec){0};
    const vec sum = 1 + e, lost = e - (sum - 1), y = select(negative, e, splat(1)) / sum;
    return y - y * select(negative, 1 - y, y) * lost;
}

/* e^(-x^2 / 2). Far out the rounding of x^2 alone is many units in the last place of the result: what was
 * lost is found exactly (Dekker: the upper half of the digits of x has an exact square) and put back. */
INLINE vec NAME(vgaussian)(vec x) {
    const mask sign = (mask)splat((real)-0.0);
    vec a = (vec)((mask)x & ~sign);
    a = select(a > 40, splat(40), a); /* the result is zero; 40^2 is far from overflow */
    const vec high = (vec)(((mask)a >> (FLOAT ? 12 : 27)) << (FLOAT ? 12 : 27)), low = a - high;
    const vec square = a * a, lost = (high * high - square) + 2 * high * low + low * low;
    return NAME(vexp)(square * (real)-0.5) * (1 - lost / 2);
}

/* P(X > a) / e^(-a^2 / 2) of a normal X, for a >= 0: with z = a / sqrt 2, 1 / (2 + 4 z) times a Chebyshev
 * series in t = (z - 3.75) / (z + 3.75), after Schonfelder (1978). The coefficients were computed from erfc
 * in 50 digits at 64 nodes. */
INLINE vec NAME(vnormal_tail)(vec a) {
    static const real series[] = {
        (real)1.1775789345674017541,     (real)-0.0045900545806464773309, (real)-0.084249133366517915584,
        (real)0.059209939998191890498,   (real)-0.026658668435305752277,  (real)0.0090749976707052650939,
        (real)-0.0024131635404176081909, (real)0.00049077583652580863229, (real)-0.000069169733025012063671,
        (real)4.1390279860730101675e-6,  (real)7.7403830661984906686e-7,  (real)-2.1886401049234395661e-7,
        (real)1.0764999465670910377e-8,  (real)4.5219598112182868979e-9,  (real)-7.7544002088313511065e-10,
        (real)-6.3180883408866844944e-11, (real)2.8687950109306698981e-11, (real)1.945586854577734723e-13,
        (real)-9.6546967484334389059e-13, (real)3.2525481481487398415e-14, (real)3.3478119482868053878e-14,
        (real)-1.8645628804193131015e-15, (real)-1.2507950530688647085e-15, (real)7.418235256624043463e-17,
        (real)5.0681489047961113168e-17};
    a = select(a > 40, splat(40), a); /* as in vgaussian */
    const vec z = a * (real)0.70710678118654752440;
    const vec t = (z - (real)3.75) / (z + (real)3.75);
    vec now = {0}, last = {0};
#pragma GCC unroll 1
    for (int i = FLOAT ? 11 : 24; i > 0; i--) { /* Clenshaw's recurrence */
        const vec next = 2 * t * now - last + series[i];
        last = now;
        now = next;
    }
    return (t * now - last + series[0]) / (2 + 4 * z);
}

#define vexp NAME(vexp)
#define vtanh NAME(vtanh)
#define vsigmoid NAME(vsigmoid)
#define vgaussian NAME(vgaussian)
#define vnormal_tail NAME(vnormal_tail)
