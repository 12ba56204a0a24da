"""Pad: PAD, PADV2, MIRROR_PAD; edge and wrap by GATHER."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.fusion import pad_amounts
from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers


@lowers("Pad", int8=Int8("same"))
def pad(ctx: Lowering, node: Node) -> None:
    """The amounts follow the layout; negative ones cut."""
    amounts = pad_amounts(ctx.graph, node)
    if amounts is None:
        ctx.refuse("its amounts are computed", "Make them constant")
    value = ctx.value(node.inputs[0])
    rank, tensor = len(value.layout), value.tensor
    pairs = [(amounts[axis], amounts[axis + rank]) for axis in value.layout]
    mode = node.attribute("mode", "constant")
    if not any(before or after for before, after in pairs):
        ctx.bind(node.outputs[0], tensor, value.layout)
        return
    if min(min(pair) for pair in pairs) < 0:
        if mode != "constant":
            ctx.refuse(f"it pads by a negative amount in mode {mode}", "Use a Slice")
        tensor = _cut(ctx, tensor, pairs)
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    if mode in ("edge", "wrap"):
        final = _gathered(ctx, tensor, pairs, mode)
        ctx.rename(final, ctx.out(node.outputs[0], value.layout))
        return
    made = ctx.out(node.outputs[0], value.layout)
    table = ctx.const(np.asarray(pairs, np.int32), "pads")
    if mode == "reflect":
        ctx.emit("MIRROR_PAD", [tensor, table], [made], mode="REFLECT")
        return
    filler = ctx.constant(node.input(2)) if node.input(2) else None
    if node.input(2) and filler is None:
        ctx.emit("PADV2", [tensor, table, ctx.reshaped(ctx.tensor(node.input(2)), ())], [made])
    elif filler is None or not np.any(filler):
        ctx.emit("PAD", [tensor, table], [made])
    else:
        ctx.emit("PADV2", [tensor, table, ctx.reshaped(ctx.tensor(node.input(2)), ())], [made])


def _cut(ctx: Lowering, tensor: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    begin = [max(-before, 0) for before, _ in pairs]
    size = [s - max(-before, 0) - max(-after, 0) for s, (before, after) in zip(tensor.shape, pairs, strict=True)]
    return ctx.op("SLICE", [tensor, ctx.ints(begin), ctx.ints(size)], size, tensor.dtype, tensor.quantization)


def _gathered(ctx: Lowering, tensor: Tensor, pairs: list[tuple[int, int]], mode: str) -> Tensor:
    for place, (before, after) in enumerate(pairs):
        if not (before or after):
            continue
        size = tensor.shape[place]
        wanted = np.arange(-before, size + after)
        picked = wanted % size if mode == "wrap" else np.clip(wanted, 0, size - 1)
        shape = [*tensor.shape]
        shape[place] = len(picked)
        tensor = ctx.op("GATHER", [tensor, ctx.ints(picked)], shape, tensor.dtype, tensor.quantization, axis=place)
    return tensor
