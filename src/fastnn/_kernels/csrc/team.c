/* Who may lead a team of threads.

   GNU OpenMP gives every thread that leads a team workers of its own, and keeps them until the leader ends.
   Eight Python threads that call kernels on a machine with 32 processors would have 248 workers, all awake
   at once. So one calling thread leads at a time; whoever else calls meanwhile computes alone, which keeps
   the processors as busy. The bits are the same either way (see team_size in runtime.pyx).

   The lead passes on when the leader has led nothing for QUIET_NS. A former leader gives its workers back as
   soon as it finds that another leads; one that never calls again keeps them, asleep, so the number of those
   is bounded, too.

   A fork copies the calling thread alone: GNU OpenMP would wait in the child for workers that are not there,
   for ever. Giving the workers back before the fork leaves parent and child to make new ones.

   Other runtimes (LLVM, Microsoft) share one set of workers among all callers; LLVM's minds forks itself. */
#define _GNU_SOURCE
#include "team.h"

#include <math.h>
#include <time.h>

#include "barrier.h"
#include "threads.h"

#ifdef CLOCK_MONOTONIC_COARSE
#define CLOCK CLOCK_MONOTONIC_COARSE
#else
#define CLOCK CLOCK_MONOTONIC
#endif

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t fnn_coarse_ns(void) { return nanoseconds(CLOCK); }

/* Workers turn for a while before they sleep (WAITING in __init__.py): 30 us on Zen 3. After work that one thread
   did alone they do sleep, but are worth waking where calls come so close: they stay awake for those after. */
static const int64_t AWAKE_NS = 16 * 1000;
static int64_t awake_until;
static _Thread_local int alone; /* what this thread does now */

int fnn_work_follows(void) {
    return nanoseconds(CLOCK_MONOTONIC) < __atomic_load_n(&awake_until, __ATOMIC_RELAXED);
}

void fnn_work_done(int team) {
    if (!team && !alone) return;
    alone = 0;
    __atomic_store_n(&awake_until, nanoseconds(CLOCK_MONOTONIC) + AWAKE_NS, __ATOMIC_RELAXED);
}

/* At the end of OpenMP's region a thread sleeps when it has turned for those 30 us: less than the last task of another
   may take, and waking it for the next call takes longer than both. So it waits awake for the others first. Where one
   was late twice in a short while, another program has its processor, or two share one: then for a while not. */
void fnn_finish(int *done, int members) {
    static fnn_recess recess;
    const int64_t now = fnn_coarse_ns();
    int spins = 0;
    __atomic_add_fetch(done, 1, __ATOMIC_ACQ_REL);
    if (!fnn_may_meet(&recess, now)) return;
    while (spins < FNN_SPINS && __atomic_load_n(done, __ATOMIC_ACQUIRE) < members) {
        fnn_pause();
        spins++;
    }
    if (spins == FNN_SPINS || __atomic_load_n(&recess.pause, __ATOMIC_RELAXED))
        fnn_adjourn(&recess, spins == FNN_SPINS, now);
}

#if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && !defined(_WIN32)
#include <pthread.h>

static const int64_t QUIET_NS = 20 * 1000 * 1000;
/* Workers of all leaders, most of them asleep; two leaders are always allowed. */
enum { WORKERS = 64 };

/* Whether this thread has workers; its address is the thread's name. */
static _Thread_local int pool;
static int pools;
static const int *leader;
static int64_t busy_until;
static pthread_key_t at_thread_exit;

static const int *current_leader(void) { return __atomic_load_n(&leader, __ATOMIC_ACQUIRE); }

/* Another's workers are none of this thread's. */
void fnn_work_alone(void) {
    const int *found = current_leader();
    alone = !found || found == &pool;
}

static int replace_leader(const int *old, const int *new) {
    return __atomic_compare_exchange_n(&leader, &old, new, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void leave(void *unused) {
    (void)unused;
    replace_leader(&pool, NULL);
    if (pool) {
        pool = 0;
        __atomic_sub_fetch(&pools, 1, __ATOMIC_RELAXED);
    }
}

static void give_workers_back(void) {
    if (pool && omp_pause_resource_all(omp_pause_soft) == 0)
        leave(NULL);
}

static void in_child(void) {
    leader = NULL;
    awake_until = 0;
    pools = pool;  /* 1 only if the workers could not be given back */
}

int fnn_team_start(void) {
    int error = pthread_key_create(&at_thread_exit, leave);
    return error ? error : pthread_atfork(give_workers_back, NULL, in_child);
}

int fnn_team_pools(void) { return __atomic_load_n(&pools, __ATOMIC_RELAXED); }

static int join_leaders(int team) {
    int allowed = WORKERS / (team - 1);
    if (pool)
        return 1;
    if (__atomic_add_fetch(&pools, 1, __ATOMIC_RELAXED) > (allowed < 2 ? 2 : allowed)) {
        __atomic_sub_fetch(&pools, 1, __ATOMIC_RELAXED);
        return 0;
    }
    pthread_setspecific(at_thread_exit, &pool);  /* any value but NULL has `leave` called */
    pool = 1;
    return 1;
}

int fnn_may_lead(double serial_ns, int team) {
    int64_t now = fnn_coarse_ns();
    const int *found = current_leader();
    if (found != &pool) {
        if (found && now < __atomic_load_n(&busy_until, __ATOMIC_RELAXED)) {
            give_workers_back();
            return 0;
        }
        if (!join_leaders(team) || !replace_leader(found, &pool))
            return 0;
    }
    __atomic_store_n(&busy_until, now + (int64_t)fmin(serial_ns, 1e18) + QUIET_NS, __ATOMIC_RELAXED);
    return 1;
}

#else

void fnn_work_alone(void) { alone = 1; }
int fnn_team_start(void) { return 0; }
int fnn_team_pools(void) { return 0; }
int fnn_may_lead(double serial_ns, int team) {
    (void)serial_ns;
    (void)team;
    return 1;
}

#endif
