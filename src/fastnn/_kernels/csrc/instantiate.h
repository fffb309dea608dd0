/* Compiles every body for one instruction set, once for float and once for double, and lists them
 * in the two tables that dispatch.c hands out. Included by the isa_*.c files, which define
 *     ISA      the set's name          VBYTES   bytes in a vector
 *     MR, NV   the register tile: MR rows by NV vectors (tuning figures, chosen there)
 */
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define NAME(x) PASTE(x, ISA, SUFFIX)

#define real float
#define bits int
#define SUFFIX f32
#include "bodies.h"
#undef SUFFIX
#undef bits
#undef real

#define real double
#define bits long long
#define SUFFIX f64
#include "bodies.h"
#undef SUFFIX
#undef bits
#undef real
