"""fastnn as a backend of ONNX, in the protocol of `onnx.backend.base`.

    import fastnn.onnx.backend as backend
    outputs = backend.prepare(model).run([x])           # model: an onnx.ModelProto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .model import OnnxModel
from .reader import import_onnx, read_graph

onnx = import_onnx()
import onnx.backend.base as base  # noqa: E402 - after the message about a missing package


class Representation(base.BackendRep):  # type: ignore[misc]
    """A model ready to run."""

    def __init__(self, model: OnnxModel):
        self.model = model

    def run(self, inputs: Any, **_: Any) -> tuple[np.ndarray, ...]:
        """Return the outputs, by position and by name.

        `inputs` is a sequence in the order of the model's inputs, a mapping by name, or the one array.
        """
        if isinstance(inputs, Mapping):
            outputs = self.model.run(inputs)
        else:
            arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            outputs = self.model.run(dict(zip(self.model.inputs, arrays, strict=True)))
        kind = base.namedtupledict("Outputs", list(outputs))
        return kind(*outputs.values())  # type: ignore[no-any-return]


class Backend(base.Backend):  # type: ignore[misc]
    """The protocol's class methods."""

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **_: Any) -> bool:
        """Whether every operator of the model is known here."""
        try:
            read_graph(model)
        except ValueError:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Representation:
        """Check and read a model."""
        _check_device(device)
        super().prepare(model, device, **options)  # which is ONNX's own checker
        return Representation(OnnxModel(read_graph(model)))

    @classmethod
    def run_node(cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None,
                 **options: Any) -> tuple[np.ndarray, ...]:
        """Run one node on arrays; `opset_version` is the newest unless given."""
        super().run_node(node, inputs, device, outputs_info, **options)
        arrays = [np.asarray(x) for x in inputs]
        names = [name for name in node.input if name]
        values = [onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(names, arrays, strict=True)]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        version = options.get("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", values, outputs),
                                       opset_imports=[onnx.helper.make_opsetid("", version)])
        _check_device(device)
        return Representation(OnnxModel(read_graph(model))).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether `device` is the CPU."""
        return device.split(":")[0] == "CPU"


def _check_device(device: str) -> None:
    if not Backend.supports_device(device):
        raise ValueError(f"fastnn.onnx.backend: device {device!r}, expected 'CPU'")


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
