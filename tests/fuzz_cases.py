"""Valid calls of every public function and class, from which test_fuzz.py makes bad ones.

A case is a function of the sizes of axes, a dictionary by letter, and of a dtype; it returns the arguments by
name. The backward functions take the arguments of the forward ones and a gradient of their result.
"""

import inspect

import numpy as np
from arrays import draw

import fastnn as fn

F = fn.functional
AXES = "NCHWKRSDTGIO"


def arrays(dtype, sizes, **axes):
    """Arrays by name; ``x="NCHW"`` gives the sizes."""
    return {name: draw(*(sizes[axis] for axis in letters), dtype=dtype, seed=i)
            for i, (name, letters) in enumerate(axes.items())}


def of(axes, **config):
    """A case of arrays with these axes and of other arguments."""
    return lambda sizes, dtype: arrays(dtype, sizes, **axes) | config


def labels(sizes):
    return np.arange(sizes["N"]) % max(sizes["C"], 1)


def probabilities(sizes, dtype):
    return np.linspace(0.1, 0.9, sizes["N"] * sizes["C"], dtype=dtype).reshape(sizes["N"], sizes["C"])


def recurrent(gates, **states):
    def case(sizes, dtype):
        t, n, d, h = (sizes[axis] for axis in "TNDH")
        gh = gates * h
        draws = {"x": (t, n, d), **dict.fromkeys(states["names"], (n, h)), "weight_ih": (gh, d),
                 "weight_hh": (gh, h), "bias_ih": (gh,), "bias_hh": (gh,)}
        return {name: draw(*shape, dtype=dtype, seed=i) for i, (name, shape) in enumerate(draws.items())} | {
            "reverse": False, "lengths": None}
    return case


def backward_of(name):
    """The case of ``name_backward`` from that of ``name``."""
    def case(sizes, dtype):
        given = FUNCTIONS[name](sizes, dtype)
        y = getattr(F, name)(**given)
        known = inspect.signature(getattr(F, f"{name}_backward")).parameters
        found = {"grad_y": y, "y": y, "input_shape": given["x"].shape if "x" in given else None,
                 "training": True, "input_grad": True, **given}
        return {key: found[key] for key in known}
    return case


def from_saved(name):
    """The case of a recurrent backward function, which takes what the forward one saved."""
    def case(sizes, dtype):
        *states, saved = getattr(F, f"{name}_forward")(**FUNCTIONS[name](sizes, dtype))
        grads = dict(zip(("grad_y", "grad_h_n", "grad_c_n"), states, strict=False))
        return grads | {"saved": saved, "truncate": None, "input_grad": True}
    return case


def max_pool_backward(name):
    def case(sizes, dtype):
        given = FUNCTIONS[name](sizes, dtype) | {"return_indices": True}
        y, indices = getattr(F, name)(**given)
        return {"grad_y": y, "indices": indices, "input_shape": given["x"].shape}
    return case


CONV = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}
POOL = {"kernel_size": 2, "stride": 1, "padding": 1, "ceil_mode": False}
ELEMENTWISE = {"relu": {}, "sigmoid": {}, "tanh": {}, "silu": {}, "leaky_relu": {"negative_slope": 0.01},
               "gelu": {"approximate": "none"}, "elu": {"alpha": 1.0}, "hardsigmoid": {}, "hardswish": {},
               "hardtanh": {"min_val": -1.0, "max_val": 1.0}, "softplus": {"beta": 1.0, "threshold": 20.0},
               "softmax": {"dim": -1}, "log_softmax": {"dim": -1}}
PAIRS = {"mse_loss": {"reduction": "mean"}, "half_squared_error": {"reduction": "sum"},
         "l1_loss": {"reduction": "mean"}, "smooth_l1_loss": {"reduction": "mean", "beta": 0.5},
         "huber_loss": {"reduction": "mean", "delta": 0.5}}

