"""Signals and pictures by constant matrices: Fourier transforms, and resizing that no kernel of TFLite does."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_WHOLE = 1e-3
"""How far from a whole number of elements a factor may lead."""
_LARGEST = 4096
"""Length of a transform that is worth a matrix."""


@spells("Resize", "Upsample")
def resize(s: Sketch) -> None:
    """One product for each axis; its matrix is what the same operator makes of the identity."""
    scales = _scales(s)
    made = s.x
    attributes = {
        key: value
        for key, value in s.node.attributes.items()
        if key
        in ("mode", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "nearest_mode", "antialias")
    }
    roi = None
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        roi = s.constant(1, "region")
        if float(s.attribute("extrapolation_value", 0.0)) != 0.0:
            s.refuse("it fills what lies outside with a number", "Export it with extrapolation_value=0")
    if s.node.op_type == "Upsample":
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    attributes["mode"] = {b"linear": "linear"}.get(attributes.get("mode", "nearest"), attributes.get("mode", "nearest"))
    if attributes.get("coordinate_transformation_mode") == "align_corners" and any(size is None for _, size in scales):
        s.refuse("it aligns corners at a factor that gives no whole size", "Give sizes instead of scales")
    rank = len(s.shape())
    axes = [int(a) % rank for a in s.attribute("axes", range(rank))]
    shape = list(s.shape())
    for place, axis in enumerate(axes):
        scale, size = scales[place]
        if roi is None and scale == 1.0:
            continue
        eye = s.const(np.eye(shape[axis], dtype=np.float32))
        region = s.const([0, roi[place], 1, roi[place + len(axes)]], "float32") if roi is not None else ""
        inputs = (
            [eye, region, s.const([1, scale], "float32")]
            if size is None
            else [eye, region, "", s.ints(shape[axis], size)]
        )
        matrix = s.op("Resize", *inputs, **attributes)
        order = [*(a for a in range(rank) if a != axis), axis]
        product = s.op("MatMul", s.op("Transpose", made, perm=order), matrix)
        made = s.op("Transpose", product, perm=[order.index(a) for a in range(rank)])
    s.result(made)


def _scales(s: Sketch) -> list[tuple[float, int | None]]:
    """For each axis the factor and, where the node gives sizes, the size."""
    index = 1 if s.node.op_type == "Upsample" else 2
    stated = s.constant(index, "factor")
    if stated is not None and stated.size:
        lengths = [s.shape()[a] for a in s.attribute("axes", range(len(s.shape())))]
        made = [float(v) * length for v, length in zip(stated.reshape(-1), lengths, strict=True)]
        whole = [round(m) if abs(m - round(m)) < _WHOLE else None for m in made]
        return [(float(v), size) for v, size in zip(stated.reshape(-1), whole, strict=True)]
    sizes = s.constant(3, "size")
    assert sizes is not None
    axes = s.attribute("axes", range(len(s.shape())))
    if s.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        factors = [int(v) / s.shape()[a] for a, v in zip(axes, sizes, strict=True)]
        factor = (min if s.attribute("keep_aspect_ratio_policy") == "not_larger" else max)(factors)
        if any(abs(factor * s.shape()[a] - round(factor * s.shape()[a])) > _WHOLE for a in axes):
            s.refuse("it keeps the aspect ratio at a factor that gives no whole size", "Give the sizes that come out")
        return [(factor, round(factor * s.shape()[a])) for a in axes]
    return [(int(v) / s.shape()[a], int(v)) for a, v in zip(axes, sizes, strict=True)]


@spells("DFT")
def dft(s: Sketch) -> None:
    """Products with cosines and sines."""
    rank = len(s.shape())
    axis = s.number(2, "axis", int(s.attribute("axis", 1 if s.graph.opset < 20 and not s.input(2) else -2))) % rank
    shape = s.shape()
    size = s.number(1, "length", shape[axis])
    inverse, onesided = bool(s.attribute("inverse", 0)), bool(s.attribute("onesided", 0))
    if size > _LARGEST:
        s.refuse(f"its length {size} is more than {_LARGEST}", "Compute the spectrum before the model")
    if inverse and onesided:
        s.refuse("it goes back from half a spectrum", "Give it the whole one")
    kept = min(size, shape[axis])
    bins = size // 2 + 1 if onesided else size
    angle = 2 * np.pi * np.outer(np.arange(kept), np.arange(bins)) / size
    share = 1 / size if inverse else 1.0
    cos, sin = np.cos(angle) * share, np.sin(angle) * share * (1 if inverse else -1)
    # (.., n, .., re/im) -> (.., n * parts) @ (n * parts, bins * 2) -> (.., bins, re/im)
    parts = shape[-1]
    matrix = np.zeros((kept, parts, bins, 2))
    matrix[:, 0, :, 0], matrix[:, 0, :, 1] = cos, sin
    if parts == 2:
        matrix[:, 1, :, 0], matrix[:, 1, :, 1] = -sin, cos
    x = s.x if kept == shape[axis] else s.slice(s.x, axis, 0, kept)
    others = [a for a in range(rank - 1) if a != axis]
    order = [*others, axis, rank - 1]
    lead = [shape[a] for a in others]
    flat = s.reshape(s.op("Transpose", x, perm=order), *lead, kept * parts)
    made = s.op("MatMul", flat, s.const(matrix.reshape(kept * parts, bins * 2), "float32"))
    whole = s.reshape(made, *lead, bins, 2)
    s.result(s.op("Transpose", whole, perm=[order.index(a) for a in range(rank)]))


@spells("STFT")
def stft(s: Sketch) -> None:
    """Frames by Gather, then a product with cosines and sines that carry the window."""
    step = s.number(1, "step", 1)
    window = s.constant(2, "window")
    length = s.number(3, "length of a frame", 0 if window is None else int(window.size))
    batch, total = s.shape()[0], s.shape()[1]
    if len(s.shape()) == 3 and s.shape()[2] != 1:
        s.refuse("its signal is complex", "Take the real part")
    frames = 1 + (total - length) // step
    bins = length // 2 + 1 if s.attribute("onesided", 1) else length
    angle = 2 * np.pi * np.outer(np.arange(length), np.arange(bins)) / length
    matrix = np.stack([np.cos(angle), -np.sin(angle)], axis=-1)
    if window is not None:
        matrix *= np.asarray(window, np.float64).reshape(-1, 1, 1)
    where = (np.arange(frames)[:, None] * step + np.arange(length)).reshape(-1)
    cut = s.op("Gather", s.reshape(s.x, batch, total), s.const(where), axis=1)
    made = s.op("MatMul", s.reshape(cut, batch, frames, length), s.const(matrix.reshape(length, -1), "float32"))
    s.result(s.reshape(made, batch, frames, bins, 2))


@spells("AffineGrid")
def affine_grid(s: Sketch) -> None:
    """Constant positions times the transposed matrices."""
    size = s.constant(1, "size")
    assert size is not None
    batch, spatial = int(size[0]), [int(v) for v in size[2:]]
    lines = []
    for count in spatial:
        line = np.linspace(-1, 1, count) if s.attribute("align_corners", 0) else (2 * np.arange(count) + 1) / count - 1
        lines.append(line)
    grids = np.meshgrid(*lines, indexing="ij")[::-1]
    points = np.stack([*(grid.reshape(-1) for grid in grids), np.ones(int(np.prod(spatial)))], axis=-1)
    made = s.op("MatMul", s.const(points[None], s.dtype()), s.op("Transpose", s.x, perm=[0, 2, 1]))
    s.result(s.reshape(made, batch, *spatial, len(spatial)))
