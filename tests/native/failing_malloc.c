/* Preloaded before a process: fails the n-th allocation that code in given ranges of addresses asks for, or
   NumPy for an array, and counts how many of these are alive. See test_memory.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { RANGES = 256, TABLE = 1 << 16 };

static uintptr_t ranges[RANGES][2];
static int range_count;
static long countdown, asked;
static void *alive[TABLE];
static long alive_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void shim_watch(uintptr_t low, uintptr_t high) {
    if (range_count < RANGES) {
        ranges[range_count][0] = low;
        ranges[range_count++][1] = high;
    }
}
/* The n-th allocation from now on fails, once; 0 for none. */
void shim_fail(long n) { countdown = n, asked = 0; }
long shim_asked(void) { return asked; }
long shim_alive(void) { return alive_count; }

static int watched(void *caller) {
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)caller >= ranges[i][0] && (uintptr_t)caller < ranges[i][1])
            return 1;
    return 0;
}

static int fails(void) {
    asked++;
    if (countdown && --countdown == 0) {
        errno = ENOMEM;
        return 1;
    }
    return 0;
}

static size_t slot_of(void *block) { return ((uintptr_t)block >> 4) * 2654435761u % TABLE; }

static void *keep(void *block) {
    if (block) {
        pthread_mutex_lock(&lock);
        size_t slot = slot_of(block);
        for (int i = 0; i < TABLE && alive[slot] && alive[slot] != (void *)1; i++)
            slot = (slot + 1) % TABLE;
        alive[slot] = block;
        alive_count++;
        pthread_mutex_unlock(&lock);
    }
    return block;
}

static void forget(void *block) {
    if (!block || !alive_count)
        return;
    pthread_mutex_lock(&lock);
    size_t slot = slot_of(block);
    for (int i = 0; i < TABLE && alive[slot]; i++, slot = (slot + 1) % TABLE)
        if (alive[slot] == block) {
            alive[slot] = (void *)1;  /* a gap: later ones may lie behind it */
            alive_count--;
            break;
        }
    pthread_mutex_unlock(&lock);
}

/* glibc's own names: no dlsym, which itself allocates. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

void *malloc(size_t size) {
    if (!watched(__builtin_return_address(0)))
        return __libc_malloc(size);
    return fails() ? NULL : keep(__libc_malloc(size));
}
void *calloc(size_t n, size_t size) {
    if (!watched(__builtin_return_address(0)))
        return __libc_calloc(n, size);
    return fails() ? NULL : keep(__libc_calloc(n, size));
}
void *realloc(void *block, size_t size) {
    if (!watched(__builtin_return_address(0))) {
        void *moved = __libc_realloc(block, size);
        if (moved && moved != block)
            forget(block);
        return moved;
    }
    if (fails())
        return NULL;
    forget(block);
    return keep(__libc_realloc(block, size));
}
int posix_memalign(void **block, size_t alignment, size_t size) {
    const int ours = watched(__builtin_return_address(0));
    void *made = ours && fails() ? NULL : __libc_memalign(alignment, size);
    if (!made)
        return ENOMEM;
    *block = ours ? keep(made) : made;
    return 0;
}
void free(void *block) {
    forget(block);
    __libc_free(block);
}

/* NumPy's handler of the memory of arrays (numpy/ndarraytypes.h, PyDataMem_Handler). */
static void *array_malloc(void *unused, size_t size) {
    return (void)unused, fails() ? NULL : keep(__libc_malloc(size));
}
static void *array_calloc(void *unused, size_t n, size_t size) {
    return (void)unused, fails() ? NULL : keep(__libc_calloc(n, size));
}
static void *array_realloc(void *unused, void *block, size_t size) {
    (void)unused;
    if (fails())
        return NULL;
    forget(block);
    return keep(__libc_realloc(block, size));
}
static void array_free(void *unused, void *block, size_t size) { (void)unused, (void)size, free(block); }

struct {
    char name[127];
    uint8_t version;
    void *context;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *, size_t);
} shim_arrays = {"failing", 1, NULL, array_malloc, array_calloc, array_realloc, array_free};
