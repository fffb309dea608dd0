/* AVX-512's own words for what simd.h names. Included once per dtype. */

INLINE vec NAME(by_sign)(vec x, vec negative, vec positive) {
    return FLOAT ? (vec)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)x), (__m512)positive,
                                             (__m512)negative)
                 : (vec)_mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)x), (__m512d)positive,
                                             (__m512d)negative);
}
INLINE vec NAME(lesser)(vec a, vec b) {
    return FLOAT ? (vec)_mm512_min_ps((__m512)a, (__m512)b) : (vec)_mm512_min_pd((__m512d)a, (__m512d)b);
}
INLINE vec NAME(larger)(vec a, vec b) {
    return FLOAT ? (vec)_mm512_max_ps((__m512)a, (__m512)b) : (vec)_mm512_max_pd((__m512d)a, (__m512d)b);
}
/* Compared and moved under masks: half the instructions of what compilers make of comparisons and selections. */
INLINE vec NAME(larger_or_nan)(vec a, vec b) {
    return FLOAT ? (vec)_mm512_mask_max_ps((__m512)b, _mm512_cmp_ps_mask((__m512)b, (__m512)b, _CMP_ORD_Q),
                                           (__m512)b, (__m512)a)
                 : (vec)_mm512_mask_max_pd((__m512d)b, _mm512_cmp_pd_mask((__m512d)b, (__m512d)b, _CMP_ORD_Q),
                                           (__m512d)b, (__m512d)a);
}
INLINE void NAME(take_larger)(vec *best, mask *where, vec v, mask here) {
    if (FLOAT) {
        const __m512 a = (__m512)*best, b = (__m512)v;
        const __mmask16 takes = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b, _CMP_NGE_UQ);
        *best = (vec)_mm512_mask_mov_ps(a, takes, b);
        *where = (mask)_mm512_mask_mov_epi32((__m512i)*where, takes, (__m512i)here);
    } else {
        const __m512d a = (__m512d)*best, b = (__m512d)v;
        const __mmask8 takes = _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(a, a, _CMP_ORD_Q), a, b, _CMP_NGE_UQ);
        *best = (vec)_mm512_mask_mov_pd(a, takes, b);
        *where = (mask)_mm512_mask_mov_epi64((__m512i)*where, takes, (__m512i)here);
    }
}
INLINE mask NAME(take_equal)(mask where, vec v, vec best, mask here) {
    const __m512i a = (__m512i)where, b = (__m512i)here;
    return FLOAT ? (mask)_mm512_mask_mov_epi32(a, _mm512_cmp_ps_mask((__m512)v, (__m512)best, _CMP_EQ_OQ), b)
                 : (mask)_mm512_mask_mov_epi64(a, _mm512_cmp_pd_mask((__m512d)v, (__m512d)best, _CMP_EQ_OQ), b);
}
INLINE vec NAME(times_power)(vec p, vec k) {
    const vec x = p + 1, whole = k - WHOLE;
    return FLOAT ? (vec)_mm512_scalef_ps((__m512)x, (__m512)whole) : (vec)_mm512_scalef_pd((__m512d)x, (__m512d)whole);
}
INLINE vec NAME(times_low_power)(vec p, vec k) { return NAME(times_power)(p, k); }
INLINE vec NAME(square_rest)(vec a, vec square) {
    return FLOAT ? (vec)_mm512_fmsub_ps((__m512)a, (__m512)a, (__m512)square)
                 : (vec)_mm512_fmsub_pd((__m512d)a, (__m512d)a, (__m512d)square);
}
/* For float from 14 digits by table, half the time of a division; all of the others come of x - y a without a
 * rounding, which is not left to the compiler: GCC fuses nothing at -O1. */
INLINE vec NAME(quotient)(vec x, vec a, vec rest) {
    const vec inverse = FLOAT ? (vec)_mm512_rcp14_ps((__m512)a) : 1 / a, y = x * inverse;
    const vec left = FLOAT ? (vec)_mm512_fnmadd_ps((__m512)y, (__m512)a, (__m512)x)
                           : (vec)_mm512_fnmadd_pd((__m512d)y, (__m512d)a, (__m512d)x);
    return y + inverse * (left - y * rest);
}
INLINE vec NAME(ratio)(vec x, vec a) {
    if (!FLOAT) return x / a;
    const vec inverse = (vec)_mm512_rcp14_ps((__m512)a), y = x * inverse;
    return y + inverse * (vec)_mm512_fnmadd_ps((__m512)y, (__m512)a, (__m512)x);
}
INLINE void NAME(store_past)(real *p, vec v) { _mm512_stream_ps((float *)p, (__m512)v); }
INLINE vec NAME(root)(vec x) {
    return FLOAT ? (vec)_mm512_sqrt_ps((__m512)x) : (vec)_mm512_sqrt_pd((__m512d)x);
}
