/* The portable build: 16-byte vectors with whatever the compiler's baseline offers. Few machines run it, so it is
 * compiled for less room: -O3's copies of loops took 54 KB more of a wheel of 2 MB. AddressSanitizer's code takes
 * minutes more to compile so. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#pragma GCC optimize("O2")
#endif
#include "kernels.h"
#define ISA scalar
#define VBYTES 16
#define MR 4
#define NV 2
#include "instantiate.h"
