/* Gates of the recurrent cells: one time step of some sequences, forward beside backward.
 *
 *     RNN     h                   h = f(a)
 *     LSTM    i f g o             c = f c_prev + i g          h = o tanh(c)
 *     GRU     r z n               n = tanh(a_n + r b)         h = (1 - z) n + z h_prev
 *
 * Forward takes the sums of both matrix products, input and state with the biases added, in groups: VLEN columns
 * of each gate side by side, so that the gates of a group follow its products while these are in L1. The GRU's
 * come apart, because its state's product for the gate n, b, is multiplied by r.
 *
 * LSTM and GRU take two passes over the columns: what follows from the sums, then what waits for that, a tanh. In one
 * chain a vector takes some 125 cycles, of which the processor overlaps but two: the LSTM 78 cycles a vector on Zen 3
 * with AVX2, in two passes 52 (with the public tanh and another sigmoid 126); the GRU 49 and 35.
 *
 * What is kept for backward is in blocks of H columns, as the weights have them; the GRU's are n r z b: the three
 * sums that the input contributes to (n r z) are side by side, and the three that the state contributes to
 * (r z b): each is one matrix product, as for the other cells.
 */

#define load_n NAME(load_first)
#define store_n NAME(store_first)

/* One group of one row, of n columns from j = group * VLEN on. */
INLINE void NAME(cell_forward1)(fnn_cell_kind kind, const fnn_cell *s, ptrdiff_t row, ptrdiff_t group,
                                ptrdiff_t n) {
    const int gates = kind == FNN_LSTM ? 4 : kind == FNN_GRU ? 3 : 1;
    const ptrdiff_t hidden = s->hidden, j = group * VLEN, at = row * s->sums_stride + gates * j;
    real *sum = (real *)s->sums + at;
    real *keep = s->gates ? (real *)s->gates + row * s->gates_stride + j : NULL;
    vec h;
    if (kind == FNN_RNN_TANH || kind == FNN_RNN_RELU) {
        const vec a = load(sum);
        h = kind == FNN_RNN_TANH ? gate_tanh(a) : relu1(a);
        if (keep) store_n(keep, h, n);
    } else if (kind == FNN_LSTM) {
        const vec i = vsigmoid(load(sum)), f = vsigmoid(load(sum + VLEN));
        const vec g = gate_tanh(load(sum + 2 * VLEN)), o = vsigmoid(load(sum + 3 * VLEN));
        real *cell = (real *)s->c + row * hidden + j;
        const vec c_prev = load_n(cell, n), c = f * c_prev + i * g;
        h = o; /* cell_output1 makes h of it */
        store_n(cell, c, n);
        if (s->c_prev) store_n((real *)s->c_prev + row * hidden + j, c_prev, n);
        if (keep) {
            store_n(keep, i, n);
            store_n(keep + hidden, f, n);
            store_n(keep + 2 * hidden, g, n);
            store_n(keep + 3 * hidden, o, n);
        }
    } else {
        const real *state = (const real *)s->state_sums + at;
        const vec r = vsigmoid(load(sum) + load(state));
        const vec z = vsigmoid(load(sum + VLEN) + load(state + VLEN)), b = load(state + 2 * VLEN);
        store(sum + VLEN, z);
        store(sum + 2 * VLEN, load(sum + 2 * VLEN) + r * b);
        if (keep) {
            store_n(keep + hidden, r, n);
            store_n(keep + 2 * hidden, z, n);
            store_n(keep + 3 * hidden, b, n);
        }
        return;
    }
    store_n((real *)s->y + row * s->y_stride + j, h, n);
}

/* The second pass: h of the LSTM from o, which lies in its place, and c; of the GRU from what lies among its sums. */
INLINE void NAME(cell_output1)(fnn_cell_kind kind, const fnn_cell *s, ptrdiff_t row, ptrdiff_t group, ptrdiff_t n) {
    const ptrdiff_t j = group * VLEN;
    real *y = (real *)s->y + row * s->y_stride + j;
    if (kind == FNN_LSTM) {
        store_n(y, load_n(y, n) * gate_tanh(load_n((const real *)s->c + row * s->hidden + j, n)), n);
    } else if (kind == FNN_GRU) {
        const real *sum = (const real *)s->sums + row * s->sums_stride + 3 * j;
        const vec z = load(sum + VLEN), v = gate_tanh(load(sum + 2 * VLEN));
        if (s->gates) store_n((real *)s->gates + row * s->gates_stride + j, v, n);
        store_n(y, (1 - z) * v + z * load_n((const real *)s->h + row * s->h_stride + j, n), n);
    }
}

