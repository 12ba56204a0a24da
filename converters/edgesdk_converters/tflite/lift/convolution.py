"""Operators over pictures: convolutions, pooling, resizing. All of them want their channels first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesdk_converters.tflite.lift.builder import Builder, CannotLiftError, Op, lifts

_SAME = 0
"""`Padding.SAME` of the schema."""


def _around(size: int, out: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after an axis under SAME: the odd one goes behind."""
    total = max(0, (out - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def _pads(graph: Builder, op: Op, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    if int(op.option("padding")) != _SAME:
        return [0, 0, 0, 0]
    before, after = graph.shape(op.inputs[0])[1:3], graph.shape(op.outputs[0])[1:3]
    strides = (int(op.option("strideH", 1)), int(op.option("strideW", 1)))
    pairs = [_around(*values) for values in zip(before, after, kernel, strides, dilations, strict=True)]
    return [pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]]


@lifts("CONV_2D", "DEPTHWISE_CONV_2D")
def _convolution(graph: Builder, op: Op) -> None:
    weights = graph.known(op.inputs[1])
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    # (1, H, W, C * multiplier) and (O, H, W, I / groups) to (O, I / groups, H, W).
    kernel = np.transpose(weights, (3, 0, 1, 2)) if depthwise else np.transpose(weights, (0, 3, 1, 2))
    channels = graph.shape(op.inputs[0])[3]
    groups = channels if depthwise else channels // weights.shape[3]
    dilations = [int(op.option("dilationHFactor", 1)), int(op.option("dilationWFactor", 1))]
    inputs = [graph.first(op.inputs[0]), graph.constant(kernel, graph.name(op.inputs[1]))]
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        inputs.append(graph.plain(op.inputs[2]))
    made = graph.node(
        "Conv",
        inputs,
        name=graph.name(op.outputs[0]),
        kernel_shape=list(kernel.shape[2:]),
        strides=[int(op.option("strideH", 1)), int(op.option("strideW", 1))],
        dilations=dilations,
        pads=_pads(graph, op, kernel.shape[2:], dilations),
        group=groups,
    )
    graph.set_first(op.outputs[0], graph.activate(made, op))


@lifts("TRANSPOSE_CONV")
def _transpose_convolution(graph: Builder, op: Op) -> None:
    weights = graph.known(op.inputs[1])  # (O, H, W, I)
    out = graph.shape(op.outputs[0])
    size = graph.shape(op.inputs[2])
    strides = [int(op.option("strideH", 1)), int(op.option("strideW", 1))]
    pads = [0, 0, 0, 0]
    for axis in (0, 1):
        total = (size[1 + axis] - 1) * strides[axis] + weights.shape[1 + axis] - out[1 + axis]
        if int(op.option("padding")) == _SAME and total > 0:
            pads[axis], pads[axis + 2] = total // 2, total - total // 2
    inputs = [graph.first(op.inputs[2]), graph.constant(np.transpose(weights, (3, 0, 1, 2)), graph.name(op.inputs[1]))]
    if len(op.inputs) > 3 and op.inputs[3] >= 0:
        inputs.append(graph.plain(op.inputs[3]))
    extra = [
        out[1 + a] - ((size[1 + a] - 1) * strides[a] + weights.shape[1 + a] - pads[a] - pads[a + 2]) for a in (0, 1)
    ]
    made = graph.node(
        "ConvTranspose",
        inputs,
        name=graph.name(op.outputs[0]),
        kernel_shape=list(weights.shape[1:3]),
        strides=strides,
        pads=pads,
        output_padding=extra,
    )
    graph.set_first(op.outputs[0], graph.activate(made, op))


@lifts("MAX_POOL_2D", "AVERAGE_POOL_2D")
def _pool(graph: Builder, op: Op) -> None:
    kernel = [int(op.option("filterHeight", 1)), int(op.option("filterWidth", 1))]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [int(op.option("strideH", 1)), int(op.option("strideW", 1))],
        "pads": _pads(graph, op, kernel, (1, 1)),
    }
    if op.kind == "AVERAGE_POOL_2D":
        # TFLite divides by the number of real pixels under the window.
        made = graph.node("AveragePool", [graph.first(op.inputs[0])], count_include_pad=0, **attributes)
    else:
        made = graph.node("MaxPool", [graph.first(op.inputs[0])], **attributes)
    graph.set_first(op.outputs[0], graph.activate(made, op))


@lifts("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def _resize(graph: Builder, op: Op) -> None:
    height, width = (int(value) for value in graph.known(op.inputs[1]))
    batch, _, _, channels = graph.shape(op.inputs[0])
    align, half = bool(op.option("alignCorners", default=False)), bool(op.option("halfPixelCenters", default=False))
    nearest = op.kind == "RESIZE_NEAREST_NEIGHBOR"
    # floor((x + 0.5) * scale) of TFLite's half-pixel nearest is rounding in ONNX's coordinates.
    rounding: dict[str, Any] = {"nearest_mode": "round_prefer_ceil" if align or half else "floor"}
    made = graph.node(
        "Resize",
        [graph.first(op.inputs[0]), "", "", graph.ints([batch, channels, height, width])],
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="align_corners" if align else "half_pixel" if half else "asymmetric",
        **(rounding if nearest else {}),
    )
    graph.set_first(op.outputs[0], made)


@lifts("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _blocks(graph: Builder, op: Op) -> None:
    kind = "DepthToSpace" if op.kind == "DEPTH_TO_SPACE" else "SpaceToDepth"
    block = int(op.option("blockSize", 1))
    graph.set_first(op.outputs[0], graph.node(kind, [graph.first(op.inputs[0])], blocksize=block))


@lifts("FULLY_CONNECTED")
def _fully_connected(graph: Builder, op: Op) -> None:
    weights = graph.known(op.inputs[1])  # (O, I)
    shape = graph.shape(op.inputs[0])
    source = graph.plain(op.inputs[0])
    flat = len(shape) == 2 or not bool(op.option("keepNumDims", default=False))
    if flat and (len(shape) != 2 or shape[1] != weights.shape[1]):
        source = graph.node("Reshape", [source, graph.ints([-1, weights.shape[1]])])
    bias = graph.plain(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
    name = graph.name(op.outputs[0])
    if flat:
        inputs = [source, graph.constant(weights, graph.name(op.inputs[1])), *([bias] if bias else [])]
        made = graph.node("Gemm", inputs, name=name, transB=1)
    else:
        made = graph.node("MatMul", [source, graph.constant(weights.T, graph.name(op.inputs[1]))], name=name)
        made = graph.node("Add", [made, bias]) if bias else made
    graph.set_plain(op.outputs[0], graph.activate(made, op))


@lifts("BATCH_MATMUL")
def _batch_matmul(graph: Builder, op: Op) -> None:
    names = []
    for index, flag in zip(op.inputs, ("adjX", "adjY"), strict=True):
        name, rank = graph.plain(index), len(graph.shape(index))
        if op.option(flag, default=False):
            name = graph.node("Transpose", [name], perm=[*range(rank - 2), rank - 1, rank - 2])
        names.append(name)
    graph.set_plain(op.outputs[0], graph.node("MatMul", names, name=graph.name(op.outputs[0])))


@lifts("DEQUANTIZE")
def _dequantize(graph: Builder, op: Op) -> None:
    value = graph.known(op.inputs[0])
    if value.dtype != np.float16:
        raise CannotLiftError("the model is quantized already")
    graph.set_value(op.outputs[0], value.astype(np.float32))


@lifts("DENSIFY")
def _densify(graph: Builder, op: Op) -> None:
    graph.set_value(op.outputs[0], graph.known(op.inputs[0]))
