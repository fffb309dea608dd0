/* A meeting of a few threads that wait for each other again and again, at every step of a recurrence.
 *
 * An OpenMP barrier or region takes microseconds where idle threads sleep; this takes 0.1 to 0.2 while the others
 * are running. Where other programs want the processors one member is often not running, and the rest wait for
 * its next slice of time: an LSTM of 0.36 ms took 10 ms. A member that waits so long yields its processor and
 * reports the other as late; where that happens twice in a short while nobody is to meet for another, longer each
 * time. Once alone is no reason: it is a thread that wakes, or an interrupt (an LSTM of 50 steps, H = 512: 2.9 ms
 * by two threads, of which one is now and then late by half a millisecond, 5.6 ms by one).
 */
#ifndef FASTNN_BARRIER_H
#define FASTNN_BARRIER_H

#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
static inline void fnn_yield(void) { SwitchToThread(); }
#else
#include <sched.h>
static inline void fnn_yield(void) { sched_yield(); }
#endif

static inline void fnn_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* some 10 ns, as a pause takes; `yield` takes none */
#endif
}

enum { FNN_SPINS = 10000 };  /* 0.1 to 0.5 ms: longer than a thread takes to wake */

typedef struct {
    int arrived, round, stop, late;
    char apart[128 - 4 * sizeof(int)]; /* no line is of two, wherever the first begins */
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
        if (spins == FNN_SPINS) __atomic_store_n(&b->late, 1, __ATOMIC_RELAXED);
        if (spins >= FNN_SPINS)
            fnn_yield();
        else
            fnn_pause();
    }
    return b->stop;
}

/* Until when nobody is to meet, how long that is, and when someone was late last, in nanoseconds: a recess takes at
 * least 20 ms, at most a second. */
typedef struct {
    int64_t until, pause, late;
} fnn_recess;

static inline int fnn_may_meet(const fnn_recess *r, int64_t now) {
    return now >= __atomic_load_n(&r->until, __ATOMIC_RELAXED);
}

/* After a pass whose members met: whether one was late. */
static inline void fnn_adjourn(fnn_recess *r, int late, int64_t now) {
    const int64_t shortest = 20 * 1000 * 1000, longest = 1000 * 1000 * 1000;
    int64_t pause = 2 * __atomic_load_n(&r->pause, __ATOMIC_RELAXED);
    const int again = pause > 0 || now - __atomic_load_n(&r->late, __ATOMIC_RELAXED) < shortest;
    pause = !late || !again ? 0 : pause < shortest ? shortest : pause > longest ? longest : pause;
    __atomic_store_n(&r->pause, pause, __ATOMIC_RELAXED);
    if (late) __atomic_store_n(&r->late, now, __ATOMIC_RELAXED);
    if (pause) __atomic_store_n(&r->until, now + pause, __ATOMIC_RELAXED);
}
#endif
