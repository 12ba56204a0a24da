"""Concat, Split, Slice, Gather: parts of tensors, along axes wherever they lie."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.families.elementwise import common_layout
from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.layout import drop, plain
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_PASSING = frozenset({"Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Transpose", "Slice", "Gather"})


@lowers("Concat", int8=Int8("same"))
def concat(ctx: Lowering, node: Node) -> None:
    """CONCATENATION in the layout that most of the operands have."""
    rank = ctx.info(node.outputs[0]).rank
    names = [name for name in node.inputs if 0 not in ctx.shape(name)]
    axis = int(node.attribute("axis", 0)) % rank
    layout = common_layout(ctx, names, rank)
    tensors = [ctx.tensor(name, layout) for name in names]
    if len(tensors) == 1:
        ctx.bind(node.outputs[0], tensors[0], layout)
        return
    made = ctx.out(node.outputs[0], layout)
    ctx.emit("CONCATENATION", tensors, [made], axis=layout.index(axis), fusedActivationFunction="NONE")


@lowers("Split", int8=Int8("same"))
def split(ctx: Lowering, node: Node) -> None:
    """SPLIT for equal parts, SPLIT_V otherwise."""
    value = ctx.value(node.inputs[0])
    axis = int(node.attribute("axis", 0)) % len(value.layout)
    place = value.layout.index(axis)
    if len(node.outputs) == 1:
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    if not all(node.outputs):
        ctx.refuse("one of its outputs has no name", "Give every output a name")
    sizes = [ctx.shape(name)[axis] for name in node.outputs]
    made = [ctx.out(name, value.layout) for name in node.outputs]
    if len(set(sizes)) == 1:
        ctx.emit("SPLIT", [ctx.const(np.int32(place)), value.tensor], made, numSplits=len(made))
    else:
        inputs = [value.tensor, ctx.ints(sizes), ctx.const(np.int32(place))]
        ctx.emit("SPLIT_V", inputs, made, numSplits=len(made))


@lowers("Slice", int8=Int8("same"))
def slice_(ctx: Lowering, node: Node) -> None:
    """SLICE for steps of 1, STRIDED_SLICE otherwise."""
    value = ctx.value(node.inputs[0])
    shape = ctx.shape(node.inputs[0])
    parameters = [ctx.constant(name) if name else None for name in (*node.inputs[1:], "", "")[:4]]
    if any(name and ctx.constant(name) is None for name in node.inputs[1:]):
        ctx.refuse("its bounds are computed", "Make them constant")
    if parameters[0] is None:
        ctx.refuse("it has no bounds", "Check the model with onnx.checker")
    starts = [int(v) for v in parameters[0].reshape(-1)]
    ends = [int(v) for v in np.asarray(parameters[1]).reshape(-1)]
    axes = (
        list(range(len(starts))) if parameters[2] is None else [int(v) % len(shape) for v in parameters[2].reshape(-1)]
    )
    steps = [1] * len(starts) if parameters[3] is None else [int(v) for v in parameters[3].reshape(-1)]
    begin, end, step = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, first, final, stride in zip(axes, starts, ends, steps, strict=True):
        # Backwards ONNX begins with the first element where numpy finds nothing.
        start = max(first, -shape[axis]) if stride < 0 else first
        chosen = range(*slice(start, final, stride).indices(shape[axis]))
        begin[axis], step[axis] = chosen.start, stride
        end[axis] = chosen.start + len(chosen) * stride
    if ctx.shape(node.outputs[0]) == shape and all(s == 1 for s in step):
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    if 0 in ctx.shape(node.outputs[0]):
        ctx.refuse("its result is empty", "Cut the model before it")
    made = ctx.out(node.outputs[0], value.layout)
    if all(s == 1 for s in step):
        inputs = [value.tensor, ctx.ints(begin[a] for a in value.layout), ctx.ints(made.shape)]
        ctx.emit("SLICE", inputs, [made])
        return
    # An end before the first element (negative step) cannot be written as a number: the mask says "to the end".
    mask = sum(1 << place for place, axis in enumerate(value.layout) if end[axis] < 0)
    inputs = [value.tensor, *(ctx.ints(part[a] for a in value.layout) for part in (begin, end, step))]
    ctx.emit("STRIDED_SLICE", inputs, [made], endMask=mask)


@lowers("Gather", int8=Int8("same"))
def gather(ctx: Lowering, node: Node) -> None:
    """GATHER; a single constant index is a SLICE, negative ones are counted from the end."""
    shape = ctx.shape(node.inputs[0])
    axis = int(node.attribute("axis", 0)) % len(shape)
    indices = ctx.constant(node.inputs[1])
    value = ctx.value(node.inputs[0])
    place = value.layout.index(axis)
    if indices is not None:
        indices = np.where(indices < 0, indices + shape[axis], indices)
        if indices.size and (indices.min() < 0 or indices.max() >= shape[axis]):
            ctx.refuse(
                f"its position {int(indices.max())} is outside of an axis of {shape[axis]}", "Correct the indices"
            )
        if indices.ndim == 0 and value.tensor.data is None:
            _take_one(ctx, node, int(indices), axis)
            return
        chosen = ctx.const(indices.astype(np.int32))
    else:
        chosen = ctx.tensor(node.inputs[1])
        if _computed(ctx, node.inputs[1]):
            # The remainder brings what is counted from the end to where it is; the kernel takes nothing below zero.
            size = ctx.const(np.int32(shape[axis]))
            chosen = ctx.op("FLOOR_MOD", [chosen, size], chosen.shape, "int32")
    rank = chosen.data.ndim if chosen.data is not None else len(ctx.shape(node.inputs[1]))
    if rank != 1:  # the indices' axes lie together and in ONNX order, so the data must as well
        tensor, place, layout = ctx.tensor(node.inputs[0]), axis, plain(len(shape) - 1 + rank)
    else:
        tensor, layout = value.tensor, value.layout
    made = ctx.out(node.outputs[0], layout)
    ctx.emit("GATHER", [tensor, chosen], [made], axis=place)


def _computed(ctx: Lowering, name: str) -> bool:
    """Whether positions come from arithmetic, and so may count from the end; those of the caller and of ArgMax do not."""
    makers = ctx.graph.producers()
    while (maker := makers.get(name)) is not None and maker.op_type in _PASSING:
        name = maker.inputs[0]
    return maker is not None and maker.op_type not in ("ArgMax", "ArgMin", "TopK")


def _take_one(ctx: Lowering, node: Node, index: int, axis: int) -> None:
    value = ctx.value(node.inputs[0])
    place = value.layout.index(axis)
    begin = [index if at == place else 0 for at in range(len(value.layout))]
    size = [1 if at == place else length for at, length in enumerate(value.tensor.shape)]
    part = value.tensor
    if tuple(size) != part.shape:
        part = ctx.op("SLICE", [part, ctx.ints(begin), ctx.ints(size)], size, part.dtype, part.quantization)
    made = ctx.out(node.outputs[0], drop(value.layout, [axis]))
    ctx.emit("RESHAPE", [part, ctx.ints(made.shape)], [made], newShape=list(made.shape))
