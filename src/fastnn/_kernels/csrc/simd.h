/* The vector type that kernel bodies are written on: `vec`, VLEN elements of `real`.
 *
 * GCC and Clang vector extensions carry most of it: + - * / and comparisons work on `vec` as on
 * scalars, and a * b + c becomes a fused multiply-add where the instruction set has one
 * (-ffp-contract=fast). Included once per dtype by instantiate.h, which defines `real`, `NAME`
 * and the integer type `bits` of the same width; VBYTES comes from the instruction set's file.
 */
#define FLOAT (sizeof(real) == sizeof(float))
#if VBYTES >= 32 || defined(__FMA__) || defined(__aarch64__)
#define FUSED 1 /* a multiply-add rounds once; Clang's attributes define no macro that says so */
#else
#define FUSED 0
#endif
#define VLEN ((int)(VBYTES / sizeof(real)))

typedef real NAME(vec) __attribute__((vector_size(VBYTES)));
typedef real NAME(uvec) __attribute__((vector_size(VBYTES), aligned(sizeof(real)), may_alias));
typedef bits NAME(mask) __attribute__((vector_size(VBYTES))); /* what a comparison gives: 0 or -1 */
typedef bits NAME(umask) __attribute__((vector_size(VBYTES), aligned(sizeof(real)), may_alias));

#define vec NAME(vec)
#define mask NAME(mask)
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
/* Of a function whose instructions wait one for the other: those of two vectors that stand side by side in a loop are
 * mixed, where GCC for x86 leaves each vector's together. */
#if defined(__x86_64__) && !defined(__clang__)
#define MIXED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define MIXED
#endif

INLINE vec NAME(load)(const real *p) { return *(const NAME(uvec) *)p; }
/* Of arrays that others made: NumPy's begin 16 bytes into a cache line, so that a vector that is a line lies across
 * two; of its halves one does. Zen 5, 1 to 26 MB: pooling .66 of the time, relu .75, batch norm .5.
 * Functions that compute, softmax, maxima with places out of runs and optimizers gained nothing.
 */
#if VBYTES == 64
INLINE vec NAME(load_across)(const real *p) {
    const __m256i low = _mm256_loadu_si256((const __m256i *)p), high = _mm256_loadu_si256((const __m256i *)p + 1);
    return (vec)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
#else
INLINE vec NAME(load_across)(const real *p) { return NAME(load)(p); }
#endif
INLINE void NAME(store)(real *p, vec v) { *(NAME(uvec) *)p = v; }
INLINE vec NAME(splat)(real x) { return x - (vec){0}; } /* x - 0 keeps the sign of a zero */

/* The first n < VLEN elements; the others read as zero and are not written. Where the instruction set has
 * masked moves they serve: a copy of unknown length is a call of memcpy, some 10 ns each. */
#if VBYTES == 64
INLINE vec NAME(load_part)(const real *p, ptrdiff_t n) {
    const unsigned used = (1u << n) - 1;
    return FLOAT ? (vec)_mm512_maskz_loadu_ps((__mmask16)used, p)
                             : (vec)_mm512_maskz_loadu_pd((__mmask8)used, p);
}
INLINE void NAME(store_part)(real *p, vec v, ptrdiff_t n) {
    const unsigned used = (1u << n) - 1;
    if (FLOAT)
        _mm512_mask_storeu_ps(p, (__mmask16)used, (__m512)v);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)used, (__m512d)v);
}
#elif VBYTES == 32
static const bits NAME(first_used)[2 * 32 / sizeof(bits)] = {[0 ... 32 / sizeof(bits) - 1] = -1};
INLINE vec NAME(load_part)(const real *p, ptrdiff_t n) {
    const __m256i used = _mm256_loadu_si256((const __m256i *)(NAME(first_used) + VLEN - n));
    return FLOAT ? (vec)_mm256_maskload_ps((const float *)p, used)
                             : (vec)_mm256_maskload_pd((const double *)p, used);
}
/* In pieces: a masked store takes 17 cycles on a Zen 3. */
INLINE void NAME(store_part)(real *p, vec v, ptrdiff_t n) {
    if (FLOAT) {
        __m128 rest = _mm256_castps256_ps128((__m256)v);
        if (n & 4) {
            _mm_storeu_ps((float *)p, rest);
            rest = _mm256_extractf128_ps((__m256)v, 1);
            p += 4;
        }
        if (n & 2) {
            _mm_storel_pi((__m64 *)p, rest);
            rest = _mm_movehl_ps(rest, rest);
            p += 2;
        }
        if (n & 1) _mm_store_ss((float *)p, rest);
    } else {
        __m128d rest = _mm256_castpd256_pd128((__m256d)v);
        if (n & 2) {
            _mm_storeu_pd((double *)p, rest);
            rest = _mm256_extractf128_pd((__m256d)v, 1);
            p += 2;
        }
        if (n & 1) _mm_store_sd((double *)p, rest);
    }
}
#else
INLINE vec NAME(load_part)(const real *p, ptrdiff_t n) {
    vec v = {0};
    __builtin_memcpy(&v, p, (size_t)n * sizeof(real));
    return v;
}
INLINE void NAME(store_part)(real *p, vec v, ptrdiff_t n) {
    __builtin_memcpy(p, &v, (size_t)n * sizeof(real));
}
#endif

