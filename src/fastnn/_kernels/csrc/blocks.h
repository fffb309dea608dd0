/* Large blocks of memory, kept for the next to ask once they are given back.
 *
 * What the system gives anew it first fills with zeros, page by page as they are touched: of a convolution with
 * 77 MB of outputs that took a third of the time. Up to SLOTS blocks and KEPT_BYTES in all are kept. The
 * latest makes room for itself, at the expense of some other that chance chooses: blocks that nobody asks for any more
 * would stay else, and where a round takes more than can be kept, the oldest is the one that is wanted next. Any
 * thread may take and give at any time: a slot is emptied and filled by one atomic exchange.
 */
#ifndef FASTNN_BLOCKS_H
#define FASTNN_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { FNN_SLOTS = 32, FNN_HEADER = 64 /* a cache line */ };
#define FNN_KEPT_BYTES ((size_t)256 << 20)

static size_t *fnn_slots[FNN_SLOTS]; /* each block begins with its capacity; data follow after FNN_HEADER bytes */
static size_t fnn_kept;              /* bytes in slots */
static unsigned fnn_given;           /* so many blocks have been given back */

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

/* Empties a slot; its block, or NULL, is the caller's. */
static inline size_t *fnn_slot_empty(unsigned i) {
    size_t *block = __atomic_exchange_n(&fnn_slots[i], NULL, __ATOMIC_ACQ_REL);
    if (block) __atomic_sub_fetch(&fnn_kept, *block, __ATOMIC_RELAXED);
    return block;
}

/* Whether there was room for the block, and the slot was empty and has it now. */
static inline int fnn_slot_fill(unsigned i, size_t *block) {
    size_t *empty = NULL;
    const size_t size = *block; /* once it lies in the slot it may be another's */
    if (__atomic_add_fetch(&fnn_kept, size, __ATOMIC_RELAXED) <= FNN_KEPT_BYTES
        && __atomic_compare_exchange_n(&fnn_slots[i], &empty, block, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return 1;
    __atomic_sub_fetch(&fnn_kept, size, __ATOMIC_RELAXED);
    return 0;
}

/* `size` bytes, from a slot whose block is large enough and not twice as large. NULL when memory is short. */
static inline void *fnn_block_take(size_t size) {
    for (unsigned i = 0; i < FNN_SLOTS; i++) {
        size_t *block = fnn_slot_empty(i);
        if (!block) continue;
        if (*block >= size && *block / 2 <= size) return (char *)block + FNN_HEADER;
        if (!fnn_slot_fill(i, block)) free(block);
    }
    return fnn_block_new(size);
}

static inline void fnn_block_give(void *data) {
    size_t *block = (size_t *)((char *)data - FNN_HEADER);
    const unsigned chance = __atomic_add_fetch(&fnn_given, 1, __ATOMIC_RELAXED) * 2654435761u >> 16;
    if (*block <= FNN_KEPT_BYTES) {
        for (unsigned i = 0; i < FNN_SLOTS; i++) {
            if (__atomic_load_n(&fnn_kept, __ATOMIC_RELAXED) + *block <= FNN_KEPT_BYTES) break;
            free(fnn_slot_empty((chance + i) % FNN_SLOTS));
        }
        for (unsigned i = 0; i < FNN_SLOTS; i++)
            if (fnn_slot_fill(i, block)) return;
        free(fnn_slot_empty(chance % FNN_SLOTS));
        if (fnn_slot_fill(chance % FNN_SLOTS, block)) return;
    }
    free(block);
}

/* Small memory is malloc's, which begins 16 bytes into a line: a vector's load from it then takes two lines, and as
 * long as two. It is moved on to the next line, before which lies where it began. (Sapphire Rapids, one thread, where
 * also larger ones were malloc's: Winograd, 16 x 64 x 56 x 56 -> 64, .89 of the time; gradients of Linear, 64 x 1024
 * -> 1024 .92, of one row .85.) */
static inline void *fnn_small_take(size_t size) {
    char *memory = malloc(size + FNN_HEADER), *line;
    if (!memory) return NULL;
    line = memory + FNN_HEADER - (uintptr_t)memory % FNN_HEADER;
    ((void **)line)[-1] = memory;
    return line;
}
static inline void fnn_small_give(void *line) { free(((void **)line)[-1]); }

/* Free all that is kept. */
static inline void fnn_block_release(void) {
    for (unsigned i = 0; i < FNN_SLOTS; i++) free(fnn_slot_empty(i));
}

#endif
