"""What every driver needs of the running machine: the table of kernel bodies, and threads."""

cdef extern from "kernels.h" nogil:
    ctypedef struct fnn_tile:
        const void* const* a
        Py_ssize_t a_offset
        Py_ssize_t taps
        Py_ssize_t depth
        const void* b
        Py_ssize_t b_panel
        void** c
        Py_ssize_t c_offset
        Py_ssize_t columns
        const void* bias
        int rows
        int accumulate
        int relu

    ctypedef struct fnn_kernels:
        const char* isa
        int lanes
        int mr
        int nr
        void (*gemm_rows)(const fnn_tile* tile) noexcept nogil
        void (*gemm_columns)(const fnn_tile* tile) noexcept nogil
        void (*depthwise_rows)(const fnn_tile* tile) noexcept nogil
        void (*depthwise_gradient)(const fnn_tile* tile) noexcept nogil
        void (*winograd_input)(const void* const* pixels, Py_ssize_t channels, void* v,
                               Py_ssize_t stride) noexcept nogil
        void (*winograd_output)(const void* m, Py_ssize_t stride, Py_ssize_t filters, const void* bias,
                                int relu, void** pixels) noexcept nogil
        void (*winograd_filter)(const void* g, Py_ssize_t tap, Py_ssize_t n, void* u,
                                Py_ssize_t stride) noexcept nogil
        void (*winograd_gradient)(const void* const* pixels, Py_ssize_t filters, void* z, Py_ssize_t panel,
                                  Py_ssize_t stride) noexcept nogil
        void (*winograd_filter_gradient)(const void* s, Py_ssize_t stride, Py_ssize_t n,
                                         void* g) noexcept nogil
        void (*map)(int op, Py_ssize_t n, double alpha, const void* x, void* y) noexcept nogil
        void (*map_backward)(int op, Py_ssize_t n, double alpha, const void* grad_y, const void* saved,
                             void* grad_x) noexcept nogil
        void (*softmax)(Py_ssize_t n, const void* x, void* y, int log) noexcept nogil
        void (*softmax_backward)(Py_ssize_t n, const void* grad_y, const void* y, void* grad_x,
                                 int log) noexcept nogil

cdef extern from "threads.h" nogil:
    int thread_id "fnn_thread_id"() noexcept

ctypedef fused real:
    float
    double

cdef const fnn_kernels* kernels(Py_ssize_t itemsize) noexcept nogil
cdef int team_size(double serial_ns) noexcept nogil
