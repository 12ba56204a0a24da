"""Normalisations that TFLite has no operator for, written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk_converters.tflite.lower.families.elementwise import aligned
from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import lowers


@lowers("BatchNormalization", fuses=True)
def batch_normalization(ctx: Lowering, node: Node) -> None:
    """A gain and an offset, where it could not go into a convolution."""
    if node.attribute("training_mode", 0):
        ctx.refuse("it is in training mode", "Export the model in evaluation mode")
    parameters = [ctx.constant(name) for name in node.inputs[1:5]]
    if any(p is None for p in parameters):
        ctx.refuse("its parameters are computed", "Make them constant")
    scale, offset, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    gain = scale / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    value = ctx.value(node.inputs[0])
    along = [1] * len(value.layout)
    if len(along) > 1:
        along[value.layout.index(1)] = -1
    factor = ctx.const(gain.astype(np.float32).reshape(along))
    shift = ctx.const((offset - mean * gain).astype(np.float32).reshape(along))
    scaled = ctx.op("MUL", [value.tensor, factor], value.tensor.shape, fusedActivationFunction="NONE")
    made = ctx.out(node.outputs[0], value.layout)
    ctx.emit("ADD", [scaled, shift], [made], fusedActivationFunction=node.activation)


def standardized(ctx: Lowering, tensor: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """The quotient (x - mean) / sqrt(variance + epsilon) over physical axes: seven operators."""
    small = [1 if place in axes else size for place, size in enumerate(tensor.shape)]
    over = ctx.ints(axes)
    mean = ctx.op("MEAN", [tensor, over], small, keepDims=True)
    centred = ctx.op("SUB", [tensor, mean], tensor.shape, fusedActivationFunction="NONE")
    squared = ctx.op("MUL", [centred, centred], tensor.shape, fusedActivationFunction="NONE")
    variance = ctx.op("MEAN", [squared, over], small, keepDims=True)
    safe = ctx.op("ADD", [variance, ctx.const(np.float32(epsilon))], small, fusedActivationFunction="NONE")
    inverse = ctx.op("RSQRT", [safe], small)
    return ctx.op("MUL", [centred, inverse], tensor.shape, fusedActivationFunction="NONE")


@lowers("LayerNormalization")
def layer_normalization(ctx: Lowering, node: Node) -> None:
    """Over the trailing axes."""
    value = ctx.value(node.inputs[0])
    rank = len(value.layout)
    if any(name and name in ctx.graph.consumers() for name in node.outputs[1:]):
        ctx.refuse("its mean or deviation is used", "Compute them by ReduceMean")
    first = int(node.attribute("axis", -1)) % rank
    axes = sorted(value.layout.index(axis) for axis in range(first, rank))
    tensor = standardized(ctx, value.tensor, axes, float(node.attribute("epsilon", 1e-5)))
    scale = aligned(ctx, node.inputs[1], rank, value.layout)
    tensor = ctx.op("MUL", [tensor, scale], tensor.shape, fusedActivationFunction="NONE")
    if node.input(2):
        offset = aligned(ctx, node.inputs[2], rank, value.layout)
        tensor = ctx.op("ADD", [tensor, offset], tensor.shape, fusedActivationFunction="NONE")
    ctx.rename(tensor, ctx.out(node.outputs[0], value.layout))


@lowers("InstanceNormalization")
def instance_normalization(ctx: Lowering, node: Node) -> None:
    """Over the spatial axes, scale and offset for each channel."""
    value = ctx.value(node.inputs[0])
    rank = len(value.layout)
    axes = sorted(value.layout.index(axis) for axis in range(2, rank))
    tensor = standardized(ctx, value.tensor, axes, float(node.attribute("epsilon", 1e-5)))
    shape = [1] * rank
    shape[value.layout.index(1)] = -1
    for code, name in (("MUL", node.inputs[1]), ("ADD", node.inputs[2])):
        constant = ctx.constant(name)
        if constant is None:
            ctx.refuse("its scale or offset is computed", "Make them constant")
        operand = ctx.const(constant.reshape(shape), name)
        tensor = ctx.op(code, [tensor, operand], tensor.shape, fusedActivationFunction="NONE")
    ctx.rename(tensor, ctx.out(node.outputs[0], value.layout))
