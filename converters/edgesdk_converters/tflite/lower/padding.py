"""Windows over spatial axes: ONNX's explicit pads against TFLite's SAME and VALID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, strides, dilations and pads for each spatial axis, and the name TFLite has for the pads."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    """(before, after) for each axis, as ONNX has them; after may be less than stated where the window never gets there."""
    name: str | None
    """``SAME`` or ``VALID`` where that is exact; None: a PAD has to do it."""

    def two_dimensional(self) -> Window:
        """A 1-D window as a 2-D one of height 1."""
        return Window((1, *self.kernel), (1, *self.strides), (1, *self.dilations), ((0, 0), *self.pads), self.name)


def window_of(
    ctx: Lowering, node: Node, size: Sequence[int], kernel: Sequence[int], *, out: Sequence[int] | None = None
) -> Window:
    """The window of a Conv or pool node.

    Args:
        ctx: The lowering.
        node: With ONNX attributes strides, dilations, pads, auto_pad.
        size: Spatial size of the input.
        kernel: Spatial size of the kernel.
        out: Spatial size of the output (default: that of the node's first output).
    """
    count = len(size)
    strides = tuple(int(v) for v in node.attribute("strides") or [1] * count)
    dilations = tuple(int(v) for v in node.attribute("dilations") or [1] * count)
    made = list(out if out is not None else ctx.shape(node.outputs[0])[2:])
    auto = node.attribute("auto_pad", "NOTSET")
    stated = [int(v) for v in node.attribute("pads") or [0] * (2 * count)]
    if min(stated) < 0:
        ctx.refuse(f"its pads {stated} are negative", "Slice its input instead")
    ceil = int(node.attribute("ceil_mode", 0))
    pads: list[tuple[int, int]] = []
    same = valid = True
    for axis in range(count):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        room = size[axis] + (0 if auto == "VALID" else stated[axis] + stated[axis + count])
        if auto in ("NOTSET", "VALID", "") and reach > room:
            ctx.refuse(
                f"its window of {reach} is larger than the {room} it looks at",
                "Pad its input, or cut the model before it",
            )
        if ceil and (made[axis] - 1) * strides[axis] >= size[axis] + stated[axis]:
            ctx.refuse(
                "its last window begins behind its input, of which runtimes make different shapes",
                "Export it with ceil_mode=0",
            )
        if auto.startswith("SAME") and node.op_type != "Conv" and (made[axis] - 1) * strides[axis] + reach < size[axis]:
            ctx.refuse(
                f"its strides {list(strides)} leave something out, of which runtimes leave out different parts",
                "Export it with explicit pads",
            )
        needed = max((made[axis] - 1) * strides[axis] + reach - size[axis], 0)
        if auto == "SAME_UPPER":
            before, after = needed // 2, needed - needed // 2
        elif auto == "SAME_LOWER":
            before, after = needed - needed // 2, needed // 2
        elif auto == "VALID":
            before, after = 0, 0
        else:
            before, after = stated[axis], stated[axis + count]
        # What the last window does not reach need not be padded; ceil_mode reaches beyond the stated pads.
        last = (made[axis] - 1) * strides[axis] + reach
        after = max(last - size[axis] - before, 0)
        pads.append((before, after))
        same = same and made[axis] == -(-size[axis] // strides[axis]) and (before, after) == (needed // 2, needed - needed // 2)  # fmt: skip
        valid = valid and before == after == 0 and made[axis] == (size[axis] - reach) // strides[axis] + 1
    name = "VALID" if valid else "SAME" if same else None
    return Window(tuple(kernel), strides, dilations, tuple(pads), name)


def pad_with(ctx: Lowering, data: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """PAD the two spatial axes of an NHWC tensor; PADV2 where the value is not zero."""
    if not any(amount for pair in pads for amount in pair):
        return data
    amounts = ctx.const(np.asarray([(0, 0), *pads, (0, 0)], np.int32), "pads")
    shape = [size + sum(pair) for size, pair in zip(data.shape, [(0, 0), *pads, (0, 0)], strict=True)]
    if value == 0.0:
        return ctx.op("PAD", [data, amounts], shape, data.dtype, data.quantization)
    filler = ctx.const(np.asarray(value, data.dtype))
    filler.quantization = data.quantization
    return ctx.op("PADV2", [data, amounts, filler], shape, data.dtype, data.quantization)
