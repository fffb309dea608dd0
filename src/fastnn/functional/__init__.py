"""Pure functions over NumPy arrays: check, allocate, call the kernel; each beside its backward."""
