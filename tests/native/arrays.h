/* Arrays of either dtype, and numbers that are the same on every machine. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

static ptrdiff_t itemsize;

static double get(const void *p, ptrdiff_t i) { return itemsize == 4 ? ((const float *)p)[i] : ((const double *)p)[i]; }
static void set(void *p, ptrdiff_t i, double x) {
    if (itemsize == 4)
        ((float *)p)[i] = (float)x;
    else
        ((double *)p)[i] = x;
}
static void *at(const void *p, ptrdiff_t i) { return (char *)p + i * itemsize; }

/* Numbers around 1, the same ones each time. */
static void *draw(ptrdiff_t n, uint64_t seed) {
    void *p = calloc((size_t)n + 64, (size_t)itemsize);
    uint64_t state = seed * 6364136223846793005u + 1442695040888963407u;
    for (ptrdiff_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        set(p, i, (double)(int64_t)state / 4e18);
    }
    return p;
}

/* Room for n numbers from the beginning of a cache line on, as there is where they are written past the caches:
 * calloc's 16 bytes do not do. */
static void *lines(ptrdiff_t n) {
    void *p = aligned_alloc(64, ((size_t)(n * itemsize) + 63) / 64 * 64);
    if (!p) exit(2);
    return p;
}

