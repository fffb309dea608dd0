/* All bodies for one dtype, and their table. A new body: its header here, its entry in kernels.h. */
#include "simd.h"

#include "vmath.h"
#include "grouped.h"
#include "depthwise.h"
#include "elementwise.h"
#include "prelu.h"
#include "gemm_tile.h"
#include "even_tile.h"
#include "recurrent.h"
#include "pool.h"
#include "pool_places.h"
#include "pool_narrow.h"
#include "softmax.h"
#include "loss.h"
#include "norm.h"
#include "transpose.h"
#include "few_rows.h"
#include "pad.h"
#include "add.h"
#include "optim.h"
#include "winograd.h"
#include "winograd_strip.h"

const fnn_kernels NAME(fnn_kernels) = {
    .isa = TEXT(ISA),
    .lanes = VLEN,
    .mr = MR,
    .nr = NR,
    .gemm_rows = NAME(gemm_rows),
    .gemm_columns = NAME(gemm_columns),
    .transpose = NAME(transpose),
    .transpose_rows = NAME(transpose_rows),
    .pack_rows = NAME(pack_rows),
    .few_rows = NAME(few_rows),
    .pad_row = NAME(pad_row),
    .add = NAME(add),
    .add_rows = NAME(add_rows),
    .depthwise_row = NAME(depthwise_row),
    .depthwise_gradient = NAME(depthwise_gradient),
    .grouped_row = NAME(grouped_row),
    .grouped_gradient = NAME(grouped_gradient),
    .even_row = NAME(even_row),
    .winograd_input = NAME(winograd_input),
    .winograd_output = NAME(winograd_output),
    .winograd_filter = NAME(winograd_filter),
    .winograd_gradient = NAME(winograd_gradient),
    .winograd_filter_gradient = NAME(winograd_filter_gradient),
    .winograd_strip = NAME(winograd_strip),
    .map = NAME(map),
    .map_backward = NAME(map_backward),
    .prelu = NAME(prelu),
    .prelu_backward = NAME(prelu_backward),
    .column_moments = NAME(column_moments),
    .column_affine = NAME(column_affine),
    .layer_norm = NAME(layer_norm),
    .layer_norm_backward = NAME(layer_norm_backward),
    .softmax = NAME(softmax),
    .softmax_backward = NAME(softmax_backward),
    .cross_entropy = NAME(cross_entropy),
    .cross_entropy_backward = NAME(cross_entropy_backward),
    .loss = NAME(loss),
    .loss_backward = NAME(loss_backward),
    .optimizer = {[FNN_SGD] = NAME(sgd), [FNN_ADAM] = NAME(adam), [FNN_RMSPROP] = NAME(rmsprop)},
    .cell = {[FNN_RNN_TANH] = NAME(rnn_tanh),
             [FNN_RNN_RELU] = NAME(rnn_relu),
             [FNN_LSTM] = NAME(lstm),
             [FNN_GRU] = NAME(gru)},
    .cell_backward = {[FNN_RNN_TANH] = NAME(rnn_tanh_backward),
                      [FNN_RNN_RELU] = NAME(rnn_relu_backward),
                      [FNN_LSTM] = NAME(lstm_backward),
                      [FNN_GRU] = NAME(gru_backward)},
    .max_rows = NAME(max_rows),
    .max_columns = NAME(max_columns),
    .sum_rows = NAME(sum_rows),
    .mean_columns = NAME(mean_columns),
    .argmax_rows = NAME(argmax_rows),
    .argmax_columns = NAME(argmax_columns),
    .max_gather = NAME(max_gather),
    .pool_groups = NAME(pool_groups),
    .pool_narrow = NAME(pool_narrow),
};

#include "simd_end.h"
