"""Binary arithmetic and comparisons with broadcasting, Where, and sums of several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesdk_converters.tflite.lower import layout as layouts
from edgesdk_converters.tflite.lower.ir import Layout, Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_CODES = {
    "Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Pow": "POW", "And": "LOGICAL_AND", "Or": "LOGICAL_OR",
    "Equal": "EQUAL", "Less": "LESS", "LessOrEqual": "LESS_EQUAL", "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
}  # fmt: skip
_ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV"})


@lowers("Add", "Sub", "Mul", fuses=True, int8=Int8("free"))
@lowers("Div", fuses=True)
@lowers("And", "Or")
@lowers("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", int8=Int8("free", int16=False))
def binary(ctx: Lowering, node: Node) -> None:
    """Operators with a TFLite counterpart that broadcasts the same way."""
    code = _CODES[node.op_type]
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    options = {"fusedActivationFunction": node.activation} if code in _ARITHMETIC else {}
    ctx.emit(code, tensors, [ctx.out(node.outputs[0], layout)], **options)


@lowers("Max", "Min", int8=Int8("same"))
def extremum(ctx: Lowering, node: Node) -> None:
    """Max and Min of any number of tensors."""
    _chain(ctx, node, "MAXIMUM" if node.op_type == "Max" else "MINIMUM", {})


@lowers("Sum")
def total(ctx: Lowering, node: Node) -> None:
    """Sum of any number of tensors."""
    _chain(ctx, node, "ADD", {"fusedActivationFunction": "NONE"})


def _chain(ctx: Lowering, node: Node, code: str, options: dict[str, Any]) -> None:
    if len(node.inputs) == 1:
        value = ctx.value(node.inputs[0])
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    so_far = tensors[0]
    for tensor in tensors[1:-1]:
        shape = np.broadcast_shapes(so_far.shape, tensor.shape)
        so_far = ctx.op(code, [so_far, tensor], shape, so_far.dtype, **options)
    ctx.emit(code, [so_far, tensors[-1]], [ctx.out(node.outputs[0], layout)], **options)


@lowers("Where")
def where(ctx: Lowering, node: Node) -> None:
    """SELECT_V2."""
    layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    ctx.emit("SELECT_V2", tensors, [ctx.out(node.outputs[0], layout)])


def operands(ctx: Lowering, names: Sequence[str], output: str) -> tuple[Layout, list[Tensor]]:
    """A layout for the output that moves the least, and the operands so that TFLite broadcasts them as ONNX does."""
    rank = ctx.info(output).rank
    layout = common_layout(ctx, names, rank)
    tensors = [aligned(ctx, name, rank, layout) for name in names]
    if max(len(tensor.shape) for tensor in tensors) < rank:
        # The operand that gave the result its axes is a constant of one element, written as a scalar.
        place = next((at for at, tensor in enumerate(tensors) if tensor.data is not None), 0)
        tensor = tensors[place]
        tensors[place] = ctx.reshaped(tensor, (1,) * (rank - len(tensor.shape)) + tensor.shape)
    return layout, tensors


def common_layout(ctx: Lowering, names: Sequence[str], rank: int) -> Layout:
    """The layout, of those that the computed operands have, in which the fewest elements must move."""
    computed = [ctx.value(name) for name in names if ctx.constant(name) is None]
    candidates = dict.fromkeys(layouts.broadcast(value.layout, rank) for value in computed)
    best, least = layouts.plain(rank), -1
    for candidate in candidates:
        cost = 0
        for value in computed:
            layout = layouts.broadcast(value.layout, rank)
            shape = [1] * rank
            for axis, size in zip(layout[rank - len(value.layout) :], value.tensor.shape, strict=True):
                shape[axis] = size
            cost += 0 if layouts.same_order(shape, layout, candidate) else value.tensor.size
        # Of two that cost the same the one that is not ONNX order: it comes from a convolution, and the next one wants it.
        if least < 0 or cost < least or (cost == least and candidate != layouts.plain(rank)):
            best, least = candidate, cost
    return best


def aligned(ctx: Lowering, name: str, rank: int, layout: Layout) -> Tensor:
    """An operand brought into a layout of ``rank`` axes, ready for right-aligned broadcasting."""
    value = ctx.value(name)
    own = len(value.layout)
    if value.tensor.size == 1 and value.tensor.data is not None:
        return ctx.reshaped(value.tensor, ())
    shape = (1,) * (rank - own) + ctx.shape(name)
    lying = layouts.broadcast(value.layout, rank)
    wanted = layouts.physical(shape, layout)
    tail = layout[rank - own :]
    if layouts.same_order(shape, lying, layout):
        if sorted(tail) == list(range(rank - own, rank)):
            return ctx.reshaped(value.tensor, wanted[rank - own :])
        return ctx.reshaped(value.tensor, wanted)
    full = ctx.reshaped(value.tensor, layouts.physical(shape, lying))
    return ctx.move(full, layouts.permutation(lying, layout))
