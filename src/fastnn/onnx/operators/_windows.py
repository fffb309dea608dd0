"""Where ONNX puts the windows of convolutions and poolings: pads of each end, `auto_pad`, `ceil_mode`."""

from __future__ import annotations

from typing import NamedTuple

Sizes = tuple[int, ...]


class Geometry(NamedTuple):
    """Windows along each spatial axis."""

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    begin: Sizes  # pads before the first element
    end: Sizes    # and after the last
    output: Sizes


def geometry(sizes: Sizes, kernel: Sizes, *, auto_pad: str = "NOTSET", dilations: Sizes | None = None,
             pads: Sizes | None = None, strides: Sizes | None = None, ceil_mode: int = 0) -> Geometry:
    """Lay windows over axes of these sizes.

    ::

        output = floor((size + begin + end - dilation (kernel - 1) - 1) / stride) + 1

    or rounded up with `ceil_mode`, but for a window that would begin beyond the data and the first pads.
    "SAME_UPPER" and "SAME_LOWER" pad for ``output = ceil(size / stride)``, the odd one at the end or the
    beginning.
    """
    rank = len(sizes)
    stride, dilation = strides or (1,) * rank, dilations or (1,) * rank
    if not len(kernel) == len(stride) == len(dilation) == rank or len(pads or ()) not in (0, 2 * rank):
        raise ValueError(f"an input of {rank} spatial axes, but kernel {kernel}, strides {stride}, dilations "
                         f"{dilation}, pads {pads}")
    check_numbers(kernel, stride, dilation, pads or ())
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output = tuple(-(-size // s) for size, s in zip(sizes, stride, strict=True))
        total = [max((out - 1) * s + r - size, 0)
                 for size, out, s, r in zip(sizes, output, stride, reach, strict=True)]
        smaller, larger = tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
        begin, end = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
        return Geometry(kernel, stride, dilation, begin, end, output)
    if auto_pad == "VALID" or not pads:
        pads = (0,) * (2 * rank)
    begin, end = pads[:rank], pads[rank:]
    counts = []
    for axis, (size, s, r) in enumerate(zip(sizes, stride, reach, strict=True)):
        spare = size + begin[axis] + end[axis] - r
        if spare < 0:
            raise ValueError(f"the kernel spans {r} elements of spatial axis {axis}, more than the padded "
                             f"input's {spare + r}")
        count = (-(-spare // s) if ceil_mode else spare // s) + 1
        counts.append(count - 1 if ceil_mode and (count - 1) * s >= size + begin[axis] else count)
    return Geometry(kernel, stride, dilation, begin, end, tuple(counts))


def check_numbers(kernel: Sizes, stride: Sizes, dilation: Sizes, pads: Sizes) -> None:
    """Raise ValueError for numbers with which a kernel would leave its arrays."""
    if min(*kernel, *stride, *dilation) < 1 or min(pads, default=0) < 0:
        raise ValueError(f"kernel {kernel}, strides {stride} and dilations {dilation} must be at least 1, "
                         f"pads {pads} at least 0")
