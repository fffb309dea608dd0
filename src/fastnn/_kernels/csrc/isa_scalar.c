/* The portable build: 16-byte vectors with whatever the compiler's baseline offers. */
#include "kernels.h"
#define ISA scalar
#define VBYTES 16
#define MR 4
#define NV 2
#include "instantiate.h"
