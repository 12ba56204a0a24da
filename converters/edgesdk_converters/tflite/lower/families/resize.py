"""Resize and Upsample: RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR, and GATHER where nearest rounds in its own way."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite.lower.folding import evaluate
from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node
from edgesdk_converters.tflite.lower.layout import channels_last
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, lowers

_SAMPLING = frozenset({"mode", "coordinate_transformation_mode", "nearest_mode"})


@lowers("Resize", int8=Int8("same"))
def resize(ctx: Lowering, node: Node) -> None:
    """Spatial axes of a 3-D or 4-D tensor."""
    source, target = ctx.shape(node.inputs[0]), ctx.shape(node.outputs[0])
    mode = node.attribute("mode", "nearest")
    transform = node.attribute("coordinate_transformation_mode", "half_pixel")
    if mode == "cubic":
        ctx.refuse("TFLite has no cubic interpolation", "Export it with mode linear")
    if transform == "tf_crop_and_resize":
        ctx.refuse("it crops while it resizes", "Slice first, then resize")
    if node.attribute("antialias", 0) and any(t < s for s, t in zip(source, target, strict=True)):
        ctx.refuse("it filters against aliasing", "Export it with antialias=0")
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        ctx.refuse("it keeps the aspect ratio", "Give the sizes that come out")
    scales = _scales(ctx, node, source, target)
    uneven = any(abs(f * s - t) > 1e-3 for f, s, t in zip(scales, source, target, strict=True))
    if transform == "align_corners" and uneven:
        ctx.refuse("it aligns corners at a factor that gives no whole size", "Give sizes instead of scales")
    if source == target and all(scale == 1.0 for scale in scales):
        value = ctx.value(node.inputs[0])
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    if mode == "nearest":
        _nearest(ctx, node, scales)
    else:
        _linear(ctx, node, transform, scales)


def _scales(ctx: Lowering, node: Node, source: tuple[int, ...], target: tuple[int, ...]) -> list[float]:
    """The factor of each axis, as ONNX counts with it."""
    if node.input(2) and (stated := ctx.constant(node.input(2))) is not None and stated.size:
        scales = [1.0] * len(source)
        axes = node.attribute("axes") or range(len(source))
        for axis, scale in zip(axes, stated.reshape(-1), strict=True):
            scales[axis] = float(scale)
        return scales
    return [t / s for s, t in zip(source, target, strict=True)]


def _taken(ctx: Lowering, node: Node, axis: int, scale: float) -> Array:
    """Where ONNX Runtime takes each element of an axis from: what it makes of 0, 1, 2 and so on.

    Its rounding decides between two neighbours where a position lies between them, and follows no formula of the standard.
    """
    size, made = ctx.shape(node.inputs[0])[axis], ctx.shape(node.outputs[0])[axis]
    stated = ctx.constant(node.input(2)) if node.input(2) else None
    by_scale = stated is not None and stated.size > 0
    values: dict[str, Array] = {
        "line": np.arange(size, dtype=np.float32).reshape(1, 1, 1, size),
        "scales": np.asarray([1, 1, 1, scale], np.float32),
        "sizes": np.asarray([1, 1, 1, made], np.int64),
    }
    infos = {name: Info(name, tuple(value.shape), value.dtype.name, value) for name, value in values.items()}
    kept = {key: value for key, value in node.attributes.items() if key in _SAMPLING}
    inputs = ["line", "", "scales"] if by_scale else ["line", "", "", "sizes"]
    graph = Graph("line", [], infos, [], [], ctx.graph.opset)
    try:
        return evaluate(graph, [Node("Resize", "line", inputs, ["taken"], kept)], ["taken"])[0].reshape(-1)
    except Exception:  # noqa: BLE001 - ONNX Runtime raises its own types for attributes that it does not know
        ctx.refuse("ONNX Runtime cannot compute it", "Check its mode, its coordinates and its factors")


def _nearest(ctx: Lowering, node: Node, scales: list[float]) -> None:
    source, target = ctx.shape(node.inputs[0]), ctx.shape(node.outputs[0])
    picked = {
        axis: np.arange(source[axis])
        if source[axis] == target[axis] and scale == 1.0
        else _taken(ctx, node, axis, scale).astype(np.int64)
        for axis, scale in enumerate(scales)
    }
    axes = [axis for axis in picked if not np.array_equal(picked[axis], np.arange(source[axis]))]
    if not axes:
        value = ctx.value(node.inputs[0])
        ctx.bind(node.outputs[0], value.tensor, value.layout)
        return
    kernel = ctx.info(node.inputs[0]).quantization is not None or ctx.dtype(node.inputs[0]) in (
        "float32",
        "int8",
        "uint8",
    )
    if kernel and len(source) == 4 and set(axes) <= {2, 3}:
        for corners, half in ((False, False), (False, True), (True, False)):
            if all(np.array_equal(picked[a], _tflite_nearest(source[a], target[a], corners, half)) for a in (2, 3)):
                made = ctx.out(node.outputs[0], channels_last(4))
                size = ctx.ints(target[2:])
                data = ctx.tensor(node.inputs[0], channels_last(4))
                ctx.emit("RESIZE_NEAREST_NEIGHBOR", [data, size], [made], alignCorners=corners, halfPixelCenters=half)
                return
    value = ctx.value(node.inputs[0])
    tensor = value.tensor
    for axis in axes:
        place = value.layout.index(axis)
        shape = [*tensor.shape]
        shape[place] = target[axis]
        tensor = ctx.op(
            "GATHER", [tensor, ctx.ints(picked[axis])], shape, tensor.dtype, tensor.quantization, axis=place
        )
    ctx.rename(tensor, ctx.out(node.outputs[0], value.layout))


def _tflite_nearest(size: int, made: int, corners: bool, half: bool) -> Array:  # noqa: FBT001 - the kernel's two flags
    """Which pixel the kernel takes (``GetNearestNeighbor``), in its float32."""
    scale = np.float32((size - 1) / (made - 1)) if corners and made > 1 else np.float32(size) / np.float32(made)
    where = (np.arange(made, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
    picked = np.floor(where + np.float32(0.5)) if corners else np.floor(where)
    return np.asarray(np.clip(picked, 0, size - 1), np.int64)


def _linear(ctx: Lowering, node: Node, transform: str, scales: list[float]) -> None:
    source, target = ctx.shape(node.inputs[0]), ctx.shape(node.outputs[0])
    rank = len(source)
    if rank not in (3, 4) or source[:2] != target[:2]:
        ctx.refuse(f"it resizes {list(source)} to {list(target)}; TFLite resizes height and width", "Resize these only")
    modes = {"half_pixel": (False, True), "pytorch_half_pixel": (False, True), "half_pixel_symmetric": (False, True)}
    corners, half = modes.get(transform, (transform == "align_corners", False))
    for axis in range(2, rank):
        want = _taken(ctx, node, axis, scales[axis])
        have = _tflite_linear(source[axis], target[axis], corners, half)
        if not np.allclose(want, have, atol=1e-4 * source[axis] / max(source[axis], 64)):
            ctx.refuse(
                f"TFLite's bilinear sampling differs from {transform} at scale {scales[axis]:g}",
                "Give integer output sizes instead of scales, or export with half_pixel",
            )
    data = ctx.tensor(node.inputs[0], channels_last(rank))
    made = ctx.out(node.outputs[0], channels_last(rank))
    if rank == 3:
        data = ctx.reshaped(data, (data.shape[0], 1, *data.shape[1:]))
    options: dict[str, Any] = {"alignCorners": corners, "halfPixelCenters": half}
    size = [1, target[2]] if rank == 3 else target[2:]
    if rank == 4:
        ctx.emit("RESIZE_BILINEAR", [data, ctx.ints(size)], [made], **options)
        return
    whole = (target[0], 1, target[2], target[1])
    flat = ctx.op("RESIZE_BILINEAR", [data, ctx.ints(size)], whole, data.dtype, data.quantization, **options)
    ctx.emit("RESHAPE", [flat, ctx.ints(made.shape)], [made], newShape=list(made.shape))


def _tflite_linear(size: int, made: int, corners: bool, half: bool) -> Array:  # noqa: FBT001 - the kernel's two flags
    """Where the kernel samples (``ComputeInterpolationValues``)."""
    scale = (size - 1) / (made - 1) if corners and made > 1 else size / made
    at = np.arange(made, dtype=np.float64)
    return np.asarray(np.clip((at + 0.5) * scale - 0.5 if half else at * scale, 0, size - 1))
