"""Sampling at computed positions: GridSample and RoiAlign, by one Gather for each neighbour that counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells
from edgesdk_converters.tflite.lower.spellings.positions import strides

_CUBIC = -0.75
"""The coefficient that ONNX and PyTorch take."""
Tap = tuple[str, str]
"""Position along an axis (float), and the weight of what lies there."""


def _number(s: Sketch, value: float) -> str:
    return s.const(np.float32(value))


def _clamped(s: Sketch, x: str, low: float, high: float) -> str:
    return s.op("Min", s.op("Max", x, _number(s, low)), _number(s, high))


def _reflected(s: Sketch, x: str, low: float, high: float) -> str:
    """Mirrored at both ends, as often as it takes."""
    span = high - low
    if span <= 0:
        return s.op("Mul", x, _number(s, 0.0))
    moved = s.op("Sub", x, _number(s, low))
    turns = s.op("Floor", s.op("Mul", moved, _number(s, 0.5 / span)))
    rest = s.op("Sub", moved, s.op("Mul", turns, _number(s, 2 * span)))
    return s.op("Sub", _number(s, high), s.op("Abs", s.op("Sub", rest, _number(s, span))))


def _taps(s: Sketch, x: str, mode: str) -> list[Tap]:
    """The neighbours of a position, and how much each counts."""
    if mode == "nearest":
        return [(s.op("Round", x), "")]
    base = s.op("Floor", x)
    part = s.op("Sub", x, base)
    if mode == "linear":
        return [(base, s.op("Sub", _number(s, 1.0), part)), (s.op("Add", base, _number(s, 1.0)), part)]
    found: list[Tap] = []
    for offset in (-1, 0, 1, 2):
        far = s.op("Abs", s.op("Sub", part, _number(s, float(offset))))
        a = _CUBIC
        # |t| <= 1: (a + 2) t^3 - (a + 3) t^2 + 1; else a t^3 - 5a t^2 + 8a t - 4a
        factors = (a + 2, -(a + 3), 0.0, 1.0) if offset in (0, 1) else (a, -5 * a, 8 * a, -4 * a)
        weight = _number(s, factors[0])
        for factor in factors[1:]:
            weight = s.op("Add", s.op("Mul", weight, far), _number(s, factor))
        found.append((s.op("Add", base, _number(s, float(offset))), weight))
    return found


def _gathered(
    s: Sketch,
    rows: str,
    size: Sequence[int],
    base: str,
    axes: Sequence[Sequence[tuple[str, str, str]]],
    points: tuple[int, ...],
) -> str:
    """The weighted sum over all neighbours.

    Args:
        s: The sketch.
        rows: (positions in all pictures, channels).
        size: Of a picture, by axis.
        base: int32, where the picture of each point begins; the shape of the points, or broadcast to it.
        axes: For each axis its taps: position (float, inside), weight ("" for one), mask ("" for all).
        points: Shape of the points.
    """
    channels = s.shape(0)[1]
    along = strides(tuple(size))
    total = ""
    for taps in product(*axes):
        where = base
        weight = ""
        for (position, share, mask), step in zip(taps, along, strict=True):
            index = s.cast(position, "int32")
            where = s.op("Add", where, index if step == 1 else s.op("Mul", index, s.const(np.int32(step))))
            for factor in (share, mask):
                if factor:
                    weight = s.op("Mul", weight, factor) if weight else factor
        part = s.own("Take", rows, where, shape=(*points, channels), dtype=s.dtype())
        if weight:
            part = s.op("Mul", part, s.op("Unsqueeze", weight, s.ints(-1)))
        total = s.op("Add", total, part) if total else part
    return total


@spells("GridSample")
def grid_sample(s: Sketch) -> None:
    """Two or three spatial axes; nearest, linear and cubic; zeros, border and reflection."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(s.attribute("mode", "linear"), s.attribute("mode", "linear"))
    padding, corners = s.attribute("padding_mode", "zeros"), bool(s.attribute("align_corners", 0))
    batch, channels, *size = s.shape(0)
    count = len(size)
    if count not in (2, 3) or (mode == "cubic" and count == 3):
        s.refuse(f"it samples {mode} over {count} axes", "Sample over two axes")
    points = s.shape(1)[1:-1]
    number = int(np.prod(points))
    order = [0, *range(2, count + 2), 1]
    rows = s.reshape(s.op("Transpose", s.x, perm=order), batch * int(np.prod(size)), channels)
    grid = s.reshape(s.input(1), batch, number, count)
    axes: list[list[tuple[str, str, str]]] = []
    for axis, length in enumerate(size):
        # The grid names x first, the tensor has it last.
        place = count - 1 - axis
        at = s.reshape(s.slice(grid, 2, place, place + 1), batch, number)
        if corners:
            at = s.op("Mul", s.op("Add", at, _number(s, 1.0)), _number(s, (length - 1) / 2))
            low, high = 0.0, length - 1.0
        else:
            at = s.op("Sub", s.op("Mul", s.op("Add", at, _number(s, 1.0)), _number(s, length / 2)), _number(s, 0.5))
            low, high = -0.5, length - 0.5
        if mode == "nearest":
            at = s.op("Round", at)
        if padding == "border" and mode != "cubic":  # whose taps are held inside one by one
            at = _clamped(s, at, 0.0, length - 1.0)
        elif padding == "reflection":
            at = _reflected(s, at, low, high)
        axes.append([_inside(s, tap, length, padding, (low, high)) for tap in _taps(s, at, mode)])
    begin = s.const((np.arange(batch, dtype=np.int32) * int(np.prod(size))).reshape(batch, 1))
    made = s.reshape(_gathered(s, rows, size, begin, axes, (batch, number)), batch, *points, channels)
    s.result(s.op("Transpose", made, perm=[0, count + 1, *range(1, count + 1)]))


