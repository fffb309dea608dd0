/* AVX2's own words for what simd.h names: one instruction where compilers make a comparison and a selection.
 * Included once per dtype. */

INLINE vec NAME(lesser)(vec a, vec b) {
    return FLOAT ? (vec)_mm256_min_ps((__m256)a, (__m256)b) : (vec)_mm256_min_pd((__m256d)a, (__m256d)b);
}
INLINE vec NAME(larger)(vec a, vec b) {
    return FLOAT ? (vec)_mm256_max_ps((__m256)a, (__m256)b) : (vec)_mm256_max_pd((__m256d)a, (__m256d)b);
}
INLINE vec NAME(by_sign)(vec x, vec negative, vec positive) {
    return FLOAT ? (vec)_mm256_blendv_ps((__m256)positive, (__m256)negative, (__m256)x)
                 : (vec)_mm256_blendv_pd((__m256d)positive, (__m256d)negative, (__m256d)x);
}
INLINE vec NAME(square_rest)(vec a, vec square) {
    return FLOAT ? (vec)_mm256_fmsub_ps((__m256)a, (__m256)a, (__m256)square)
                 : (vec)_mm256_fmsub_pd((__m256d)a, (__m256d)a, (__m256d)square);
}
INLINE void NAME(store_past)(real *p, vec v) { _mm256_stream_ps((float *)p, (__m256)v); }
INLINE vec NAME(root)(vec x) {
    return FLOAT ? (vec)_mm256_sqrt_ps((__m256)x) : (vec)_mm256_sqrt_pd((__m256d)x);
}
