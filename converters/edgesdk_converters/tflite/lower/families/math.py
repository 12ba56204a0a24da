"""Pow, Erf, Reciprocal, Cast, and blocks between depth and space."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.families.activations import unary
from edgesdk_converters.tflite.lower.families.elementwise import operands
from edgesdk_converters.tflite.lower.ir import Node, Tensor
from edgesdk_converters.tflite.lower.layout import channels_last
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz and Stegun 7.1.26; the error stays below 1.5e-7."""
_ERF_P = 0.3275911


@lowers("Pow")
def power(ctx: Lowering, node: Node) -> None:
    """Small exponents by MUL, SQRT, RSQRT; POW otherwise."""
    exponent = ctx.constant(node.inputs[1])
    value = ctx.value(node.inputs[0])
    whole = ctx.shape(node.outputs[0]) == ctx.shape(node.inputs[0])
    if ctx.dtype(node.inputs[0]) == "float32" and exponent is not None and exponent.size == 1 and whole:
        number = float(exponent.reshape(-1)[0])
        if number == 2.0:
            made = ctx.out(node.outputs[0], value.layout)
            ctx.emit("MUL", [value.tensor, value.tensor], [made], fusedActivationFunction="NONE")
            return
        if number == 3.0:
            squared = ctx.op("MUL", [value.tensor] * 2, value.tensor.shape, fusedActivationFunction="NONE")
            made = ctx.out(node.outputs[0], value.layout)
            ctx.emit("MUL", [squared, value.tensor], [made], fusedActivationFunction="NONE")
            return
        if number in (0.5, -0.5):
            unary(ctx, node, "SQRT" if number > 0 else "RSQRT")
            return
        if number == 1.0:
            ctx.bind(node.outputs[0], value.tensor, value.layout)
            return
    if ctx.info(node.inputs[0]).dtype != ctx.info(node.inputs[1]).dtype:
        if exponent is None or ctx.dtype(node.inputs[0]) != "float32":
            ctx.refuse("base and exponent have different types", "Cast the exponent")
        layout, tensors = operands(ctx, node.inputs, node.outputs[0])
        assert tensors[1].data is not None
        tensors[1] = ctx.const(tensors[1].data.astype(np.float32))
    else:
        layout, tensors = operands(ctx, node.inputs, node.outputs[0])
    ctx.emit("POW", tensors, [ctx.out(node.outputs[0], layout)])


@lowers("Rsqrt", domain="edgesdk")
def rsqrt(ctx: Lowering, node: Node) -> None:
    """1 / sqrt(x); made by `patterns`."""
    unary(ctx, node, "RSQRT")


@lowers("Reciprocal")
def reciprocal(ctx: Lowering, node: Node) -> None:
    """1 / x."""
    value = ctx.value(node.inputs[0])
    made = ctx.out(node.outputs[0], value.layout)
    ctx.emit("DIV", [ctx.const(np.float32(1)), value.tensor], [made], fusedActivationFunction="NONE")


@lowers("Erf")
def erf(ctx: Lowering, node: Node) -> None:
    """A rational approximation: TFLite has no error function of its own."""
    value = ctx.value(node.inputs[0])
    shape = value.tensor.shape

    def arithmetic(code: str, first: Tensor, second: Tensor | float) -> Tensor:
        other = second if isinstance(second, Tensor) else ctx.const(np.float32(second))
        return ctx.op(code, [first, other], shape, fusedActivationFunction="NONE")

    size = ctx.op("ABS", [value.tensor], shape)
    below = arithmetic("ADD", arithmetic("MUL", size, _ERF_P), 1.0)
    t = ctx.op("DIV", [ctx.const(np.float32(1)), below], shape, fusedActivationFunction="NONE")
    series = arithmetic("MUL", t, _ERF[0])
    for factor in _ERF[1:]:
        series = arithmetic("MUL", arithmetic("ADD", series, factor), t)
    falling = ctx.op("EXP", [ctx.op("NEG", [arithmetic("MUL", size, size)], shape)], shape)
    rest = arithmetic("MUL", series, falling)
    high = ctx.op("SUB", [ctx.const(np.float32(1)), rest], shape, fusedActivationFunction="NONE")
    sign = ctx.op("SIGN", [value.tensor], shape)
    made = ctx.out(node.outputs[0], value.layout)
    ctx.emit("MUL", [high, sign], [made], fusedActivationFunction="NONE")


@lowers("Cast")
def cast(ctx: Lowering, node: Node) -> None:
    """CAST; nothing between types that are computed alike."""
    value = ctx.value(node.inputs[0])
    target = ctx.dtype(node.outputs[0])
    if value.tensor.dtype == target:
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    ctx.emit("CAST", [value.tensor], [ctx.out(node.outputs[0], value.layout)])


@lowers("DepthToSpace", int8=Int8("same"))
def depth_to_space(ctx: Lowering, node: Node) -> None:
    """DEPTH_TO_SPACE; the CRD order (PixelShuffle) sorts the channels first."""
    block = int(node.attribute("blocksize"))
    layout = channels_last(4)
    data = ctx.tensor(node.inputs[0], layout)
    if node.attribute("mode", "DCR") == "CRD":
        depth = data.shape[3] // (block * block)
        order = np.arange(data.shape[3]).reshape(depth, block, block).transpose(1, 2, 0).reshape(-1)
        if depth > 1:
            data = ctx.op("GATHER", [data, ctx.ints(order)], data.shape, data.dtype, data.quantization, axis=3)
    ctx.emit("DEPTH_TO_SPACE", [data], [ctx.out(node.outputs[0], layout)], blockSize=block)


@lowers("SpaceToDepth", int8=Int8("same"))
def space_to_depth(ctx: Lowering, node: Node) -> None:
    """SPACE_TO_DEPTH."""
    layout = channels_last(4)
    data = ctx.tensor(node.inputs[0], layout)
    block = int(node.attribute("blocksize"))
    depth = data.shape[3]
    made = ctx.out(node.outputs[0], layout)
    if node.attribute("mode", "DCR") == "CRD" and depth > 1:
        sorted_ = ctx.op("SPACE_TO_DEPTH", [data], made.shape, data.dtype, data.quantization, blockSize=block)
        order = np.arange(depth * block * block).reshape(block, block, depth).transpose(2, 0, 1).reshape(-1)
        ctx.emit("GATHER", [sorted_, ctx.ints(order)], [made], axis=3)
        return
    ctx.emit("SPACE_TO_DEPTH", [data], [made], blockSize=block)
