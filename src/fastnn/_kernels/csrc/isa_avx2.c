/* AVX2 with FMA: 16 registers hold 6 x 2 sums, a row of B and a broadcast. */
#include "kernels.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define ISA avx2
#define VBYTES 32
#define MR 6
#define NV 2
#include "instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
