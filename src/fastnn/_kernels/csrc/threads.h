/* OpenMP's questions, answered also by a build without it. */
#ifndef FASTNN_THREADS_H
#define FASTNN_THREADS_H
#ifdef _OPENMP
#include <omp.h>
#define FNN_OPENMP _OPENMP
static inline int fnn_thread_id(void) { return omp_get_thread_num(); }
static inline int fnn_team_members(void) { return omp_get_num_threads(); }
static inline int fnn_in_parallel(void) { return omp_in_parallel(); }
static inline int fnn_openmp_limit(void) { return omp_get_max_threads(); }
#else
#define FNN_OPENMP 0
static inline int fnn_thread_id(void) { return 0; }
static inline int fnn_team_members(void) { return 1; }
static inline int fnn_in_parallel(void) { return 0; }
static inline int fnn_openmp_limit(void) { return 1; }
#endif

/* A flag that one thread sets and others read meanwhile. */
static inline int fnn_flag(const int *flag) { return __atomic_load_n(flag, __ATOMIC_RELAXED); }
static inline void fnn_set_flag(int *flag, int value) { __atomic_store_n(flag, value, __ATOMIC_RELAXED); }
#endif
