"""Activation functions, and the unary operators that are one TFLite operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite.lower.fusion import activation_of
from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_UNARY = {
    "Relu": "RELU", "Sigmoid": "LOGISTIC", "Tanh": "TANH", "Abs": "ABS", "Exp": "EXP", "Log": "LOG", "Sqrt": "SQRT",
    "Neg": "NEG", "Floor": "FLOOR", "Ceil": "CEIL", "Sin": "SIN", "Cos": "COS", "Not": "LOGICAL_NOT", "HardSwish": "HARD_SWISH",
    "Round": "ROUND",
}  # fmt: skip


def unary(ctx: Lowering, node: Node, code: str, **options: Any) -> None:
    """One operator, the layout stays."""
    value = ctx.value(node.inputs[0])
    ctx.emit(code, [value.tensor], [ctx.out(node.outputs[0], value.layout)], **options)


@lowers("Relu", int8=Int8("free"))
@lowers("Sigmoid", int8=Int8("fixed", 1 / 256, -128))
@lowers("Tanh", int8=Int8("fixed", 1 / 128, 0))
@lowers("HardSwish", int8=Int8("free", int16=False))
@lowers("Abs", "Exp", "Log", "Sqrt", "Neg", "Floor", "Ceil", "Sin", "Cos", "Not", "Round")
def same_operator(ctx: Lowering, node: Node) -> None:
    """Operators that TFLite has under another name."""
    info = ctx.info(node.inputs[0])
    if node.op_type == "Relu" and info.dtype != "float32" and info.dtype.startswith("int") and not info.quantization:
        value = ctx.value(node.inputs[0])
        zero = ctx.const(np.zeros((), value.tensor.dtype))
        ctx.emit("MAXIMUM", [value.tensor, zero], [ctx.out(node.outputs[0], value.layout)])
        return
    unary(ctx, node, _UNARY[node.op_type])


@lowers("LeakyRelu", int8=Int8("free"))
def leaky_relu(ctx: Lowering, node: Node) -> None:
    """LEAKY_RELU."""
    unary(ctx, node, "LEAKY_RELU", alpha=float(node.attribute("alpha", 0.01)))


@lowers("Elu")
def elu(ctx: Lowering, node: Node) -> None:
    """ELU with alpha 1."""
    if float(node.attribute("alpha", 1.0)) != 1.0:
        value = ctx.value(node.inputs[0])
        # The two halves of it: Elu of what is negative, scaled, plus what is positive.
        low = ctx.op("MINIMUM", [value.tensor, ctx.const(np.float32(0))], value.tensor.shape)
        raised = ctx.op("ELU", [low], value.tensor.shape)
        alpha = ctx.const(np.float32(node.attribute("alpha")))
        scaled = ctx.op("MUL", [raised, alpha], value.tensor.shape, fusedActivationFunction="NONE")
        high = ctx.op("RELU", [value.tensor], value.tensor.shape)
        made = ctx.out(node.outputs[0], value.layout)
        ctx.emit("ADD", [scaled, high], [made], fusedActivationFunction="NONE")
        return
    unary(ctx, node, "ELU")


@lowers("Gelu")
def gelu(ctx: Lowering, node: Node) -> None:
    """GELU, exact or by tanh."""
    unary(ctx, node, "GELU", approximate=node.attribute("approximate", "none") == "tanh")


@lowers("Clip", int8=Int8("free"))
def clip(ctx: Lowering, node: Node) -> None:
    """RELU, RELU6 and RELU_N1_TO_1 where the bounds are theirs, else MINIMUM and MAXIMUM."""
    known = activation_of(ctx.graph, node)
    real = ctx.dtype(node.inputs[0]) == "float32" or ctx.info(node.inputs[0]).quantization is not None
    if known is not None and real:
        unary(ctx, node, known)
        return
    value = ctx.value(node.inputs[0])
    bounds = [
        (code, ctx.tensor(name)) for code, name in (("MAXIMUM", node.input(1)), ("MINIMUM", node.input(2))) if name
    ]
    if not bounds:
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    tensor = value.tensor
    for code, bound in bounds[:-1]:
        tensor = ctx.op(code, [tensor, ctx.reshaped(bound, ())], tensor.shape, tensor.dtype, tensor.quantization)
    code, bound = bounds[-1]
    ctx.emit(code, [tensor, ctx.reshaped(bound, ())], [ctx.out(node.outputs[0], value.layout)])


@lowers("HardSigmoid")
def hard_sigmoid(ctx: Lowering, node: Node) -> None:
    """max(0, min(1, alpha * x + beta)); by RELU6 where that saves an operator."""
    alpha, beta = float(node.attribute("alpha", 0.2)), float(node.attribute("beta", 0.5))
    value = ctx.value(node.inputs[0])
    shape = value.tensor.shape
    made = ctx.out(node.outputs[0], value.layout)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        shifted = ctx.op("ADD", [value.tensor, ctx.const(np.float32(3))], shape, fusedActivationFunction="RELU6")
        ctx.emit("MUL", [shifted, ctx.const(np.float32(1 / 6))], [made], fusedActivationFunction="NONE")
        return
    scaled = ctx.op("MUL", [value.tensor, ctx.const(np.float32(6 * alpha))], shape, fusedActivationFunction="NONE")
    shifted = ctx.op("ADD", [scaled, ctx.const(np.float32(6 * beta))], shape, fusedActivationFunction="RELU6")
    ctx.emit("MUL", [shifted, ctx.const(np.float32(1 / 6))], [made], fusedActivationFunction="NONE")


@lowers("PRelu")
def prelu(ctx: Lowering, node: Node) -> None:
    """PRELU; the slope lies like the data."""
    from edgesdk_converters.tflite.lower.families.elementwise import aligned

    value = ctx.value(node.inputs[0])
    if not value.layout:
        ctx.refuse("it takes a scalar", "Reshape it to one axis before it")
    alone = ctx.constant(node.inputs[1])
    if alone is not None and alone.size == 1 and value.tensor.dtype == "float32":
        # One slope for all: XNNPACK before 2.15 reads behind a slope that is shorter than the last axis.
        unary(ctx, node, "LEAKY_RELU", alpha=float(alone.reshape(-1)[0]))
        return
    slope = aligned(ctx, node.inputs[1], len(value.layout), value.layout)
    if slope.shape == ():
        slope = ctx.reshaped(slope, (1,))
    # XNNPACK takes (C,) and nothing else for the slope of each channel.
    if slope.data is not None and slope.size == slope.shape[-1]:
        slope = ctx.reshaped(slope, (1,) * (len(value.layout) - 2) + (slope.size,))
    ctx.emit("PRELU", [value.tensor, slope], [ctx.out(node.outputs[0], value.layout)])
