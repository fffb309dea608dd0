/* The vector type that kernel bodies are written on: `vec`, VLEN elements of `real`.
 *
 * GCC and Clang vector extensions carry most of it: + - * / and comparisons work on `vec` as on
 * scalars, and a * b + c becomes a fused multiply-add where the instruction set has one
 * (-ffp-contract=fast). Included once per dtype by instantiate.h, which defines `real`, `NAME`
 * and the integer type `bits` of the same width; VBYTES comes from the instruction set's file.
 */
#define VLEN ((int)(VBYTES / sizeof(real)))

typedef real NAME(vec) __attribute__((vector_size(VBYTES)));
typedef real NAME(uvec) __attribute__((vector_size(VBYTES), aligned(sizeof(real)), may_alias));
typedef bits NAME(mask) __attribute__((vector_size(VBYTES))); /* what a comparison gives: 0 or -1 */

#define vec NAME(vec)
#define mask NAME(mask)
#define INLINE static inline __attribute__((always_inline))

INLINE vec NAME(load)(const real *p) { return *(const NAME(uvec) *)p; }
INLINE void NAME(store)(real *p, vec v) { *(NAME(uvec) *)p = v; }
INLINE vec NAME(splat)(real x) { return x - (vec){0}; } /* x - 0 keeps the sign of a zero */

/* The first n < VLEN elements; the others read as zero and are not written. Where the instruction set has
 * masked moves they serve: a copy of unknown length is a call of memcpy, some 10 ns each. */
#if VBYTES == 64
INLINE vec NAME(load_part)(const real *p, ptrdiff_t n) {
    const unsigned used = (1u << n) - 1;
    return sizeof(real) == 4 ? (vec)_mm512_maskz_loadu_ps((__mmask16)used, p)
                             : (vec)_mm512_maskz_loadu_pd((__mmask8)used, p);
}
INLINE void NAME(store_part)(real *p, vec v, ptrdiff_t n) {
    const unsigned used = (1u << n) - 1;
    if (sizeof(real) == 4)
        _mm512_mask_storeu_ps(p, (__mmask16)used, (__m512)v);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)used, (__m512d)v);
}
#elif VBYTES == 32
static const bits NAME(first_used)[2 * 32 / sizeof(bits)] = {[0 ... 32 / sizeof(bits) - 1] = -1};
INLINE vec NAME(load_part)(const real *p, ptrdiff_t n) {
    const __m256i used = _mm256_loadu_si256((const __m256i *)(NAME(first_used) + VLEN - n));
    return sizeof(real) == 4 ? (vec)_mm256_maskload_ps((const float *)p, used)
                             : (vec)_mm256_maskload_pd((const double *)p, used);
}
INLINE void NAME(store_part)(real *p, vec v, ptrdiff_t n) {
    const __m256i used = _mm256_loadu_si256((const __m256i *)(NAME(first_used) + VLEN - n));
    if (sizeof(real) == 4)
        _mm256_maskstore_ps((float *)p, used, (__m256)v);
    else
        _mm256_maskstore_pd((double *)p, used, (__m256d)v);
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
INLINE void NAME(store_first)(real *p, vec v, ptrdiff_t n) {
    if (n >= VLEN)
        NAME(store)(p, v);
    else if (n > 0)
        NAME(store_part)(p, v, n);
}

INLINE vec NAME(select)(mask m, vec yes, vec no) {
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
/* max(0, x), NaN kept: the comparison is false for NaN, so NaN takes the branch of x. */
INLINE vec NAME(relu1)(vec x) { return NAME(select)(x <= (vec){0}, (vec){0}, x); }

#define load NAME(load)
#define store NAME(store)
#define splat NAME(splat)
#define load_part NAME(load_part)
#define store_part NAME(store_part)
#define select NAME(select)
#define permute NAME(permute)
#define permute2 NAME(permute2)
#define relu1 NAME(relu1)