def _inside(s: Sketch, tap: Tap, length: int, padding: str, ends: tuple[float, float]) -> tuple[str, str, str]:
    """A tap whose position exists, with what makes it zero where it did not."""
    position, weight = tap
    if padding == "reflection":
        position = _reflected(s, position, *ends)
    safe = _clamped(s, position, 0.0, length - 1.0)
    mask = s.cast(s.op("Equal", safe, position), "float32") if padding == "zeros" else ""
    return safe, weight, mask


@spells("RoiAlign")
def roi_align(s: Sketch) -> None:
    """The mean of bilinear samples at fixed positions of each region."""
    high, wide = int(s.attribute("output_height", 1)), int(s.attribute("output_width", 1))
    count, scale = int(s.attribute("sampling_ratio", 0)), float(s.attribute("spatial_scale", 1.0))
    half = s.attribute("coordinate_transformation_mode", "half_pixel" if s.graph.opset >= _HALF_PIXEL else "") == "half_pixel"  # fmt: skip
    if count < 1:
        s.refuse("how many samples it takes depends on the regions (sampling_ratio=0)", "Export it with a fixed ratio")
    if s.attribute("mode", "avg") != "avg":
        s.refuse("it takes the largest of weighted neighbours", "Export it with mode avg")
    batch, channels, *size = s.shape(0)
    regions = s.shape(1)[0]
    rows = s.reshape(s.op("Transpose", s.x, perm=[0, 2, 3, 1]), batch * size[0] * size[1], channels)
    axes: list[list[tuple[str, str, str]]] = []
    for axis, (made, length) in enumerate(((high, size[0]), (wide, size[1]))):
        first, last = (s.slice(s.input(1), 1, place, place + 1) for place in (1 - axis, 3 - axis))
        offset = _number(s, 0.5 if half else 0.0)
        start, end = (s.op("Sub", s.op("Mul", x, _number(s, scale)), offset) for x in (first, last))
        span = s.op("Sub", end, start)
        if not half:
            span = s.op("Max", span, _number(s, 1.0))
        share = (np.arange(made * count, dtype=np.float32) + np.float32(0.5)) / (made * count)
        at = s.op("Add", start, s.op("Mul", span, s.const(share.reshape(1, -1))))
        shape = (regions, made * count, 1) if axis == 0 else (regions, 1, made * count)
        at = s.reshape(at, *shape)
        known = s.op(
            "And", s.op("GreaterOrEqual", at, _number(s, -1.0)), s.op("LessOrEqual", at, _number(s, float(length)))
        )
        taps = _taps(s, _clamped(s, at, 0.0, length - 1.0), "linear")
        mask = s.cast(known, "float32")
        axes.append([(_clamped(s, position, 0.0, length - 1.0), weight, mask) for position, weight in taps])
    begin = s.op("Mul", s.cast(s.input(2), "int32"), s.const(np.int32(size[0] * size[1])))
    points = (regions, high * count, wide * count)
    total = _gathered(s, rows, size, s.reshape(begin, regions, 1, 1), axes, points)
    blocks = s.reshape(total, regions * high, count, wide, count * channels)
    over_rows = s.op("ReduceMean", blocks, s.ints(1), keepdims=0)
    columns = s.reshape(over_rows, regions * high * wide, count, channels)
    mean = s.reshape(s.op("ReduceMean", columns, s.ints(1), keepdims=0), regions, high, wide, channels)
    s.result(s.op("Transpose", mean, perm=[0, 3, 1, 2]))


_HALF_PIXEL = 16
"""Opset from which regions are counted from the middles of pixels unless the node says otherwise."""
