/* The floating-point environment of a thread: how results are rounded, and whether denormals count.
 *
 * Kernels compute in the default one, whatever the caller or a library it loaded has set, so that equal arguments
 * give equal bits. A local variable of type fnn_environment, set by fnn_default_environment() before anything else
 * happens, holds the caller's, and gives it back however the function ends.
 *
 * That is done where Python calls in, and not in the loops: a thread starts with the environment of the one that
 * starts it, so OpenMP's workers have the default one, but for those that another library started before in the same
 * libgomp. Reading the register takes 2 ns; it is written only where it differs.
 */
#ifndef FASTNN_ENVIRONMENT_H
#define FASTNN_ENVIRONMENT_H

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef unsigned fnn_control;
/* Exceptions masked, denormals kept, round to nearest. The lowest six bits say what has happened so far. */
static const fnn_control FNN_DEFAULT = 0x1f80, FNN_SETTINGS = 0xffc0;
static inline fnn_control fnn_get_control(void) { return _mm_getcsr(); }
static inline void fnn_set_control(fnn_control control) { _mm_setcsr(control); }

#elif defined(__aarch64__)

typedef unsigned long long fnn_control;
static const fnn_control FNN_DEFAULT = 0, FNN_SETTINGS = ~0ull;
static inline fnn_control fnn_get_control(void) {
    fnn_control control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}
static inline void fnn_set_control(fnn_control control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }

#else /* a processor whose settings are not known here: they stay */

typedef int fnn_control;
static const fnn_control FNN_DEFAULT = 0, FNN_SETTINGS = 0;
static inline fnn_control fnn_get_control(void) { return 0; }
static inline void fnn_set_control(fnn_control control) { (void)control; }

#endif

static inline int fnn_is_default(fnn_control control) { return (control & FNN_SETTINGS) == FNN_DEFAULT; }

static inline fnn_control fnn_default_environment(void) {
    const fnn_control caller = fnn_get_control();
    if (!fnn_is_default(caller)) fnn_set_control(FNN_DEFAULT);
    return caller;
}

static inline void fnn_restore_environment(const fnn_control *caller) {
    if (!fnn_is_default(*caller)) fnn_set_control(*caller);
}

#define fnn_environment __attribute__((cleanup(fnn_restore_environment))) fnn_control

#endif
