"""Pure functions over NumPy arrays: check, allocate, call the kernel; each beside its backward."""

from .._late import late as _names_late
from .activation import (
    active_share,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
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
from .conv import conv2d, conv2d_backward
from .conv1d import conv1d, conv1d_backward
from .conv_transpose import conv_transpose2d, conv_transpose2d_backward
from .convolve import convolve2d
from .dropout import dropout, dropout_backward, dropout_mask
from .embedding import embedding, embedding_backward
from .linear import linear, linear_backward
from .norm import batch_norm, batch_norm_backward, batch_norm_stats, layer_norm, layer_norm_backward
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
from .prelu import prelu, prelu_backward

# A fifth of the time of an import, which most networks of convolutions need not spend.
_LATE = {
    "class_loss": ("cross_entropy", "cross_entropy_backward", "nll_loss", "nll_loss_backward"),
    "local_response": ("local_response_norm", "local_response_norm_backward"),
    "loss": (
        "binary_cross_entropy", "binary_cross_entropy_backward", "binary_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits_backward", "half_squared_error", "half_squared_error_backward",
        "huber_loss", "huber_loss_backward", "l1_loss", "l1_loss_backward", "mse_loss", "mse_loss_backward",
        "smooth_l1_loss", "smooth_l1_loss_backward",
    ),
    "piecewise": (
        "elu", "elu_backward", "hardsigmoid", "hardsigmoid_backward", "hardswish", "hardswish_backward",
        "hardtanh", "hardtanh_backward", "softplus", "softplus_backward",
    ),
    "recurrent": (
        "gru", "gru_backward", "gru_forward", "lstm", "lstm_backward", "lstm_forward", "rnn", "rnn_backward",
        "rnn_forward",
    ),
}
__getattr__, __dir__ = _names_late(globals(), _LATE)
__all__ = [name for name, value in globals().items() if callable(value) and not name.startswith("_")]
__all__ += [name for names in _LATE.values() for name in names]
