"""Operators about positions: GatherND, ScatterND, TopK, CumSum, OneHot."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.families.reductions import last
from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import lowers


@lowers("GatherND")
def gather_nd(ctx: Lowering, node: Node) -> None:
    """GATHER_ND; constant negative positions are counted from the end."""
    if node.attribute("batch_dims", 0):
        ctx.refuse("it has batch dimensions", "Export it with batch_dims=0")
    data, constant = ctx.tensor(node.inputs[0]), ctx.constant(node.inputs[1])
    if constant is not None:
        sizes = np.asarray(ctx.shape(node.inputs[0])[: constant.shape[-1]])
        indices = ctx.const(np.where(constant < 0, constant + sizes, constant).astype(np.int32))
    else:
        indices = ctx.tensor(node.inputs[1])
    ctx.emit("GATHER_ND", [data, indices], [ctx.out(node.outputs[0])])


@lowers("TopK")
def top_k(ctx: Lowering, node: Node) -> None:
    """TOPK_V2 along the axis, brought to the end; the largest, sorted."""
    shape = ctx.shape(node.inputs[0])
    axis = int(node.attribute("axis", -1)) % len(shape)
    if not node.attribute("largest", 1):
        ctx.refuse("it looks for the smallest", "Negate, take the largest, negate")
    count = ctx.constant(node.inputs[1])
    if count is None:
        ctx.refuse("its k is computed", "Make it constant")
    layout = last(ctx.layout(node.inputs[0]), axis)
    data = ctx.tensor(node.inputs[0], layout)
    made = [ctx.out(name, layout) for name in node.outputs]
    ctx.emit("TOPK_V2", [data, ctx.const(np.int32(int(count.reshape(-1)[0])))], made)


@lowers("CumSum")
def cum_sum(ctx: Lowering, node: Node) -> None:
    """CUMSUM."""
    axis, value = ctx.constant(node.inputs[1]), ctx.value(node.inputs[0])
    if axis is None:
        ctx.refuse("its axis is computed", "Make it constant")
    place = value.layout.index(int(axis.reshape(-1)[0]) % len(value.layout))
    options = {"exclusive": bool(node.attribute("exclusive", 0)), "reverse": bool(node.attribute("reverse", 0))}
    made = ctx.out(node.outputs[0], value.layout)
    ctx.emit("CUMSUM", [value.tensor, ctx.const(np.int32(place))], [made], **options)


@lowers("OneHot")
def one_hot(ctx: Lowering, node: Node) -> None:
    """ONE_HOT for positions that are not negative."""
    depth, values = ctx.constant(node.inputs[1]), ctx.constant(node.inputs[2])
    if depth is None or values is None:
        ctx.refuse("its depth or values are computed", "Make them constant")
    if ctx.dtype(node.inputs[0]) != "int32":
        ctx.refuse(f"its positions are {ctx.info(node.inputs[0]).dtype}", "Cast them to int64 before it")
    rank = len(ctx.shape(node.outputs[0]))
    size = int(depth.reshape(-1)[0])
    # Negative positions count from the end; FLOOR_MOD brings them there, and would bring back what lies outside as well.
    indices = ctx.tensor(node.inputs[0])
    negative = ctx.op("LESS", [indices, ctx.const(np.int32(0))], indices.shape, "bool")
    moved = ctx.op("ADD", [indices, ctx.const(np.int32(size))], indices.shape, "int32", fusedActivationFunction="NONE")
    positions = ctx.op("SELECT_V2", [negative, moved, indices], indices.shape, "int32")
    off, on = (ctx.const(np.asarray(v, ctx.dtype(node.outputs[0]))) for v in values.reshape(-1))
    axis = int(node.attribute("axis", -1)) % rank
    ctx.emit("ONE_HOT", [positions, ctx.const(np.int32(size)), on, off], [ctx.out(node.outputs[0])], axis=axis)
