/* OpenMP's three questions, answered also by a build without it. */
#ifndef FASTNN_THREADS_H
#define FASTNN_THREADS_H
#ifdef _OPENMP
#include <omp.h>
#define FNN_OPENMP _OPENMP
static inline int fnn_thread_id(void) { return omp_get_thread_num(); }
static inline int fnn_in_parallel(void) { return omp_in_parallel(); }
#else
#define FNN_OPENMP 0
static inline int fnn_thread_id(void) { return 0; }
static inline int fnn_in_parallel(void) { return 0; }
#endif
#endif
