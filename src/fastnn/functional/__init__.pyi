# Made by tools/make_stubs.py.
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[Any]

def active_share(y: ArrayLike) -> float: ...
def adaptive_avg_pool1d(x: ArrayLike, output_size: int | Sequence[int | None]) -> Array: ...
def adaptive_avg_pool1d_backward(grad_y: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def adaptive_avg_pool2d(x: ArrayLike, output_size: int | Sequence[int | None]) -> Array: ...
def adaptive_avg_pool2d_backward(grad_y: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def avg_pool1d(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    count_include_pad: bool = ...,
) -> Array: ...
def avg_pool1d_backward(
    grad_y: ArrayLike,
    input_shape: Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    count_include_pad: bool = ...,
) -> Array: ...
def avg_pool2d(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    count_include_pad: bool = ...,
    divisor_override: int | None = ...,
) -> Array: ...
def avg_pool2d_backward(
    grad_y: ArrayLike,
    input_shape: Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    count_include_pad: bool = ...,
    divisor_override: int | None = ...,
) -> Array: ...
def batch_norm(
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    weight: ArrayLike | None = ...,
    bias: ArrayLike | None = ...,
    eps: float = ...,
) -> Array: ...
def batch_norm_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    weight: ArrayLike | None = ...,
    bias: ArrayLike | None = ...,
    eps: float = ...,
    *,
    training: bool = ...,
) -> tuple[Any, ...]: ...
def batch_norm_stats(x: ArrayLike) -> tuple[Array, Array]: ...
def binary_cross_entropy(
    y: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> Any: ...
def binary_cross_entropy_backward(
    y: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> Array: ...
def binary_cross_entropy_with_logits(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> Any: ...
def binary_cross_entropy_with_logits_backward(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    pos_weight: ArrayLike | None = ...,
    reduction: str = ...,
) -> Array: ...
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    groups: int = ...,
    *,
    activation: str | None = ...,
    algorithm: str = ...,
) -> Array: ...
def conv1d_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    groups: int = ...,
    *,
    activation: str | None = ...,
    y: ArrayLike | None = ...,
    algorithm: str = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    groups: int = ...,
    *,
    activation: str | None = ...,
    algorithm: str = ...,
) -> Array: ...
def conv2d_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    groups: int = ...,
    *,
    activation: str | None = ...,
    y: ArrayLike | None = ...,
    algorithm: str = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    output_padding: int | Sequence[int] = ...,
    groups: int = ...,
    dilation: int | Sequence[int] = ...,
) -> Array: ...
def conv_transpose2d_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    stride: int | Sequence[int] = ...,
    padding: int | Sequence[int] = ...,
    output_padding: int | Sequence[int] = ...,
    groups: int = ...,
    dilation: int | Sequence[int] = ...,
    *,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def convolve2d(a: ArrayLike, b: ArrayLike) -> Array: ...
def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float = ...,
) -> Any: ...
def cross_entropy_backward(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float = ...,
) -> Array: ...
def dropout(
    x: ArrayLike,
    p: float = ...,
    training: bool = ...,
    *,
    rng: Any = ...,
    return_mask: bool = ...,
) -> Any: ...
def dropout_backward(grad_y: ArrayLike, mask: ArrayLike | None) -> Array: ...
def dropout_mask(shape: int | Sequence[int], p: float, rng: Any = ..., dtype: DTypeLike = ...) -> Array: ...
def elu(x: ArrayLike, alpha: float = ...) -> Array: ...
def elu_backward(grad_y: ArrayLike, x: ArrayLike, alpha: float = ...) -> Array: ...
def embedding(indices: ArrayLike, weight: ArrayLike, padding_idx: int | None = ...) -> Array: ...
def embedding_backward(
    grad_y: ArrayLike,
    indices: ArrayLike,
    num_embeddings: int,
    padding_idx: int | None = ...,
) -> Array: ...
def gelu(x: ArrayLike, approximate: str = ...) -> Array: ...
def gelu_backward(grad_y: ArrayLike, x: ArrayLike, approximate: str = ...) -> Array: ...
def global_avg_pool1d(x: ArrayLike) -> Array: ...
def global_avg_pool1d_backward(grad_y: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def global_avg_pool2d(x: ArrayLike) -> Array: ...
def global_avg_pool2d_backward(grad_y: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def gru(
    x: ArrayLike,
    h0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Array, Array]: ...
def gru_backward(
    grad_y: ArrayLike,
    grad_h_n: ArrayLike | None,
    saved: Any,
    *,
    truncate: int | None = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def gru_forward(
    x: ArrayLike,
    h0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Any, ...]: ...
def half_squared_error(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Any: ...
def half_squared_error_backward(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Array: ...
def hardsigmoid(x: ArrayLike) -> Array: ...
def hardsigmoid_backward(grad_y: ArrayLike, x: ArrayLike) -> Array: ...
def hardswish(x: ArrayLike) -> Array: ...
def hardswish_backward(grad_y: ArrayLike, x: ArrayLike) -> Array: ...
def hardtanh(x: ArrayLike, min_val: float = ..., max_val: float = ...) -> Array: ...
def hardtanh_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    min_val: float = ...,
    max_val: float = ...,
) -> Array: ...
def huber_loss(y: ArrayLike, target: ArrayLike, reduction: str = ..., delta: float = ...) -> Any: ...
def huber_loss_backward(
    y: ArrayLike,
    target: ArrayLike,
    reduction: str = ...,
    delta: float = ...,
) -> Array: ...
def l1_loss(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Any: ...
def l1_loss_backward(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Array: ...
def layer_norm(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = ...,
    bias: ArrayLike | None = ...,
    eps: float = ...,
) -> Array: ...
def layer_norm_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = ...,
    bias: ArrayLike | None = ...,
    eps: float = ...,
) -> tuple[Any, ...]: ...
def leaky_relu(x: ArrayLike, negative_slope: float = ...) -> Array: ...
def leaky_relu_backward(grad_y: ArrayLike, x: ArrayLike, negative_slope: float = ...) -> Array: ...
def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    *,
    activation: str | None = ...,
) -> Array: ...
def linear_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = ...,
    *,
    activation: str | None = ...,
    y: ArrayLike | None = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def local_response_norm(
    x: ArrayLike,
    size: int,
    alpha: float = ...,
    beta: float = ...,
    k: float = ...,
) -> Array: ...
def local_response_norm_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    size: int,
    alpha: float = ...,
    beta: float = ...,
    k: float = ...,
) -> Array: ...
def log_softmax(x: ArrayLike, dim: int = ...) -> Array: ...
def log_softmax_backward(grad_y: ArrayLike, y: ArrayLike, dim: int = ...) -> Array: ...
def lstm(
    x: ArrayLike,
    h0: ArrayLike | None,
    c0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Array, Array, Array]: ...
def lstm_backward(
    grad_y: ArrayLike,
    grad_h_n: ArrayLike | None,
    grad_c_n: ArrayLike | None,
    saved: Any,
    *,
    truncate: int | None = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def lstm_forward(
    x: ArrayLike,
    h0: ArrayLike | None,
    c0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Any, ...]: ...
def max_pool1d(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    return_indices: bool = ...,
) -> Any: ...
def max_pool1d_backward(grad_y: ArrayLike, indices: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def max_pool2d(
    x: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = ...,
    padding: int | Sequence[int] = ...,
    dilation: int | Sequence[int] = ...,
    ceil_mode: bool = ...,
    return_indices: bool = ...,
) -> Any: ...
def max_pool2d_backward(grad_y: ArrayLike, indices: ArrayLike, input_shape: Sequence[int]) -> Array: ...
def mse_loss(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Any: ...
def mse_loss_backward(y: ArrayLike, target: ArrayLike, reduction: str = ...) -> Array: ...
def nll_loss(
    log_probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: str = ...,
) -> Any: ...
def nll_loss_backward(
    log_probs: ArrayLike,
    target: ArrayLike,
    *,
    weight: ArrayLike | None = ...,
    ignore_index: int = ...,
    reduction: str = ...,
) -> Array: ...
def prelu(x: ArrayLike, weight: ArrayLike) -> Array: ...
def prelu_backward(grad_y: ArrayLike, x: ArrayLike, weight: ArrayLike) -> tuple[Any, ...]: ...
def relu(x: ArrayLike) -> Array: ...
def relu_backward(grad_y: ArrayLike, y: ArrayLike) -> Array: ...
def rnn(
    x: ArrayLike,
    h0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    nonlinearity: str = ...,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Array, Array]: ...
def rnn_backward(
    grad_y: ArrayLike,
    grad_h_n: ArrayLike | None,
    saved: Any,
    *,
    truncate: int | None = ...,
    input_grad: bool = ...,
) -> tuple[Any, ...]: ...
def rnn_forward(
    x: ArrayLike,
    h0: ArrayLike | None,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias_ih: ArrayLike | None = ...,
    bias_hh: ArrayLike | None = ...,
    *,
    nonlinearity: str = ...,
    reverse: bool = ...,
    lengths: ArrayLike | None = ...,
) -> tuple[Any, ...]: ...
def sigmoid(x: ArrayLike) -> Array: ...
def sigmoid_backward(grad_y: ArrayLike, y: ArrayLike) -> Array: ...
def silu(x: ArrayLike) -> Array: ...
def silu_backward(grad_y: ArrayLike, x: ArrayLike) -> Array: ...
def smooth_l1_loss(y: ArrayLike, target: ArrayLike, reduction: str = ..., beta: float = ...) -> Any: ...
def smooth_l1_loss_backward(
    y: ArrayLike,
    target: ArrayLike,
    reduction: str = ...,
    beta: float = ...,
) -> Array: ...
def softmax(x: ArrayLike, dim: int = ...) -> Array: ...
def softmax_backward(grad_y: ArrayLike, y: ArrayLike, dim: int = ...) -> Array: ...
def softplus(x: ArrayLike, beta: float = ..., threshold: float = ...) -> Array: ...
def softplus_backward(
    grad_y: ArrayLike,
    x: ArrayLike,
    beta: float = ...,
    threshold: float = ...,
) -> Array: ...
def tanh(x: ArrayLike) -> Array: ...
def tanh_backward(grad_y: ArrayLike, y: ArrayLike) -> Array: ...
