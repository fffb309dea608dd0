/* The portable build: 16-byte vectors with whatever the compiler's baseline offers. Few machines run it, so it is
 * compiled for less room: with -O2 it is 1.03 to 1.08 times as fast, and a wheel of 1.9 MB 72 KB larger, with -O3
 * 126 KB. AddressSanitizer's code takes minutes more to compile so. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("Os")
#endif
#include "kernels.h"
#define ISA scalar
#define VBYTES 16
#define MR 4
#define NV 2
#include "instantiate.h"
