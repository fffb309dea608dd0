/* Large blocks of memory, kept for the next to ask once they are given back.
 *
 * What the system gives anew it first fills with zeros, page by page as they are touched: of a convolution with
 * 77 MB of outputs that took a third of the time. Up to SLOTS blocks and KEPT_BYTES in all are kept. Any thread
 * may take and give at any time: a slot is emptied and filled by one atomic exchange.
 */
#ifndef FASTNN_BLOCKS_H
#define FASTNN_BLOCKS_H

#include <stddef.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { FNN_SLOTS = 32, FNN_HEADER = 64 };
#define FNN_KEPT_BYTES ((size_t)256 << 20)

static size_t *fnn_slots[FNN_SLOTS]; /* each block begins with its capacity; data follow after FNN_HEADER bytes */
static size_t fnn_kept;              /* bytes in slots */

static inline void *fnn_block_new(size_t size) {
    size_t *block;
    if (size > (size_t)-1 - (4u << 20)) return NULL;
#if defined(__linux__)
    /* on the boundary of a huge page, and in huge pages where the system asks for advice */
    const size_t huge = (size_t)2 << 20;
    if (posix_memalign((void **)&block, size < huge ? FNN_HEADER : huge, size + FNN_HEADER)) return NULL;
    if (size >= huge) madvise(block, size + FNN_HEADER, MADV_HUGEPAGE);
#else
    block = malloc(size + FNN_HEADER);
    if (!block) return NULL;
#endif
    *block = size;
    return (char *)block + FNN_HEADER;
}

/* `size` bytes, from a slot whose block is large enough and not twice as large. NULL when memory is short. */
static inline void *fnn_block_take(size_t size) {
    for (int i = 0; i < FNN_SLOTS; i++) {
        size_t *block = __atomic_exchange_n(&fnn_slots[i], NULL, __ATOMIC_ACQ_REL), *empty = NULL;
        if (!block) continue;
        if (*block >= size && *block / 2 <= size) {
            __atomic_sub_fetch(&fnn_kept, *block, __ATOMIC_RELAXED);
            return (char *)block + FNN_HEADER;
        }
        if (!__atomic_compare_exchange_n(&fnn_slots[i], &empty, block, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            __atomic_sub_fetch(&fnn_kept, *block, __ATOMIC_RELAXED);
            free(block);
        }
    }
    return fnn_block_new(size);
}

static inline void fnn_block_give(void *data) {
    size_t *block = (size_t *)((char *)data - FNN_HEADER);
    if (__atomic_add_fetch(&fnn_kept, *block, __ATOMIC_RELAXED) <= FNN_KEPT_BYTES)
        for (int i = 0; i < FNN_SLOTS; i++) {
            size_t *empty = NULL;
            if (__atomic_compare_exchange_n(&fnn_slots[i], &empty, block, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
                return;
        }
    __atomic_sub_fetch(&fnn_kept, *block, __ATOMIC_RELAXED);
    free(block);
}

/* Free all that is kept. */
static inline void fnn_block_release(void) {
    for (int i = 0; i < FNN_SLOTS; i++) {
        size_t *block = __atomic_exchange_n(&fnn_slots[i], NULL, __ATOMIC_ACQ_REL);
        if (!block) continue;
        __atomic_sub_fetch(&fnn_kept, *block, __ATOMIC_RELAXED);
        free(block);
    }
}

#endif
