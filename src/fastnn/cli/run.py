"""run a model on arrays from files, and write what it gives"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .. import io, onnx
from ..io.atomic import replacing
from .inputs import described, read_inputs
from .progress import progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("--input", action="append", required=True, metavar="[NAME=]FILE",
                        help="an .npy file for each input, in their order or by name; or an .npz by name")
    parser.add_argument("--output", required=True, metavar="FILE",
                        help="an .npy file for the output, or an .npz for all of them by name")


def command(options: argparse.Namespace) -> None:
    """Run the model and write its outputs."""
    target = Path(options.output)
    if target.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"--output {target}: expected a name that ends in .npy or .npz")
    if not target.absolute().parent.is_dir():  # said before the work and not after it
        raise ValueError(f"--output {target}: there is no folder {target.absolute().parent}")
    with progress("reading", 1, "file"):
        model = onnx.load(options.model)
    if target.suffix.lower() == ".npy" and len(model.outputs) != 1:
        raise ValueError(f"--output {target}: the model has several outputs ({described(model.outputs)}), "
                         "which go to an .npz file")
    feeds = read_inputs(model, options.input)
    with progress("freezing", 1, "model"):
        frozen = model.freeze()
    with progress("running", len(frozen.nodes(feeds)), "node") as done:
        outputs = frozen.run(feeds, done)
    if target.suffix.lower() == ".npz":
        io.save(outputs, target)
    else:
        (y,) = outputs.values()
        with replacing(target) as temporary, open(temporary, "wb") as file:
            np.save(file, y, allow_pickle=False)
    for name, y in outputs.items():
        print(f"{name} {y.dtype} {y.shape} -> {target}")