/* The first n elements of a vector's worth, n of any size. */
INLINE vec NAME(load_first)(const real *p, ptrdiff_t n) {
    return n >= VLEN ? NAME(load)(p) : n > 0 ? NAME(load_part)(p, n) : (vec){0};
}
INLINE vec NAME(load_first_across)(const real *p, ptrdiff_t n) {
    return n >= VLEN ? NAME(load_across)(p) : NAME(load_first)(p, n);
}
INLINE void NAME(store_first)(real *p, vec v, ptrdiff_t n) {
    if (n >= VLEN)
        NAME(store)(p, v);
    else if (n > 0)
        NAME(store_part)(p, v, n);
}

INLINE vec NAME(select)(mask m, vec yes, vec no) { /* of a comparison: where it holds, `yes` */
    return (vec)((m & (mask)yes) | (~m & (mask)no));
}
/* Lane i of the result is lane from[i] of x. */
INLINE vec NAME(permute)(vec x, mask from) {
#if defined(__clang__)
    vec y;
    for (int i = 0; i < VLEN; i++) y[i] = x[from[i]];
    return y;
#else
    return __builtin_shuffle(x, from);
#endif
}
/* Likewise of x and y, whose lanes are counted on from those of x. */
INLINE vec NAME(permute2)(vec x, vec y, mask from) {
#if defined(__clang__)
    vec z;
    for (int i = 0; i < VLEN; i++) z[i] = from[i] < VLEN ? x[from[i]] : y[from[i] - VLEN];
    return z;
#else
    return __builtin_shuffle(x, y, from);
#endif
}
/* What the vector extensions have no word for, or compilers several instructions.
 *
 *     lesser, larger  b where either is NaN
 *     larger_or_nan   the larger one, a where they are equal; NaN where either is
 *     take_larger     where v is larger than best, or the first NaN, it takes its place
 *     take_equal      `where`, but `here` where v equals best
 *     by_sign         one or the other by the sign bit of x
 *     times_power     (1 + p) 2^k from k and WHOLE, overflow and denormals as they should be
 *     times_low_power the same for k <= 0
 *     square_rest     a^2 - square, exactly, where square is a^2 rounded
 *     quotient        x / (a + rest), where rest is what a sum a lost in rounding
 *     ratio           x / a
 *     root            the square root
 *     store_past      store past the caches; p is a multiple of VBYTES. Other threads read it after
 *                     fnn_fence_past (tasks.h)
 *
 * WHOLE is so large that a number added to it loses its fraction; the last bits of the sum are the whole number.
 */
