/* AVX-512: 32 registers hold 14 x 2 sums, a row of B and a broadcast. */
#include "kernels.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")
#endif
#define ISA avx512
#define VBYTES 64
#define MR 14
#define NV 2
#include "instantiate.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
