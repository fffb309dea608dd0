"""Workspaces of any size, from a cache line on; large ones are kept from call to call."""

cdef void* take(size_t size) noexcept nogil
cdef void give(void* data, size_t size) noexcept nogil
