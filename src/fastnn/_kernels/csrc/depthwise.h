/* Depthwise convolution: one filter a channel, so vectors run along channels and nothing is shared
 * between them. The tile's tables are those of gemm_tile.h; here `b` holds [taps][columns].
 *
 *     C[i, c] = f( bias[c] + sum_tap A(i, tap)[c] B[tap, c] )
 */

/* One vector of channels, n of them used: its taps are multiplied pixel by pixel. */
INLINE void NAME(depthwise_lane)(ptrdiff_t taps, const fnn_tile *t, ptrdiff_t c, ptrdiff_t n) {
    const int whole = n >= VLEN;
    const real *b = (const real *)t->b + c;
    const vec bias = !t->bias ? (vec){0}
                     : whole  ? load((const real *)t->bias + c)
                              : load_part((const real *)t->bias + c, n);
    for (int i = 0; i < t->rows; i++) {
        const real *const *a = (const real *const *)t->a + i;
        vec sum = bias;
#pragma GCC unroll 9
        for (ptrdiff_t tap = 0; tap < taps; tap++) {
            const real *x = a[tap * MR] + t->a_offset + c, *w = b + tap * t->columns;
            sum += whole ? load(x) * load(w) : load_part(x, n) * load_part(w, n);
        }
        if (t->relu) sum = relu1(sum);
        real *y = (real *)t->c[i] + t->c_offset + c;
        if (whole)
            store(y, sum);
        else
            store_part(y, sum, n);
    }
}

static void NAME(depthwise_rows)(const fnn_tile *t) {
    ptrdiff_t c = 0;
    if (t->taps == 9) /* 3 x 3, the usual one: its nine weights stay in registers */
        for (; c + VLEN <= t->columns; c += VLEN) NAME(depthwise_lane)(9, t, c, VLEN);
    for (; c + VLEN <= t->columns; c += VLEN) NAME(depthwise_lane)(t->taps, t, c, VLEN);
    if (c < t->columns) NAME(depthwise_lane)(t->taps, t, c, t->columns - c);
}

/* B[tap, c] += sum_i A(i, tap)[c] C[i, c]: the gradient of the filters, where C is that of the output. */
INLINE void NAME(depthwise_gradient_lane)(const fnn_tile *t, ptrdiff_t c, ptrdiff_t n) {
    const int whole = n >= VLEN;
    for (ptrdiff_t tap = 0; tap < t->taps; tap++) {
        real *b = (real *)t->b + tap * t->columns + c;
        vec sum = whole ? load(b) : load_part(b, n);
        for (int i = 0; i < t->rows; i++) {
            const real *x = (const real *)t->a[tap * MR + i] + t->a_offset + c;
            const real *g = (const real *)t->c[i] + t->c_offset + c;
            sum += whole ? load(x) * load(g) : load_part(x, n) * load_part(g, n);
        }
        if (whole)
            store(b, sum);
        else
            store_part(b, sum, n);
    }
}

static void NAME(depthwise_gradient)(const fnn_tile *t) {
    ptrdiff_t c = 0;
    for (; c + VLEN <= t->columns; c += VLEN) NAME(depthwise_gradient_lane)(t, c, VLEN);
    if (c < t->columns) NAME(depthwise_gradient_lane)(t, c, t->columns - c);
}
