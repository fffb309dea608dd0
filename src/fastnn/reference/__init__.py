"""The specification: every function of :mod:`fastnn.functional` in plain NumPy, slow and obvious.

Same names, same signatures, same results up to rounding; a test keeps them so. For the tests, the benchmarks
and whoever wants to see a function written out; no other part of the package uses it.
"""

from .activation import (
    active_share,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    prelu,
    prelu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .conv import (
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    convolve2d,
)
from .dropout import dropout, dropout_backward, dropout_mask
from .embedding import embedding, embedding_backward
from .linear import linear, linear_backward
from .loss import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    cross_entropy,
    cross_entropy_backward,
    half_squared_error,
    half_squared_error_backward,
    huber_loss,
    huber_loss_backward,
    l1_loss,
    l1_loss_backward,
    mse_loss,
    mse_loss_backward,
    nll_loss,
    nll_loss_backward,
    smooth_l1_loss,
    smooth_l1_loss_backward,
)
from .norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_stats,
    layer_norm,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)
from .piecewise import (
    elu,
    elu_backward,
    hardsigmoid,
    hardsigmoid_backward,
    hardswish,
    hardswish_backward,
    hardtanh,
    hardtanh_backward,
    softplus,
    softplus_backward,
)
from .pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool1d_backward,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool1d,
    global_avg_pool1d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .recurrent import (
    gru,
    gru_backward,
    gru_forward,
    lstm,
    lstm_backward,
    lstm_forward,
    rnn,
    rnn_backward,
    rnn_forward,
)
