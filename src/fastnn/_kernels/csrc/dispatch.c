/* Which instruction sets this build has, and which of them the processor can run. */
#include "kernels.h"

extern const fnn_kernels fnn_kernels_scalar_f32, fnn_kernels_scalar_f64;

#if defined(__x86_64__)
extern const fnn_kernels fnn_kernels_avx2_f32, fnn_kernels_avx2_f64;
extern const fnn_kernels fnn_kernels_avx512_f32, fnn_kernels_avx512_f64;

/* __builtin_cpu_supports asks the operating system, too, whether it saves the wide registers. */
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
int fnn_is_intel(void) { return __builtin_cpu_is("intel") != 0; }
#else
int fnn_is_intel(void) { return 0; }
#endif

#if defined(__aarch64__)
extern const fnn_kernels fnn_kernels_neon_f32, fnn_kernels_neon_f64;
#endif

static int always(void) { return 1; }

static const struct {
    int (*supported)(void);
    const fnn_kernels *f32, *f64;
} sets[] = {
    {always, &fnn_kernels_scalar_f32, &fnn_kernels_scalar_f64},
#if defined(__x86_64__)
    {has_avx2, &fnn_kernels_avx2_f32, &fnn_kernels_avx2_f64},
    {has_avx512, &fnn_kernels_avx512_f32, &fnn_kernels_avx512_f64},
#elif defined(__aarch64__)
    {always, &fnn_kernels_neon_f32, &fnn_kernels_neon_f64},
#endif
};

int fnn_isa_count(void) { return (int)(sizeof sets / sizeof *sets); }
const char *fnn_isa_name(int isa) { return sets[isa].f32->isa; }
int fnn_isa_supported(int isa) { return sets[isa].supported(); }
const fnn_kernels *fnn_isa_table(int isa, ptrdiff_t itemsize) {
    return itemsize == sizeof(float) ? sets[isa].f32 : sets[isa].f64;
}