INLINE void NAME(cell_backward1)(fnn_cell_kind kind, const fnn_cell_grad *s, ptrdiff_t row, ptrdiff_t j,
                                 ptrdiff_t n) {
    const ptrdiff_t hidden = s->hidden, at = row * hidden + j;
    const real *gate = (const real *)s->gates + row * s->gates_stride + j;
    real *grad = (real *)s->grad_gates + row * s->gates_stride + j;
    real *grad_state = (real *)s->grad_h + at;
    const vec one = splat(1);
    vec grad_h = load_n(grad_state, n);
    if (s->grad_y) grad_h += load_n((const real *)s->grad_y + row * s->y_stride + j, n);
    if (kind == FNN_RNN_TANH || kind == FNN_RNN_RELU) {
        const vec h = load_n(gate, n);
        store_n(grad, kind == FNN_RNN_TANH ? grad_h * (one - h * h) : select(h <= (vec){0}, (vec){0}, grad_h), n);
    } else if (kind == FNN_LSTM) {
        const vec i = load_n(gate, n), f = load_n(gate + hidden, n);
        const vec g = load_n(gate + 2 * hidden, n), o = load_n(gate + 3 * hidden, n);
        const vec c_prev = load_n((const real *)s->c_prev + at, n);
        const vec tanh_c = gate_tanh(f * c_prev + i * g);
        real *grad_cell = (real *)s->grad_c + at;
        const vec grad_c = load_n(grad_cell, n) + grad_h * o * (one - tanh_c * tanh_c);
        store_n(grad, grad_c * g * i * (one - i), n);
        store_n(grad + hidden, grad_c * c_prev * f * (one - f), n);
        store_n(grad + 2 * hidden, grad_c * i * (one - g * g), n);
        store_n(grad + 3 * hidden, grad_h * tanh_c * o * (one - o), n);
        store_n(grad_cell, grad_c * f, n);
    } else {
        const vec v = load_n(gate, n), r = load_n(gate + hidden, n);
        const vec z = load_n(gate + 2 * hidden, n), b = load_n(gate + 3 * hidden, n);
        const vec grad_v = grad_h * (one - z) * (one - v * v);
        const vec h_prev = load_n((const real *)s->h_prev + at, n);
        store_n(grad, grad_v, n);
        store_n(grad + hidden, grad_v * b * r * (one - r), n);
        store_n(grad + 2 * hidden, grad_h * (h_prev - v) * z * (one - z), n);
        store_n(grad + 3 * hidden, grad_v * r, n);
        store_n(grad_state, grad_h * z, n);
    }
}

INLINE void NAME(cell_pass)(fnn_cell_kind kind, const fnn_cell *s,
                            void (*body)(fnn_cell_kind, const fnn_cell *, ptrdiff_t, ptrdiff_t, ptrdiff_t)) {
    const ptrdiff_t whole = s->hidden / VLEN < s->last_group ? s->hidden / VLEN : s->last_group;
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        for (ptrdiff_t group = s->first_group; group < whole; group++) body(kind, s, row, group, VLEN);
        if (whole < s->last_group) body(kind, s, row, whole, s->hidden % VLEN);
    }
}
INLINE void NAME(cell_forward)(fnn_cell_kind kind, const fnn_cell *s) {
    NAME(cell_pass)(kind, s, NAME(cell_forward1));
    if (kind == FNN_LSTM || kind == FNN_GRU) NAME(cell_pass)(kind, s, NAME(cell_output1));
}
INLINE void NAME(cell_backward)(fnn_cell_kind kind, const fnn_cell_grad *s) {
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        ptrdiff_t j = s->first;
        for (; j + VLEN <= s->last; j += VLEN) NAME(cell_backward1)(kind, s, row, j, VLEN);
        if (j < s->last) NAME(cell_backward1)(kind, s, row, j, s->last - j);
    }
}
#undef load_n
#undef store_n

static void NAME(rnn_tanh)(const fnn_cell *s) { NAME(cell_forward)(FNN_RNN_TANH, s); }
static void NAME(rnn_relu)(const fnn_cell *s) { NAME(cell_forward)(FNN_RNN_RELU, s); }
static void NAME(lstm)(const fnn_cell *s) { NAME(cell_forward)(FNN_LSTM, s); }
static void NAME(gru)(const fnn_cell *s) { NAME(cell_forward)(FNN_GRU, s); }

static void NAME(rnn_tanh_backward)(const fnn_cell_grad *s) { NAME(cell_backward)(FNN_RNN_TANH, s); }
static void NAME(rnn_relu_backward)(const fnn_cell_grad *s) { NAME(cell_backward)(FNN_RNN_RELU, s); }
static void NAME(lstm_backward)(const fnn_cell_grad *s) { NAME(cell_backward)(FNN_LSTM, s); }
static void NAME(gru_backward)(const fnn_cell_grad *s) { NAME(cell_backward)(FNN_GRU, s); }
