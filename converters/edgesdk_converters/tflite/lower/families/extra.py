"""Operators that only spellings ask for, and some that TFLite has under another name."""

from __future__ import annotations

from edgesdk_converters.tflite.lower.families.elementwise import operands
from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.layout import channels_last
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import lowers


@lowers("Atan2", domain="edgesdk")
def atan2(ctx: Lowering, node: Node) -> None:
    """ATAN2 of two tensors of one shape."""
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    ctx.emit("ATAN2", tensors, [ctx.out(node.outputs[0], layout)])


@lowers("Take", domain="edgesdk")
def take(ctx: Lowering, node: Node) -> None:
    """GATHER of rows at positions that are known to exist."""
    rows, where = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1])
    ctx.emit("GATHER", [rows, where], [ctx.out(node.outputs[0])], axis=0)


@lowers("ScatterSum", domain="edgesdk")
def scatter(ctx: Lowering, node: Node) -> None:
    """SCATTER_ND into zeros, adding up what comes to one place."""
    shape = ctx.shape(node.outputs[0])
    indices, updates = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1])
    ctx.emit("SCATTER_ND", [indices, updates, ctx.ints(shape)], [ctx.out(node.outputs[0])])


@lowers("LRN")
def local_response(ctx: Lowering, node: Node) -> None:
    """LOCAL_RESPONSE_NORMALIZATION, over the last axis in memory."""
    size = int(node.attribute("size"))
    rank = len(ctx.shape(node.inputs[0]))
    if rank != 4 or size % 2 == 0:
        ctx.refuse(f"it looks at {size} channels of a {rank}-D tensor", "Use an odd size and a 4-D tensor")
    layout = channels_last(4)
    made = ctx.out(node.outputs[0], layout)
    ctx.emit(
        "LOCAL_RESPONSE_NORMALIZATION",
        [ctx.tensor(node.inputs[0], layout)],
        [made],
        radius=(size - 1) // 2,
        bias=float(node.attribute("bias", 1.0)),
        alpha=float(node.attribute("alpha", 1e-4)) / size,
        beta=float(node.attribute("beta", 0.75)),
    )


@lowers("ReverseSequence")
def reverse_sequence(ctx: Lowering, node: Node) -> None:
    """REVERSE_SEQUENCE."""
    value = ctx.value(node.inputs[0])
    ctx.emit(
        "REVERSE_SEQUENCE",
        [value.tensor, ctx.tensor(node.inputs[1])],
        [ctx.out(node.outputs[0], value.layout)],
        seqDim=value.layout.index(int(node.attribute("time_axis", 0))),
        batchDim=value.layout.index(int(node.attribute("batch_axis", 1))),
    )
