"""Pooling: windows by MAX_POOL_2D and AVERAGE_POOL_2D, whole axes by MEAN and REDUCE_MAX."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array, Node, Tensor
from edgesdk_converters.tflite.lower.layout import channels_last
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.padding import Window, pad_with, window_of
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_LOWEST = float(np.finfo(np.float32).min)


@lowers("MaxPool", fuses=True, int8=Int8("same"))
def max_pool(ctx: Lowering, node: Node) -> None:
    """MAX_POOL_2D."""
    if len(node.outputs) > 1 and node.outputs[1] in ctx.graph.consumers():
        ctx.refuse("its second output (indices) has no TFLite counterpart", "Do not use the indices")
    window, data = _windowed(ctx, node)
    if max(window.dilations) > 1:
        ctx.refuse(f"its dilations {list(window.dilations)} are more than 1", "Replace it by a pool without dilation")
    padding = window.name
    if padding is None:
        # Zeros are exact where nothing is negative, and PAD (unlike PADV2) runs in XNNPACK.
        value = 0.0 if not_negative(ctx, node.inputs[0]) else _LOWEST
        if data.dtype != "float32":
            value = float(np.iinfo(data.dtype).min)
        data, padding = pad_with(ctx, data, window.pads, value), "VALID"
    _pool(ctx, node, "MAX_POOL_2D", data, window, padding)


@lowers("AveragePool", fuses=True, int8=Int8("same"))
def average_pool(ctx: Lowering, node: Node) -> None:
    """AVERAGE_POOL_2D; where padding counts differently a constant map corrects the means."""
    window, data = _windowed(ctx, node)
    if max(window.dilations) > 1:
        ctx.refuse(f"its dilations {list(window.dilations)} are more than 1", "Replace it by a convolution")
    area = float(np.prod(window.kernel))
    correction = area / _counts(ctx, node, data, window)
    padding = window.name
    if padding == "SAME" and not node.attribute("count_include_pad", 0):
        correction = np.ones(())  # TFLite's SAME does not count the padding either
    elif padding != "VALID":
        data, padding = pad_with(ctx, data, window.pads), "VALID"
    if np.all(correction == 1):
        _pool(ctx, node, "AVERAGE_POOL_2D", data, window, padding or "VALID")
        return
    if data.quantization is not None:
        ctx.refuse("int8 pooling cannot correct the means at the border", "Keep it in float")
    made = _pool(ctx, node, "AVERAGE_POOL_2D", data, window, padding or "VALID", bind=False)
    factor = ctx.const(correction.astype(np.float32).reshape(1, *correction.shape, 1))
    scaled = ctx.op("MUL", [made, factor], made.shape, fusedActivationFunction=node.activation)
    _finish(ctx, node, scaled)


def _windowed(ctx: Lowering, node: Node) -> tuple[Window, Tensor]:
    shape = ctx.shape(node.inputs[0])
    rank = len(shape)
    if rank not in (3, 4):
        ctx.refuse(f"it pools over {rank - 2} axes; TFLite has one and two", "Cut the model before it")
    window = window_of(ctx, node, shape[2:], [int(k) for k in node.attribute("kernel_shape")])
    data = ctx.tensor(node.inputs[0], channels_last(rank))
    if rank == 3:
        return window.two_dimensional(), ctx.reshaped(data, (data.shape[0], 1, *data.shape[1:]))
    return window, data


def _pool(
    ctx: Lowering, node: Node, code: str, data: Tensor, window: Window, padding: str, *, bind: bool = True
) -> Tensor:
    out = ctx.shape(node.outputs[0])
    shape = (out[0], 1, out[2], out[1]) if len(out) == 3 else (out[0], out[2], out[3], out[1])
    made = ctx.op(
        code,
        [data],
        shape,
        data.dtype,
        ctx.info(node.outputs[0]).quantization,
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
        fusedActivationFunction=node.activation if bind else "NONE",
    )
    if bind:
        _finish(ctx, node, made)
    return made


def _finish(ctx: Lowering, node: Node, made: Tensor) -> None:
    out = ctx.out(node.outputs[0], channels_last(len(ctx.shape(node.outputs[0]))))
    if not ctx.rename(made, out):
        ctx.emit("RESHAPE", [made, ctx.ints(out.shape)], [out], newShape=list(out.shape))


def _counts(ctx: Lowering, node: Node, data: Tensor, window: Window) -> Array:
    """How many elements ONNX divides by, for each output position."""
    out = ctx.shape(node.outputs[0])
    made = (1, out[2]) if len(out) == 3 else out[2:]
    include = bool(node.attribute("count_include_pad", 0))
    stated = node.attribute("pads") or [0] * (2 * (len(out) - 2))
    ends = [0, stated[1]] if len(out) == 3 else list(stated[2:])
    counts = []
    for axis in range(2):
        size, (before, after) = data.shape[1 + axis], window.pads[axis]
        if node.attribute("auto_pad", "NOTSET") not in ("NOTSET", ""):
            ends[axis] = after
        start = np.arange(made[axis]) * window.strides[axis] - before
        stop = start + window.kernel[axis]
        low, high = (-before, size + ends[axis]) if include else (0, size)
        counts.append(np.minimum(stop, high) - np.maximum(start, low))
    return np.asarray(np.maximum(np.multiply.outer(counts[0], counts[1]), 1), np.float64)


def not_negative(ctx: Lowering, name: str) -> bool:
    """Whether a tensor is known to hold nothing below zero."""
    for _ in range(8):
        maker = next((node for node in ctx.graph.nodes if name in node.outputs), None)
        if maker is None:
            return False
        if maker.activation in ("RELU", "RELU6") or maker.op_type in ("Relu", "Sigmoid", "Softmax"):
            return True
        if maker.op_type not in ("MaxPool", "Identity", "Transpose", "Reshape"):
            return False
        name = maker.inputs[0]
    return False


@lowers("GlobalAveragePool", int8=Int8("free"))
def global_average_pool(ctx: Lowering, node: Node) -> None:
    """MEAN over the spatial axes."""
    _global(ctx, node, "MEAN")


@lowers("GlobalMaxPool", int8=Int8("same"))
def global_max_pool(ctx: Lowering, node: Node) -> None:
    """REDUCE_MAX over the spatial axes."""
    _global(ctx, node, "REDUCE_MAX")


def _global(ctx: Lowering, node: Node, code: str) -> None:
    value = ctx.value(node.inputs[0])
    axes = sorted(value.layout.index(axis) for axis in range(2, len(value.layout)))
    ctx.emit(code, [value.tensor, ctx.ints(axes)], [ctx.out(node.outputs[0], value.layout)], keepDims=True)
