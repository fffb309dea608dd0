/* Arrays held by the buffer protocol while a kernel works on them.
 *
 * A local variable of type fnn_held_arrays releases them however its function ends: what a `finally` would do,
 * without code of its own on every way out. `count` is set to 0 before anything else that may end it.
 */
#ifndef FASTNN_HELD_ARRAYS_H
#define FASTNN_HELD_ARRAYS_H

#include <Python.h>

typedef struct {
    Py_buffer item[12];
    int count;
} fnn_arrays;

/* An exception on its way out stays, whatever the owner of a buffer does when it is given back. */
static inline void fnn_release_arrays(fnn_arrays *arrays) {
    PyObject *type, *value, *traceback;
    if (!arrays->count) return;
    PyErr_Fetch(&type, &value, &traceback);
    for (int i = 0; i < arrays->count; i++) PyBuffer_Release(&arrays->item[i]);
    PyErr_Restore(type, value, traceback);
}

#define fnn_held_arrays __attribute__((cleanup(fnn_release_arrays))) fnn_arrays

#endif
