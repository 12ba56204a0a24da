"""Reductions, ArgMax and ArgMin, Softmax and LogSoftmax."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower import layout as layouts
from edgesdk_converters.tflite.lower.ir import Layout, Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_CODES = {
    "ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN", "ReduceProd": "REDUCE_PROD",
    "ReduceSumSquare": "SUM", "ReduceL1": "SUM", "ReduceL2": "SUM", "ReduceLogSum": "SUM",
}  # fmt: skip
_BEFORE = {"ReduceSumSquare": "SQUARE", "ReduceL1": "ABS", "ReduceL2": "SQUARE"}
_AFTER = {"ReduceL2": "SQRT", "ReduceLogSum": "LOG"}


@lowers("ReduceMean", int8=Int8("free"))
@lowers("ReduceMax", "ReduceMin", int8=Int8("same"))
@lowers("ReduceSum", int8=Int8("free", int16=False))
@lowers("ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum")
def reduce(ctx: Lowering, node: Node) -> None:
    """One reduction, with a square or a root around it where ONNX has a name for that."""
    value = ctx.value(node.inputs[0])
    axes = reduced_axes(ctx, node)
    if axes is None:
        ctx.refuse("its axes are computed", "Make them constant")
    if not axes and node.op_type not in _BEFORE and node.op_type not in _AFTER:
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    if ctx.dtype(node.inputs[0]) not in ("float32", "int32", "int8", "int16", "uint8"):
        ctx.refuse(f"it reduces {ctx.info(node.inputs[0]).dtype}", "Cast to float32 before it")
    if node.op_type in ("ReduceL2", "ReduceLogSum") and ctx.dtype(node.inputs[0]) != "float32":
        ctx.refuse(f"it reduces {ctx.info(node.inputs[0]).dtype}", "Cast to float32 before it")
    keep = bool(node.attribute("keepdims", 1))
    layout = value.layout if keep else layouts.drop(value.layout, axes)
    tensor = value.tensor
    if _BEFORE.get(node.op_type) == "SQUARE" and tensor.dtype != "float32":
        tensor = ctx.op("MUL", [tensor, tensor], tensor.shape, tensor.dtype, fusedActivationFunction="NONE")
    elif node.op_type in _BEFORE:
        tensor = ctx.op(_BEFORE[node.op_type], [tensor], tensor.shape, tensor.dtype)
    made = reduce_tensor(ctx, _CODES[node.op_type], tensor, value.layout, axes, node.outputs[0], layout, keep=keep)
    if node.op_type in _AFTER:
        final = ctx.out(node.outputs[0], layout)
        ctx.emit(_AFTER[node.op_type], [made], [final])


def reduce_tensor(
    ctx: Lowering, code: str, tensor: Tensor, lying: Layout, axes: list[int], output: str, layout: Layout, *, keep: bool
) -> Tensor:
    """Emit the reduction of ONNX ``axes`` and bind ``output`` to it."""
    made = ctx.out(output, layout)
    places = sorted(lying.index(axis) for axis in axes)
    ctx.emit(code, [tensor, ctx.ints(places)], [made], keepDims=keep)
    return made


def reduced_axes(ctx: Lowering, node: Node) -> list[int] | None:
    """The ONNX axes that a node reduces, from its attribute or second input; None where they are computed."""
    rank = len(ctx.shape(node.inputs[0]))
    stated = node.attribute("axes")
    if node.input(1):
        constant = ctx.constant(node.input(1))
        if constant is None:
            return None
        stated = [int(axis) for axis in np.asarray(constant).reshape(-1)]
    if not stated:
        return [] if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(axis) % rank for axis in stated})


@lowers("ArgMax", "ArgMin", int8=Int8("free", int16=False))
def arg_extremum(ctx: Lowering, node: Node) -> None:
    """ARG_MAX and ARG_MIN; the axis that is kept with size 1 is added by RESHAPE."""
    value = ctx.value(node.inputs[0])
    rank = len(value.layout)
    axis = int(node.attribute("axis", 0)) % rank
    if node.attribute("select_last_index", 0):
        ctx.refuse("it selects the last of equal values; TFLite selects the first", "Export with select_last_index=0")
    code = "ARG_MAX" if node.op_type == "ArgMax" else "ARG_MIN"
    place = value.layout.index(axis)
    shape = [size for index, size in enumerate(value.tensor.shape) if index != place]
    scalar = ctx.const(np.int32(place))
    if not node.attribute("keepdims", 1):
        made = ctx.out(node.outputs[0], layouts.drop(value.layout, [axis]))
        ctx.emit(code, [value.tensor, scalar], [made], outputType="INT32")
        return
    found = ctx.op(code, [value.tensor, scalar], shape, "int32", outputType="INT32")
    made = ctx.out(node.outputs[0], value.layout)
    ctx.emit("RESHAPE", [found, ctx.ints(made.shape)], [made], newShape=list(made.shape))


@lowers("Softmax", int8=Int8("fixed", 1 / 256, -128))
def softmax(ctx: Lowering, node: Node) -> None:
    """SOFTMAX, which normalises over the last axis in memory."""
    _over_last(ctx, node, "SOFTMAX", beta=1.0)


@lowers("LogSoftmax", int8=Int8("fixed", 16 / 256, 127, int16=False))
def log_softmax(ctx: Lowering, node: Node) -> None:
    """LOG_SOFTMAX, likewise."""
    _over_last(ctx, node, "LOG_SOFTMAX")


def _over_last(ctx: Lowering, node: Node, code: str, **options: float) -> None:
    rank = len(ctx.shape(node.inputs[0]))
    if ctx.graph.opset < 13:
        ctx.refuse(f"opset {ctx.graph.opset} flattens before it normalises", "Raise the opset to 13 or later")
    axis = int(node.attribute("axis", -1)) % rank
    layout = last(ctx.layout(node.inputs[0]), axis)
    tensor = ctx.tensor(node.inputs[0], layout)
    ctx.emit(code, [tensor], [ctx.out(node.outputs[0], layout)], **options)


def last(layout: Layout, axis: int) -> Layout:
    """The layout nearest to ``layout`` whose last axis in memory is ``axis``."""
    return (*(other for other in layout if other != axis), axis)