FUNCTIONS = {
    "active_share": of({"y": "NC"}),
    "adaptive_avg_pool1d": of({"x": "NCH"}, output_size=2),
    "adaptive_avg_pool2d": of({"x": "NCHW"}, output_size=(2, 3)),
    "avg_pool1d": of({"x": "NCH"}, **POOL, count_include_pad=True),
    "avg_pool2d": of({"x": "NCHW"}, **POOL, count_include_pad=True, divisor_override=None),
    "batch_norm": lambda sizes, dtype: of({"x": "NCHW", "mean": "C", "weight": "C", "bias": "C"}, eps=1e-5)(
        sizes, dtype) | {"var": np.ones(sizes["C"], dtype)},
    "batch_norm_stats": of({"x": "NCH"}),
    "conv1d": of({"x": "NCH", "weight": "KCR", "bias": "K"}, **CONV, activation=None, algorithm="auto"),
    "conv2d": of({"x": "NCHW", "weight": "KCRS", "bias": "K"}, **CONV, activation="relu", algorithm="auto"),
    "conv_transpose2d": of({"x": "NCHW", "weight": "CKRS", "bias": "K"}, **CONV, output_padding=0),
    "convolve2d": of({"a": "HW", "b": "RS"}),
    "dropout": of({"x": "NCH"}, p=0.5, training=True, rng=0, return_mask=True),
    "dropout_backward": of({"grad_y": "NC", "mask": "NC"}),
    "dropout_mask": lambda sizes, dtype: {"shape": (sizes["N"], sizes["C"]), "p": 0.5, "rng": 0,
                                          "dtype": dtype},
    "embedding": lambda sizes, dtype: {"indices": labels(sizes), "padding_idx": None,
                                       "weight": draw(max(sizes["C"], 1), sizes["D"], dtype=dtype)},
    "embedding_backward": lambda sizes, dtype: {
        "indices": labels(sizes), "padding_idx": None, "num_embeddings": max(sizes["C"], 1),
        "grad_y": draw(sizes["N"], sizes["D"], dtype=dtype)},
    "global_avg_pool1d": of({"x": "NCH"}),
    "global_avg_pool2d": of({"x": "NCHW"}),
    "layer_norm": lambda sizes, dtype: of({"x": "NTD", "weight": "D", "bias": "D"}, eps=1e-5)(
        sizes, dtype) | {"normalized_shape": sizes["D"]},
    "local_response_norm": of({"x": "NCHW"}, size=2, alpha=1e-4, beta=0.75, k=1.0),
    "linear": of({"x": "ND", "weight": "KD", "bias": "K"}, activation="tanh"),
    "max_pool1d": of({"x": "NCH"}, **POOL, dilation=1, return_indices=False),
    "max_pool2d": of({"x": "NCHW"}, **POOL, dilation=1, return_indices=False),
    "prelu": of({"x": "NCH", "weight": "C"}),
    "rnn": recurrent(1, names=["h0"]),
    "gru": recurrent(3, names=["h0"]),
    "lstm": recurrent(4, names=["h0", "c0"]),
    **{name: of({"x": "NCH"}, **config) for name, config in ELEMENTWISE.items()},
    **{name: of({"y": "NC", "target": "NC"}, **config) for name, config in PAIRS.items()},
    "binary_cross_entropy": lambda sizes, dtype: of({"target": "NC", "weight": "NC"}, reduction="mean")(
        sizes, dtype) | {"y": probabilities(sizes, dtype)},
    "binary_cross_entropy_with_logits": of(
        {"logits": "NC", "target": "NC", "weight": "NC", "pos_weight": "C"}, reduction="mean"),
    "cross_entropy": lambda sizes, dtype: of({"logits": "NC"}, ignore_index=-100, reduction="mean",
                                             label_smoothing=0.1)(sizes, dtype) | {
        "target": labels(sizes), "weight": np.ones(sizes["C"], dtype)},
    "nll_loss": lambda sizes, dtype: of({"log_probs": "NC"}, ignore_index=-100, reduction="mean")(
        sizes, dtype) | {"target": labels(sizes), "weight": np.ones(sizes["C"], dtype)},
}
FUNCTIONS |= {f"{name}_forward": FUNCTIONS[name] for name in ("rnn", "gru", "lstm")}
FUNCTIONS |= {f"{name}_backward": from_saved(name) for name in ("rnn", "gru", "lstm")}
FUNCTIONS |= {f"{name}_backward": max_pool_backward(name) for name in ("max_pool1d", "max_pool2d")}
FUNCTIONS |= {f"{name}_backward": backward_of(name) for name in (
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "batch_norm", "conv1d",
    "conv2d", "conv_transpose2d", "global_avg_pool1d", "global_avg_pool2d", "layer_norm", "linear", "prelu",
    "local_response_norm",
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "nll_loss", *ELEMENTWISE,
    *PAIRS)}


def layer(make, *axes, **config):
    """A case of a layer: its constructor's arguments, and `x`, which the layer is then called with."""
    return lambda sizes, dtype: config | make(sizes) | {"dtype": dtype, "x": draw(
        *(sizes[axis] for axis in axes[0]), dtype=dtype) if axes else None}


