"""Layers: configuration, parameters and saved context around the pure functions; one file a family."""

import typing as _typing

from .._late import late as _names_late
from .activation import GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .containers import ModuleList, Parallel, Residual, Sequential
from .conv import Conv1d, Conv2d, ConvTranspose2d
from .dropout import Dropout
from .embedding import Embedding
from .linear import Linear
from .module import Module, Parameter
from .norm import BatchNorm1d, BatchNorm2d, LayerNorm
from .pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from .shape import Flatten, Identity

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LastStep",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "PReLU",
    "Parallel",
    "Parameter",
    "Permute",
    "RNNOutput",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]

if _typing.TYPE_CHECKING:
    from .axes import LastStep, Permute
    from .local_response import LocalResponseNorm
    from .piecewise import ELU, Hardsigmoid, Hardswish, Hardtanh, ReLU6, Softplus
    from .prelu import PReLU
    from .recurrent import GRU, LSTM, RNN, RNNOutput
else:
    __getattr__, __dir__ = _names_late(globals(), {
        "axes": ("LastStep", "Permute"),
        "local_response": ("LocalResponseNorm",),
        "piecewise": ("ELU", "Hardsigmoid", "Hardswish", "Hardtanh", "ReLU6", "Softplus"),
        "prelu": ("PReLU",),
        "recurrent": ("GRU", "LSTM", "RNN", "RNNOutput"),
    })
