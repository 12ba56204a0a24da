"""Operators that only rename, add or remove axes."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower import layout as layouts
from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers


@lowers("Identity", "Dropout", int8=Int8("same"))
def identity(ctx: Lowering, node: Node) -> None:
    """The same tensor under another name."""
    value = ctx.value(node.inputs[0])
    ctx.bind(node.outputs[0], value.tensor, value.layout)


@lowers("Transpose", int8=Int8("same"))
def transpose(ctx: Lowering, node: Node) -> None:
    """Nothing is written: the axes get other names, and who needs an order asks for it."""
    value = ctx.value(node.inputs[0])
    rank = len(value.layout)
    order = list(node.attribute("perm") or range(rank)[::-1])
    ctx.bind(node.outputs[0], value.tensor, tuple(order.index(axis) for axis in value.layout))


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", int8=Int8("same"))
def reshape(ctx: Lowering, node: Node) -> None:
    """RESHAPE in memory order, so that layouts survive splits and merges of axes."""
    reshape_to(ctx, node.inputs[0], node.outputs[0])


def reshape_to(ctx: Lowering, source: str, target: str) -> None:
    """Reshape one ONNX tensor into another of the graph."""
    before, after = ctx.shape(source), ctx.shape(target)
    if 0 in before:
        ctx.refuse("it reshapes an empty tensor", "Cut the model before it")
    needed, made = layouts.reshape(before, after, ctx.layout(source))
    tensor = ctx.tensor(source, needed)
    shape = layouts.physical(after, made)
    if tensor.shape == shape:
        ctx.bind(target, tensor, made)
        return
    if tensor.data is not None:
        ctx.bind(target, ctx.reshaped(tensor, shape), made)
        return
    ctx.emit("RESHAPE", [tensor, ctx.ints(shape)], [ctx.out(target, made)], newShape=list(shape))


@lowers("Expand", int8=Int8("same"))
def expand(ctx: Lowering, node: Node) -> None:
    """BROADCAST_TO; nothing where the shape stays."""
    source, target = ctx.shape(node.inputs[0]), ctx.shape(node.outputs[0])
    value = ctx.value(node.inputs[0])
    layout = layouts.broadcast(value.layout, len(target))
    tensor = ctx.reshaped(value.tensor, layouts.physical((1,) * (len(target) - len(source)) + source, layout))
    shape = layouts.physical(target, layout)
    if tensor.shape == shape:
        ctx.bind(node.outputs[0], tensor, layout)
        return
    ctx.emit("BROADCAST_TO", [tensor, ctx.ints(shape)], [ctx.out(node.outputs[0], layout)])


@lowers("Tile", int8=Int8("same"))
def tile(ctx: Lowering, node: Node) -> None:
    """TILE with the repeats in memory order."""
    repeats = ctx.constant(node.inputs[1])
    if repeats is None:
        ctx.refuse("its repeats are computed", "Make them constant")
    value = ctx.value(node.inputs[0])
    counts = [int(np.asarray(repeats).reshape(-1)[axis]) for axis in value.layout]
    if all(count == 1 for count in counts):
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    ctx.emit("TILE", [value.tensor, ctx.ints(counts)], [ctx.out(node.outputs[0], value.layout)])