SAME = {"dtype": np.float32}
LAYERS = {
    "AdaptiveAvgPool1d": layer(lambda s: {}, "NCH", output_size=2),
    "AdaptiveAvgPool2d": layer(lambda s: {}, "NCHW", output_size=2),
    "AvgPool1d": layer(lambda s: {}, "NCH", **POOL),
    "AvgPool2d": layer(lambda s: {}, "NCHW", **POOL),
    "BatchNorm1d": layer(lambda s: {"num_features": s["C"]}, "NC", eps=1e-5, momentum=0.1, affine=True,
                         track_running_stats=True),
    "BatchNorm2d": layer(lambda s: {"num_features": s["C"]}, "NCHW", eps=1e-5, momentum=0.1, affine=True,
                         track_running_stats=True),
    "Conv1d": layer(lambda s: {"in_channels": s["C"], "out_channels": s["K"], "kernel_size": s["R"]}, "NCH",
                    **CONV, bias=True, padding_mode="zeros", activation="relu", rng=0),
    "Conv2d": layer(lambda s: {"in_channels": s["C"], "out_channels": s["K"], "kernel_size": s["R"]}, "NCHW",
                    **CONV, bias=True, padding_mode="zeros", activation="relu", rng=0),
    "ConvTranspose2d": layer(
        lambda s: {"in_channels": s["C"], "out_channels": s["K"], "kernel_size": s["R"]}, "NCHW", **CONV,
        output_padding=0, bias=True, rng=0),
    "ELU": layer(lambda s: {}, "NC", alpha=1.0),
    "Hardsigmoid": layer(lambda s: {}, "NC"),
    "Hardswish": layer(lambda s: {}, "NC"),
    "Hardtanh": layer(lambda s: {}, "NC", min_val=-1.0, max_val=1.0),
    "ReLU6": layer(lambda s: {}, "NC"),
    "Softplus": layer(lambda s: {}, "NC", beta=1.0, threshold=20.0),
    "LocalResponseNorm": layer(lambda s: {}, "NCHW", size=2, alpha=1e-4, beta=0.75, k=1.0),
    "Dropout": layer(lambda s: {}, "NC", p=0.5, rng=0),
    "Flatten": layer(lambda s: {}, "NCHW", start_dim=1, end_dim=-1),
    "GELU": layer(lambda s: {}, "NC", approximate="none"),
    "GRU": layer(lambda s: {"input_size": s["D"], "hidden_size": s["H"]}, "TND", num_layers=2, bias=True,
                 batch_first=False, dropout=0.5, bidirectional=True, rng=0),
    "GlobalAvgPool1d": layer(lambda s: {}, "NCH"),
    "GlobalAvgPool2d": layer(lambda s: {}, "NCHW"),
    "LSTM": layer(lambda s: {"input_size": s["D"], "hidden_size": s["H"]}, "TND", num_layers=2, bias=True,
                  batch_first=True, dropout=0.0, bidirectional=False, rng=0),
    "LayerNorm": layer(lambda s: {"normalized_shape": s["D"]}, "ND", eps=1e-5, elementwise_affine=True,
                       bias=True),
    "LastStep": layer(lambda s: {}, "TNH", batch_first=True, bidirectional=False),
    "LeakyReLU": layer(lambda s: {}, "NC", negative_slope=0.01),
    "Linear": layer(lambda s: {"in_features": s["D"], "out_features": s["K"]}, "ND", bias=True,
                    activation=None, rng=0),
    "LogSoftmax": layer(lambda s: {}, "NC", dim=-1),
    "MaxPool1d": layer(lambda s: {}, "NCH", **POOL, dilation=1, return_indices=False),
    "MaxPool2d": layer(lambda s: {}, "NCHW", **POOL, dilation=1, return_indices=False),
    "Permute": lambda s, d: {"dims": (0, 2, 1), "dtype": d, "x": draw(s["N"], s["T"], s["C"], dtype=d)},
    "PReLU": layer(lambda s: {"num_parameters": s["C"]}, "NC", init=0.25),
    "RNN": layer(lambda s: {"input_size": s["D"], "hidden_size": s["H"]}, "TND", num_layers=1,
                 nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0, bidirectional=True, rng=0),
    "RNNOutput": layer(lambda s: {"hidden_size": s["H"], "output_size": s["K"]}, "TNH", bidirectional=False,
                       bias=True, activation="softmax", rng=0),
    "ReLU": layer(lambda s: {}, "NC"),
    "SiLU": layer(lambda s: {}, "NC"),
    "Sigmoid": layer(lambda s: {}, "NC"),
    "Softmax": layer(lambda s: {}, "NC", dim=-1),
    "Tanh": layer(lambda s: {}, "NC"),
}


def parameters():
    net = fn.Linear(2, 3, rng=0)
    for parameter in net.parameters():
        parameter.grad[...] = 1
    return net.parameters()


def optimizer(**config):
    return lambda sizes, dtype: {"params": parameters(), "lr": 0.1, "weight_decay": 0.0, "maximize": False,
                                 **config}


