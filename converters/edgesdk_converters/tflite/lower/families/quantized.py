"""QuantizeLinear and DequantizeLinear where they stay, and the integer matrix product."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.ir import Node
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.quantized_tensors import DOMAIN
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_TYPES = frozenset({"int8", "uint8", "int16"})
"""Of quantized tensors."""


@lowers("QuantizeLinear")
@lowers("Requantize", domain=DOMAIN)
def quantize(ctx: Lowering, node: Node) -> None:
    """QUANTIZE, of float or of other integers."""
    if ctx.info(node.outputs[0]).quantization is None:
        ctx.refuse(
            "its scale or zero point is computed, not positive, or has blocks",
            "Quantize with constant scales per tensor or channel",
        )
    given, kind = ctx.info(node.outputs[0]).quantization, ctx.info(node.outputs[0]).dtype
    if kind not in _TYPES:
        ctx.refuse(f"it quantizes to {kind}", "Quantize activations to 8 bits, or to int16")
    if given is not None and given.scale.size > 1 and np.any(given.zero_point):
        ctx.refuse("its channels have zero points of their own", "Quantize activations with one scale per tensor")
    value = ctx.value(node.inputs[0])
    ctx.emit("QUANTIZE", [value.tensor], [ctx.out(node.outputs[0], value.layout)])


@lowers("DequantizeLinear")
def dequantize(ctx: Lowering, node: Node) -> None:
    """DEQUANTIZE."""
    if ctx.info(node.inputs[0]).quantization is None:
        ctx.refuse(
            "its scale or zero point is computed, not positive, or has blocks",
            "Quantize with constant scales per tensor or channel",
        )
    given, kind = ctx.info(node.inputs[0]).quantization, ctx.info(node.inputs[0]).dtype
    if kind not in _TYPES | {"int4"}:
        ctx.refuse(f"it dequantizes {kind}", "Quantize activations to 8 bits, or to int16")
    if given is not None and kind == "int16" and np.any(given.zero_point):
        ctx.refuse("its int16 numbers have a zero point", "Quantize 16 bits symmetrically")
    value = ctx.value(node.inputs[0])
    ctx.emit("DEQUANTIZE", [value.tensor], [ctx.out(node.outputs[0], value.layout)])


@lowers("Dense", domain=DOMAIN, fuses=True, int8=Int8("free"))
def dense(ctx: Lowering, node: Node) -> None:
    """CONV_2D of one pixel: unlike FULLY_CONNECTED it has had a scale per output channel since its first int8 version."""
    data, weights = ctx.tensor(node.inputs[0]), ctx.tensor(node.inputs[1])
    made, inner = weights.shape
    rows = data.size // inner
    quantization = ctx.info(node.outputs[0]).quantization
    pixels = ctx.reshaped(data, (1, rows, 1, inner))
    kernel = ctx.reshaped(weights, (made, 1, 1, inner))
    if node.input(2):
        bias = ctx.tensor(node.input(2))
    elif data.dtype == "float32":  # hybrid
        bias = ctx.const(np.zeros(made, np.float32), f"{node.name}/zero_bias")
    else:
        bias = ctx.zeros((made,), like=node)
    product = ctx.op(
        "CONV_2D",
        [pixels, kernel, bias],
        (1, rows, 1, made),
        data.dtype,
        quantization,
        padding="VALID",
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=node.activation,
    )
    out = ctx.out(node.outputs[0])
    if not ctx.rename(product, out):
        ctx.emit("RESHAPE", [product, ctx.ints(out.shape)], [out], newShape=list(out.shape))
