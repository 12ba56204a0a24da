"""Operators that only rename, add or remove axes."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower import layout as layouts
from edgesdk_converters.tflite.lower.ir import Layout, Node
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers


@lowers("Identity", "Dropout", int8=Int8("same"))
def identity(ctx: Lowering, node: Node) -> None:
    """The same tensor under another name."""
    if node.op_type == "Dropout" and node.input(2):
        training = ctx.constant(node.input(2))
        if training is None or np.any(training):
            ctx.refuse("it is in training mode, or may be", "Export the model in evaluation mode")
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
    if _flatten_as_it_lies(ctx, source, target, needed):
        return
    tensor = ctx.tensor(source, needed)
    shape = layouts.physical(after, made)
    if tensor.shape == shape:
        ctx.bind(target, tensor, made)
        return
    if tensor.data is not None:
        ctx.bind(target, ctx.reshaped(tensor, shape), made)
        return
    ctx.emit("RESHAPE", [tensor, ctx.ints(shape)], [ctx.out(target, made)], newShape=list(shape))


def _flatten_as_it_lies(ctx: Lowering, source: str, target: str, needed: Layout) -> bool:
    """(N, C, H, W) -> (N, C*H*W) in NHWC order where all who take it can permute their weights instead."""
    before, after, value = ctx.shape(source), ctx.shape(target), ctx.value(source)
    if layouts.same_order(before, value.layout, needed) or len(after) != 2 or value.tensor.data is not None:
        return False
    lead = after[0] == 1 or (after[0] == before[0] and value.layout[0] == 0)
    takers = ctx.graph.consumers().get(target, [])
    permute = all(
        node.op_type in ("Gemm", "MatMul")
        and not node.domain
        and node.inputs[0] == target
        and not node.attribute("transA", 0)
        and target not in node.inputs[1:]
        and ctx.constant(node.inputs[1]) is not None
        and len(ctx.shape(node.inputs[1])) == 2
        for node in takers
    )
    if not (lead and takers and permute):
        return False
    ctx.bind(target, ctx.reshaped(value.tensor, after))
    axes = [axis for axis in value.layout if after[0] == 1 or axis != 0]
    sizes = [before[axis] for axis in sorted(axes)]
    order = np.arange(after[1]).reshape(sizes)
    ctx.shuffled[target] = order.transpose([sorted(axes).index(axis) for axis in axes]).reshape(-1)
    return True


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