def schedule(**config):
    return lambda sizes, dtype: {"optimizer": fn.optim.SGD(parameters(), lr=0.1), **config}


OTHERS = {
    "optim.SGD": optimizer(momentum=0.9, dampening=0.0, nesterov=False),
    "optim.Adam": optimizer(betas=(0.9, 0.999), eps=1e-8, amsgrad=True),
    "optim.AdamW": optimizer(betas=(0.9, 0.999), eps=1e-8, amsgrad=False),
    "optim.RMSprop": optimizer(alpha=0.99, eps=1e-8, momentum=0.0, centered=True),
    "optim.clip_grad_norm_": lambda s, d: {"params": parameters(), "max_norm": 1.0, "norm_type": 2.0,
                                           "error_if_nonfinite": False},
    "optim.clip_grad_value_": lambda s, d: {"params": parameters(), "clip_value": 1.0},
    "optim.lr_scheduler.CosineAnnealingLR": schedule(T_max=5, eta_min=0.0),
    "optim.lr_scheduler.ExponentialLR": schedule(gamma=0.5),
    "optim.lr_scheduler.LinearLR": schedule(start_factor=0.3, end_factor=1.0, total_iters=5),
    "optim.lr_scheduler.MultiStepLR": schedule(milestones=[2, 4], gamma=0.1),
    "optim.lr_scheduler.OneCycleLR": schedule(max_lr=1.0, total_steps=10, pct_start=0.3, div_factor=25.0,
                                              final_div_factor=1e4),
    "optim.lr_scheduler.ReduceLROnPlateau": schedule(mode="min", factor=0.1, patience=2, threshold=1e-4,
                                                     min_lr=0.0),
    "optim.lr_scheduler.StepLR": schedule(step_size=2, gamma=0.1),
    "losses.MSELoss": lambda s, d: {"reduction": "mean"},
    "losses.HalfSquaredError": lambda s, d: {"reduction": "sum"},
    "losses.CrossEntropyLoss": lambda s, d: {"weight": np.ones(s["C"], d), "ignore_index": -100,
                                             "reduction": "mean", "label_smoothing": 0.0},
    "losses.L1Loss": lambda s, d: {"reduction": "mean"},
    "losses.SmoothL1Loss": lambda s, d: {"reduction": "mean", "beta": 0.5},
    "losses.HuberLoss": lambda s, d: {"reduction": "mean", "delta": 0.5},
    "losses.NLLLoss": lambda s, d: {"weight": np.ones(s["C"], d), "ignore_index": -100, "reduction": "mean"},
    "losses.BCELoss": lambda s, d: {"weight": None, "reduction": "mean"},
    "losses.BCEWithLogitsLoss": lambda s, d: {"weight": None, "reduction": "mean", "pos_weight": None},
    **{f"init.{name}": lambda s, d, config=config: {"tensor": np.empty((s["K"] + 1, s["D"] + 1), d), **config}
       for name, config in {
           "zeros_": {}, "ones_": {}, "constant_": {"val": 1.0}, "uniform_": {"a": 0.0, "b": 1.0, "rng": 0},
           "normal_": {"mean": 0.0, "std": 1.0, "rng": 0}, "orthogonal_": {"gain": 1.0, "rng": 0},
           "trunc_normal_": {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0, "rng": 0},
           "xavier_uniform_": {"gain": 1.0, "rng": 0}, "xavier_normal_": {"gain": 1.0, "rng": 0},
           "kaiming_uniform_": {"a": 0.0, "mode": "fan_in", "nonlinearity": "relu", "rng": 0},
           "kaiming_normal_": {"a": 0.0, "mode": "fan_out", "nonlinearity": "leaky_relu", "rng": 0}}.items()},
    "init.calculate_gain": lambda s, d: {"nonlinearity": "leaky_relu", "param": 0.1},
    "manual_seed": lambda s, d: {"seed": 3},
    "set_num_threads": lambda s, d: {"n": 2},
    "show_config": lambda s, d: {"mode": "dict"},
}

CASES = {f"functional.{name}": case for name, case in FUNCTIONS.items()} | LAYERS | OTHERS


def made(kind, arguments):
    """A layer of these arguments, of which *dims has no name."""
    return kind(*([arguments.pop("dims")] if "dims" in arguments else []), **arguments)


def call(name, arguments):
    """Call what the case is of; a layer is made, run forward and, where that gives an array, backward."""
    target = fn
    for part in name.split("."):
        target = getattr(target, part)
    if name not in LAYERS:
        return target(**arguments)
    x = arguments.pop("x")
    layer = made(target, arguments)
    y = layer(x)
    layer.backward(y[0] if isinstance(y, tuple) else y)
    return layer.eval()(x)
