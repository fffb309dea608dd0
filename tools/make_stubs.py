"""Writes the type stubs of what has no annotations of its own: `python tools/make_stubs.py`.

The compiled modules' stubs come from the `def` lines of their .pyx files, that of `fastnn.functional` from
its signatures, by the name of each parameter. tests/test_stubs.py compares the files with what this makes,
and the stubs of compiled modules with the modules.
"""

import inspect
import re
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src/fastnn"
NOTE = "# Made by tools/make_stubs.py.\n"

# --- Compiled modules

C_TYPES = {"bint": "bool", "int": "int", "Py_ssize_t": "int", "double": "float", "tuple": "tuple[int, ...]"}
RETURNS = {"loss": "float", "cross_entropy": "float", "class_weights": "tuple[float, int]",
           "available_isas": "list[str]", "get_isa": "str", "build_flags": "str", "stream": "Any",
           "goes_by_strips": "bool", "empty": "Array", "empty_like": "Array | None",
           "in_default_environment": "T"}  # what it decorates keeps its type


def pyx_functions(text):
    """(name, parameters, body) of each public `def` at the top of a .pyx file."""
    for found in re.finditer(r"^def (\w+)\(([^)]*)\):\n((?:    .*\n|\n)*)", text, re.M):
        if not found[1].startswith("_"):
            parameters = re.sub(r"\s+", " ", found[2])
            # Commas within brackets belong to a memoryview.
            yield found[1], [p.strip() for p in re.split(r",(?![^\[]*\])", parameters) if p.strip()], found[3]


def pyx_parameter(declaration):
    """``const real[:, ::1] x`` -> ``x: Array``."""
    declaration, equals, _ = declaration.partition("=")
    *words, name = declaration.split()
    if any("[" in word for word in words):
        kind = "Array | None" if "None" in declaration else "Array"
    else:
        kind = C_TYPES.get(words[-1] if words else "object", "Any")
    return f"{name}: {kind}{' = ...' if equals else ''}"


def compiled_stub(pyx):
    """The text of the stub beside a .pyx file."""
    lines = []
    for name, parameters, body in pyx_functions(pyx.read_text(encoding="utf-8")):
        returns = RETURNS.get(name, "int") if re.search(r"^ +return +\S", body, re.M) else "None"
        declared = [pyx_parameter(p) for p in parameters]
        if returns == "T":
            declared = [p.replace(": Any", ": T") for p in declared]
        lines.append(wrapped(f"def {name}(", declared, f") -> {returns}: ..."))
    text = "\n".join(lines)
    imports = "from typing import Any\n\n" if "Any" in text else ""
    if "-> T:" in text:
        imports = 'from typing import Any, TypeVar\n\nT = TypeVar("T")\n\n'
    arrays = "from numpy.typing import NDArray\n\nArray = NDArray[Any]\n\n" if "Array" in text else ""
    if arrays and not imports:
        imports = "from typing import Any\n\n"
    return f"{NOTE}{imports}{arrays}{text}\n"


# --- fastnn.functional

ARRAYS = ("x", "y", "a", "b", "weight", "bias", "mean", "var", "logits", "log_probs", "pos_weight",
          "weight_ih", "weight_hh", "bias_ih", "bias_hh", "grad_y")
PARAMETERS = {
    **dict.fromkeys(ARRAYS, "ArrayLike"),
    **dict.fromkeys(("h0", "c0", "grad_h_n", "grad_c_n"), "ArrayLike | None"),
    "target": "ArrayLike", "mask": "ArrayLike | None", "indices": "ArrayLike", "lengths": "ArrayLike | None",
    "stride": "int | Sequence[int]", "padding": "int | Sequence[int]", "dilation": "int | Sequence[int]",
    "kernel_size": "int | Sequence[int]", "output_padding": "int | Sequence[int]",
    "output_size": "int | Sequence[int | None]", "normalized_shape": "int | Sequence[int]",
    "input_shape": "Sequence[int]", "shape": "int | Sequence[int]", "groups": "int", "dim": "int",
    "ignore_index": "int", "num_embeddings": "int", "padding_idx": "int | None", "truncate": "int | None",
    "divisor_override": "int | None", "eps": "float", "negative_slope": "float", "label_smoothing": "float",
    "p": "float", "activation": "str | None", "algorithm": "str", "approximate": "str", "reduction": "str",
    **dict.fromkeys(("alpha", "beta", "delta", "k", "max_val", "min_val", "threshold"), "float"),
    "size": "int", "nonlinearity": "str", "rng": "Any", "dtype": "DTypeLike", "saved": "Any",
}
FLAGS = {"ceil_mode", "count_include_pad", "return_indices", "return_mask", "training", "input_grad",
         "reverse"}
# What returns more or other than one array; reduction="none" makes an array of a loss.
SEVERAL = {
    "max_pool1d": "Any", "max_pool2d": "Any", "dropout": "Any", "active_share": "float",
    "batch_norm_stats": "tuple[Array, Array]", "half_squared_error": "Any", "cross_entropy": "Any",
    **dict.fromkeys(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "nll_loss"), "Any"),
    "binary_cross_entropy": "Any", "binary_cross_entropy_with_logits": "Any",
    **dict.fromkeys(("rnn", "gru"), "tuple[Array, Array]"), "lstm": "tuple[Array, Array, Array]",
    **{f"{name}_forward": "tuple[Any, ...]" for name in ("rnn", "gru", "lstm")},
    **{f"{name}_backward": "tuple[Any, ...]" for name in (
        "rnn", "gru", "lstm", "conv1d", "conv2d", "conv_transpose2d", "linear", "batch_norm", "layer_norm",
        "prelu")},
}


def functional_parameter(parameter):
    kind = "bool" if parameter.name in FLAGS else PARAMETERS[parameter.name]
    if parameter.default is None and "None" not in kind and kind != "Any":
        kind += " | None"
    return f"{parameter.name}: {kind}{'' if parameter.default is parameter.empty else ' = ...'}"


def functional_stub(functions):
    """The text of the stub of a module with these functions, a dictionary by name."""
    lines = []
    for name, function in sorted(functions.items()):
        parameters, keyword_only = [], False
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
                parameters.append("*")
                keyword_only = True
            parameters.append(functional_parameter(parameter))
        lines.append(wrapped(f"def {name}(", parameters, f") -> {SEVERAL.get(name, 'Array')}: ..."))
    return (f"{NOTE}from collections.abc import Sequence\nfrom typing import Any\n\n"
            "from numpy.typing import ArrayLike, DTypeLike, NDArray\n\nArray = NDArray[Any]\n\n"
            + "\n".join(lines) + "\n")


def wrapped(start, parameters, end):
    """One line, or one parameter a line where that is too long."""
    line = start + ", ".join(parameters) + end
    return line if len(line) <= 110 else start + "\n" + "".join(f"    {p},\n" for p in parameters) + end


def functions_of_functional():
    from fastnn import functional

    return {name: getattr(functional, name) for name in sorted(functional.__all__)}


def stubs():
    """Path and text of each stub."""
    modules = sorted((PACKAGE / "_kernels").glob("*.pyx"))
    made = {pyx.with_suffix(".pyi"): compiled_stub(pyx) for pyx in modules}
    return made | {PACKAGE / "functional/__init__.pyi": functional_stub(functions_of_functional())}


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(PACKAGE))
