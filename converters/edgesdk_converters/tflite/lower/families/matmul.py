"""Gemm and MatMul: FULLY_CONNECTED for constant weights, BATCH_MATMUL otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite.lower.families.reductions import last
from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers


@lowers("Gemm", fuses=True, int8=Int8("free"))
def gemm(ctx: Lowering, node: Node) -> None:
    """The product alpha * A' * B' + beta * C."""
    alpha, beta = float(node.attribute("alpha", 1.0)), float(node.attribute("beta", 1.0))
    first, second, third = node.inputs[0], node.inputs[1], node.input(2)
    data = ctx.tensor(first, (1, 0) if node.attribute("transA", 0) else (0, 1))
    weights = ctx.tensor(second, (0, 1) if node.attribute("transB", 0) else (1, 0))
    if alpha != 1.0:
        weights = _scaled(ctx, weights, alpha)
    weights = unshuffled(ctx, first, weights)
    bias, rest = _bias(ctx, third, weights.shape[0], beta)
    options: dict[str, Any] = {"fusedActivationFunction": node.activation if rest is None else "NONE"}
    if bias is None and weights.quantization is not None:
        bias = ctx.zeros((weights.shape[0],), like=node)
    if rest is None:
        ctx.emit("FULLY_CONNECTED", [data, weights, bias], [ctx.out(node.outputs[0])], **options)
        return
    product = ctx.op("FULLY_CONNECTED", [data, weights, None], (data.shape[0], weights.shape[0]), **options)
    ctx.emit("ADD", [product, rest], [ctx.out(node.outputs[0])], fusedActivationFunction=node.activation)


def _scaled(ctx: Lowering, tensor: Tensor, factor: float) -> Tensor:
    if tensor.data is not None and tensor.quantization is None:
        return ctx.const(tensor.data * np.float32(factor), tensor.name)
    return ctx.op("MUL", [tensor, ctx.const(np.float32(factor))], tensor.shape, fusedActivationFunction="NONE")


def _bias(ctx: Lowering, name: str, channels: int, beta: float) -> tuple[Tensor | None, Tensor | None]:
    """C as a bias vector, or as a tensor to be added."""
    if not name or beta == 0.0:
        return None, None
    tensor = ctx.tensor(name)
    if beta != 1.0:
        tensor = _scaled(ctx, tensor, beta)
    if tensor.data is not None and tensor.size in (1, channels) and (tensor.shape or (1,))[-1] in (1, channels):
        if tensor.size == channels and (tensor.shape or (1,))[-1] == channels:
            return ctx.reshaped(tensor, (channels,)), None
        if tensor.size == 1:
            return ctx.const(np.full(channels, tensor.data.reshape(-1)[0]), name), None
    return None, tensor


def unshuffled(ctx: Lowering, name: str, weights: Tensor) -> Tensor:
    """Weights (outputs, inputs) whose columns follow the order that a flattened NHWC tensor has."""
    order = ctx.shuffled.get(name)
    if order is None:
        return weights
    assert weights.data is not None
    data = np.ascontiguousarray(weights.data[:, order])
    return Tensor(ctx.fresh(weights.name), weights.shape, weights.dtype, data, weights.quantization)


@lowers("MatMul", fuses=True, int8=Int8("free"))
def matmul(ctx: Lowering, node: Node) -> None:
    """The matmul of numpy; a third input is a bias that `fusion` found."""
    left, right = ctx.shape(node.inputs[0]), ctx.shape(node.inputs[1])
    if len(right) == 2 and ctx.constant(node.inputs[1]) is not None and len(left) >= 2:
        _fully_connected(ctx, node)
        return
    if node.input(2):
        raise AssertionError("fusion gives a bias only to constant weights")
    first = ctx.tensor(node.inputs[0])
    if len(left) == 1:
        first = ctx.reshaped(first, (1, *left))
    if len(right) == 1:
        second, adjoint = ctx.reshaped(ctx.tensor(node.inputs[1]), (*right, 1)), False
    else:
        second, adjoint = _right(ctx, node.inputs[1])
    rows, columns = first.shape[-2], second.shape[-2 if adjoint else -1]
    shape = (*np.broadcast_shapes(first.shape[:-2], second.shape[:-2]), rows, columns)
    inputs: list[Tensor | None] = [first, second]
    quantization = ctx.info(node.outputs[0]).quantization
    made = ctx.op("BATCH_MATMUL", inputs, shape, first.dtype, quantization, adjX=False, adjY=adjoint)
    if node.activation != "NONE":
        made = ctx.op("RELU6" if node.activation == "RELU6" else node.activation, [made], shape)
    final = ctx.out(node.outputs[0])
    if not ctx.rename(made, final):
        ctx.emit("RESHAPE", [made, ctx.ints(final.shape)], [final], newShape=list(final.shape))


def _right(ctx: Lowering, name: str) -> tuple[Tensor, bool]:
    """The right operand as it is or with its last two axes swapped, whichever moves less."""
    rank, value = len(ctx.shape(name)), ctx.value(name)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if value.tensor.data is None and value.layout[-1] == rank - 2:
        return ctx.tensor(name, swapped), True
    return ctx.tensor(name), False


def _fully_connected(ctx: Lowering, node: Node) -> None:
    name, rank = node.inputs[0], len(ctx.shape(node.inputs[0]))
    # The leading axes are a batch to FULLY_CONNECTED, in whatever order they lie.
    layout = last(ctx.layout(name), rank - 1)
    data = ctx.tensor(name, layout)
    weights = unshuffled(ctx, name, ctx.tensor(node.inputs[1], (1, 0)))
    bias = ctx.tensor(node.input(2)) if node.input(2) else None
    if bias is None and weights.quantization is not None:
        bias = ctx.zeros((weights.shape[0],), like=node)
    made = ctx.out(node.outputs[0], layout)
    options = {"keepNumDims": True} if rank > 2 else {}
    ctx.emit("FULLY_CONNECTED", [data, weights, bias], [made], fusedActivationFunction=node.activation, **options)