#define WHOLE (FLOAT ? (real)0x1.8p23 : (real)0x1.8p52)
#define DIGITS (FLOAT ? 23 : 52)
#define BIAS (FLOAT ? 127 : 1023) /* of exponents */
#define PAST_CACHES (VBYTES >= 32) /* store_past goes past them; else it is a store */
#if VBYTES == 64
#include "simd_avx512.h"
#else
#if VBYTES == 32
#include "simd_avx2.h"
#else
INLINE vec NAME(lesser)(vec a, vec b) { return NAME(select)(a < b, a, b); }
INLINE vec NAME(larger)(vec a, vec b) { return NAME(select)(a > b, a, b); }
INLINE vec NAME(by_sign)(vec x, vec negative, vec positive) {
    return NAME(select)((mask)x < 0, negative, positive);
}
/* Dekker: the upper half of the digits of a has an exact square. */
INLINE vec NAME(square_rest)(vec a, vec square) {
    const int half = FLOAT ? 12 : 27;
    const vec high = (vec)(((mask)a >> half) << half), low = a - high;
    return (high * high - square) + 2 * high * low + low * low;
}
#endif
INLINE vec NAME(larger_or_nan)(vec a, vec b) { return NAME(select)(b != b, b, NAME(larger)(b, a)); }
INLINE void NAME(take_larger)(vec *best, mask *where, vec v, mask here) {
    const mask stays = (*best >= v) | (*best != *best);
    *best = NAME(select)(stays, *best, v);
    *where = (mask)NAME(select)(stays, (vec)*where, (vec)here);
}
INLINE mask NAME(take_equal)(mask where, vec v, vec best, mask here) {
    return (mask)NAME(select)(v == best, (vec)here, (vec)where);
}
/* One rounding where multiply-adds are fused, and none of 1 + p. */
INLINE vec NAME(one_more_times)(vec p, vec scale) { return FUSED ? p * scale + scale : (p + 1) * scale; }
INLINE vec NAME(times_power)(vec p, vec k) {
    /* In two factors: k alone may lie outside the exponents of normal numbers. */
    const mask whole = (mask)k - (mask)NAME(splat)(WHOLE), half = whole >> 1;
    return NAME(one_more_times)(p, (vec)((half + BIAS) << DIGITS)) * (vec)((whole - half + BIAS) << DIGITS);
}
/* Far below the normal numbers 2^k is none: it is raised, and the product lowered, which rounds once. */
INLINE vec NAME(times_low_power)(vec p, vec k) {
    const vec raised = (vec)(((mask)k << DIGITS) + (mask)NAME(splat)(FLOAT ? (real)0x1p64 : (real)0x1p512));
    return NAME(one_more_times)(p, raised) * NAME(splat)(FLOAT ? (real)0x1p-64 : (real)0x1p-512);
}
INLINE vec NAME(quotient)(vec x, vec a, vec rest) {
#if FUSED
    const vec inverse = 1 / a, y = x * inverse;
    return y + inverse * ((x - y * a) - y * rest);
#else /* where y * a is rounded, what remains of x is not worth having */
    const vec y = x / a;
    return y - y * (rest / a);
#endif
}
INLINE vec NAME(ratio)(vec x, vec a) { return x / a; }
#endif

#if VBYTES < 32
INLINE void NAME(store_past)(real *p, vec v) { NAME(store)(p, v); }
INLINE vec NAME(root)(vec x) {
    vec y;
    for (int i = 0; i < VLEN; i++) y[i] = FLOAT ? (real)__builtin_sqrtf((float)x[i]) : (real)__builtin_sqrt(x[i]);
    return y;
}
#endif

/* As store, or past the caches. */
INLINE void NAME(put)(int past, real *p, vec v) {
    if (PAST_CACHES && past)
        NAME(store_past)(p, v);
    else
        NAME(store)(p, v);
}

/* max(0, x), NaN kept: the comparison is false for NaN, so NaN takes the branch of x. */
INLINE vec NAME(relu1)(vec x) { return NAME(select)(x <= (vec){0}, (vec){0}, x); }

/* What a product does to its sums before it stores them: nothing (0), max(0, x) (1), min(6, max(0, x)) (2); the
 * last two by the same two instructions, with this upper bound. NaN is kept. */
INLINE vec NAME(upper_bound)(int relu) { return NAME(splat)(relu == 2 ? 6 : (real)__builtin_inf()); }
INLINE vec NAME(between)(vec x, vec upper) { return NAME(lesser)(upper, NAME(larger)((vec){0}, x)); }
INLINE vec NAME(rectify)(vec x, int relu) { return relu ? NAME(between)(x, NAME(upper_bound)(relu)) : x; }

#define load NAME(load)
#define store NAME(store)
#define splat NAME(splat)
#define load_across NAME(load_across)
#define load_part NAME(load_part)
#define store_part NAME(store_part)
#define select NAME(select)
#define lesser NAME(lesser)
#define larger NAME(larger)
#define larger_or_nan NAME(larger_or_nan)
#define take_larger NAME(take_larger)
#define take_equal NAME(take_equal)
#define by_sign NAME(by_sign)
#define square_rest NAME(square_rest)
#define times_power NAME(times_power)
#define times_low_power NAME(times_low_power)
#define quotient NAME(quotient)
#define ratio NAME(ratio)
#define root NAME(root)
#define permute NAME(permute)
#define permute2 NAME(permute2)
#define relu1 NAME(relu1)
