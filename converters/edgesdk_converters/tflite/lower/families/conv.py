"""Conv and ConvTranspose: CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array, Node, Tensor
from edgesdk_converters.tflite.lower.layout import channels_last
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.padding import Window, pad_with, window_of
from edgesdk_converters.tflite.lower.problems import Refusal
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_VOLUME = 5
"""Axes of a tensor with depth."""


@lowers("Conv", fuses=True, int8=Int8("free"))
def conv(ctx: Lowering, node: Node) -> None:
    """1-D, 2-D and 3-D convolution, grouped and depthwise."""
    name, shape = node.inputs[0], ctx.shape(node.inputs[0])
    rank, group = len(shape), int(node.attribute("group", 1))
    if rank == _VOLUME and group == 1:
        _conv_3d(ctx, node)
        return
    if rank not in (3, 4):
        groups = f" in {group} groups" if group > 1 else ""
        ctx.refuse(
            f"it convolves over {rank - 2} axes{groups}; TFLite has one and two, and three without groups",
            "Cut the model before it",
        )
    weight_shape = ctx.shape(node.inputs[1])
    window = window_of(ctx, node, shape[2:], weight_shape[2:])
    layout = channels_last(rank)
    lying = ctx.layout(name)
    if rank == 4 and _pointwise(window) and (lying[0], lying[-1]) == (0, 1):
        layout = lying
    data = ctx.tensor(name, layout)
    if rank == 3:
        window = window.two_dimensional()
        data = ctx.reshaped(data, (data.shape[0], 1, *data.shape[1:]))
    depthwise = group == shape[1] and group > 1
    weights = _weights(ctx, node.inputs[1], rank, depthwise=depthwise)
    bias = _bias(ctx, node, weight_shape[0])
    padding = window.name
    if padding is None:
        data = pad_with(ctx, data, window.pads)
        padding = "VALID"
    out_shape = ctx.shape(node.outputs[0])
    whole = (out_shape[0], 1, out_shape[2], out_shape[1]) if rank == 3 else None
    options = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": node.activation,
    }
    code = "CONV_2D"
    if depthwise:
        code, options["depthMultiplier"] = "DEPTHWISE_CONV_2D", weight_shape[0] // group
    if whole is None:
        ctx.emit(code, [data, weights, bias], [ctx.out(node.outputs[0], layout)], **options)
        return
    quantization = ctx.info(node.outputs[0]).quantization
    flat = ctx.op(code, [data, weights, bias], whole, ctx.dtype(node.outputs[0]), quantization, **options)
    made = ctx.out(node.outputs[0], layout)
    ctx.emit("RESHAPE", [flat, ctx.ints(made.shape)], [made], newShape=list(made.shape))


def _conv_3d(ctx: Lowering, node: Node) -> None:
    """CONV_3D: NDHWC data, DHWIO weights, floats only."""
    shape, weight_shape = ctx.shape(node.inputs[0]), ctx.shape(node.inputs[1])
    if ctx.info(node.inputs[0]).quantization is not None:
        ctx.refuse("TFLite convolves over three axes in float only", "Keep it in float")
    window = window_of(ctx, node, shape[2:], weight_shape[2:])
    layout = channels_last(_VOLUME)
    data, padding = ctx.tensor(node.inputs[0], layout), window.name
    if padding is None:
        data, padding = pad_with(ctx, data, window.pads), "VALID"
    weights = ctx.move(ctx.tensor(node.inputs[1]), (2, 3, 4, 1, 0))
    bias = _bias(ctx, node, weight_shape[0])
    options = {
        f"{what}{axis}{end}": value
        for what, values, end in (("stride", window.strides, ""), ("dilation", window.dilations, "Factor"))
        for axis, value in zip("DHW", values, strict=True)
    }
    made = ctx.out(node.outputs[0], layout)
    ctx.emit(
        "CONV_3D",
        [data, weights, bias],
        [made],
        padding=padding,
        fusedActivationFunction=node.activation,
        **options,
    )


def _pointwise(window: Window) -> bool:
    """Whether height and width may lie in any order."""
    return window.name == "VALID" and max(window.kernel) == max(window.strides) == 1


def _weights(ctx: Lowering, name: str, rank: int, *, depthwise: bool) -> Tensor:
    """OIHW -> OHWI, and 1HW(O) for depthwise; a 1-D kernel gets height 1."""
    value = ctx.tensor(name)
    if rank == 3:
        value = _with_height(ctx, value)
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    return ctx.move(value, order)


def _with_height(ctx: Lowering, weights: Tensor) -> Tensor:
    shape = (*weights.shape[:2], 1, weights.shape[2])
    return ctx.reshaped(weights, shape)


def _bias(ctx: Lowering, node: Node, channels: int) -> Tensor:
    if node.input(2):
        return ctx.tensor(node.input(2))
    return ctx.zeros((channels,), like=node)


@lowers("ConvTranspose", int8=Int8("free"))
def conv_transpose(ctx: Lowering, node: Node) -> None:
    """1-D and 2-D transposed convolution; groups are split."""
    name, shape = node.inputs[0], ctx.shape(node.inputs[0])
    rank, group = len(shape), int(node.attribute("group", 1))
    if rank not in (3, 4):
        ctx.refuse(f"it convolves over {rank - 2} axes; TFLite has one and two", "Cut the model before it")
    spatial = rank - 2
    kernel = ctx.shape(node.inputs[1])[2:]
    strides = list(node.attribute("strides") or [1] * spatial)
    dilations = list(node.attribute("dilations") or [1] * spatial)
    weight = ctx.constant(node.inputs[1])
    if max(dilations) > 1:
        if weight is None:
            ctx.refuse("its kernel is dilated and computed", "Export it without dilation")
        weight = _dilated(weight, dilations)
        kernel = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    out = ctx.shape(node.outputs[0])
    begin, extra = _cropping(node, shape[2:], out[2:], kernel, strides)
    full = [(size - 1) * stride + k for size, stride, k in zip(shape[2:], strides, kernel, strict=True)]
    layout = channels_last(rank)
    data = ctx.tensor(name, layout)
    if rank == 3:
        data = ctx.reshaped(data, (data.shape[0], 1, *data.shape[1:]))
        kernel, strides, full = (1, *kernel), [1, *strides], [1, *full]
        begin, extra = [0, *begin], [0, *extra]
    target = [1, out[2]] if rank == 3 else list(out[2:])
    same = all(_same(t, s, k, b) for t, s, k, b in zip(target, strides, kernel, begin, strict=True))
    same = same and list(data.shape[1:3]) == [-(-t // s) for t, s in zip(target, strides, strict=True)]
    valid = not any(begin) and full == target
    inner = target if same or valid else full
    # A negative crop at the end is output padding: zeros (plus bias) beyond what the kernel reaches.
    added = any(b < 0 for b in begin) or any(b + t > f for b, t, f in zip(begin, target, full, strict=True))
    bias = ctx.tensor(node.input(2)) if node.input(2) and group == 1 and not added else None
    parts = [
        _one_group(ctx, node, data, weight, index, (out[1] // group, *kernel), inner, strides, same=same, bias=bias)
        for index in range(group)
    ]
    whole = parts[0] if group == 1 else ctx.op(
        "CONCATENATION", parts, (*parts[0].shape[:3], out[1]), axis=3, fusedActivationFunction="NONE"
    )  # fmt: skip
    if not (same or valid):
        whole = _crop(ctx, whole, begin, target, full)
    if node.input(2) and bias is None:
        whole = ctx.op("ADD", [whole, ctx.tensor(node.input(2))], whole.shape, fusedActivationFunction="NONE")
    made = ctx.out(node.outputs[0], layout)
    if not ctx.rename(whole, made):
        ctx.emit("RESHAPE", [whole, ctx.ints(made.shape)], [made], newShape=list(made.shape))


def _one_group(
    ctx: Lowering, node: Node, data: Tensor, weight: Array | None, index: int,
    shape: Sequence[int], inner: Sequence[int], strides: Sequence[int], *, same: bool, bias: Tensor | None,
) -> Tensor:  # fmt: skip
    group = int(node.attribute("group", 1))
    channels = data.shape[3] // group
    if weight is None:
        if group > 1:
            ctx.refuse("its kernel is computed and grouped", "Export it with constant weights")
        tensor = ctx.tensor(node.inputs[1])
        weights = ctx.move(_with_height(ctx, tensor) if len(tensor.shape) == 3 else tensor, (1, 2, 3, 0))
    elif ctx.info(node.inputs[1]).quantization is not None and group == 1:
        tensor = ctx.tensor(node.inputs[1])
        weights = ctx.move(_with_height(ctx, tensor) if len(tensor.shape) == 3 else tensor, (1, 2, 3, 0))
    else:
        part = weight[index * channels : (index + 1) * channels]
        part = part.reshape(channels, *shape)
        weights = ctx.const(np.ascontiguousarray(part.transpose(1, 2, 3, 0)), node.inputs[1])
    if group > 1:
        begin = [0, 0, 0, index * channels]
        size = [*data.shape[:3], channels]
        data = ctx.op("SLICE", [data, ctx.ints(begin), ctx.ints(size)], size)
    made = (data.shape[0], inner[0], inner[1], shape[0])
    return ctx.op(
        "TRANSPOSE_CONV",
        [ctx.ints(made), weights, data, *([bias] if bias else [])],
        made,
        ctx.dtype(node.outputs[0]),
        ctx.info(node.outputs[0]).quantization,
        padding="SAME" if same else "VALID",
        strideH=strides[0],
        strideW=strides[1],
    )


def _crop(ctx: Lowering, whole: Tensor, begin: Sequence[int], target: Sequence[int], full: Sequence[int]) -> Tensor:
    before = [max(-b, 0) for b in begin]
    after = [max(b + t - f, 0) for b, t, f in zip(begin, target, full, strict=True)]
    if any(before) or any(after):
        whole = pad_with(ctx, whole, tuple(zip(before, after, strict=True)))
    begin = [max(b, 0) for b in begin]
    size = [whole.shape[0], *target, whole.shape[3]]
    if list(whole.shape) == size:
        return whole
    return ctx.op("SLICE", [whole, ctx.ints([0, *begin, 0]), ctx.ints(size)], size, whole.dtype, whole.quantization)


def _dilated(weight: Array, dilations: Sequence[int]) -> Array:
    sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    wide = np.zeros((*weight.shape[:2], *sizes), weight.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = weight
    return wide


def _cropping(
    node: Node, size: Sequence[int], out: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is cut at the beginning and at the end (negative: added) of the full result."""
    auto = node.attribute("auto_pad", "NOTSET")
    pads = node.attribute("pads") or [0] * (2 * len(size))
    if auto.startswith("SAME") and any(node.attribute("output_padding") or ()):
        raise Refusal(
            "it has output padding besides auto_pad, of which runtimes make different shapes",
            "Export it with explicit pads",
        )
    extra = node.attribute("output_padding") or [0] * len(size)
    begin, end = list(pads[: len(size)]), list(pads[len(size) :])
    for axis, length in enumerate(size):
        full = (length - 1) * strides[axis] + kernel[axis]
        total = max(full + extra[axis] - out[axis], 0)
        if auto == "SAME_UPPER":
            begin[axis] = total // 2
        elif auto == "SAME_LOWER" or (auto == "NOTSET" and node.attribute("output_shape")):
            begin[axis] = total - total // 2
        elif auto == "VALID":
            begin[axis] = 0
        end[axis] = full - out[axis] - begin[axis]
    return begin, end


def _same(target: int, stride: int, kernel: int, begin: int) -> bool:
    """Whether TFLite's SAME cuts the same amount at the beginning."""
    size = -(-target // stride)
    return begin == max((size - 1) * stride + kernel - target, 0) // 2
