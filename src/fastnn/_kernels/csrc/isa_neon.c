/* NEON on 64-bit ARM, part of the baseline there: 32 registers hold 8 x 3 sums, a row of B. */
#include "kernels.h"
#if defined(__aarch64__)
#define ISA neon
#define VBYTES 16
#define MR 8
#define NV 3
#include "instantiate.h"
#endif
