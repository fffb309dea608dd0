/* A meeting of a few threads that wait for each other again and again, at every step of a recurrence.
 *
 * An OpenMP barrier or region takes microseconds where idle threads sleep; this takes 0.1 to 0.2 while the others
 * are running. A member that waits in vain for long yields its processor: they may not all have one.
 */
#ifndef FASTNN_BARRIER_H
#define FASTNN_BARRIER_H

#if defined(_WIN32)
#include <windows.h>
static inline void fnn_yield(void) { SwitchToThread(); }
#else
#include <sched.h>
static inline void fnn_yield(void) { sched_yield(); }
#endif

enum { FNN_SPINS = 4000 };

typedef struct {
    int arrived, round, stop;
    char apart[64 - 3 * sizeof(int)];
} fnn_barrier;

/* Wait for all `members`. Whether to stop is what `stop` said when the last one came: the same for all. */
static inline int fnn_meet(fnn_barrier *b, int members, const int *stop) {
    const int round = __atomic_load_n(&b->round, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_ACQ_REL) == members) {
        b->stop = __atomic_load_n(stop, __ATOMIC_RELAXED);
        b->arrived = 0;
        __atomic_store_n(&b->round, round + 1, __ATOMIC_RELEASE);
        return b->stop;
    }
    for (int spins = 0; __atomic_load_n(&b->round, __ATOMIC_ACQUIRE) == round; spins++) {
        if (spins >= FNN_SPINS) fnn_yield();
#if defined(__x86_64__)
        else __builtin_ia32_pause();
#endif
    }
    return b->stop;
}
#endif
