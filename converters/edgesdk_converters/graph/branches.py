"""Finds what an output is made of: boxes and scores behind one final Concat are two branches, judged one by one.

An error measure over the whole tensor is blind to the small one: in a YOLO head whose boxes reach 320 and whose scores end
at 1, scores that are all zero are hardly an error at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from edgesdk.bundle.manifest import Branch
from edgesdk_converters.graph.view import GraphView, attribute, static_shapes

_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_SAME = frozenset({"Identity", "Cast", "Dropout", "DequantizeLinear", "QuantizeLinear"})
_RISING = frozenset({"Sigmoid", "Relu", "Clip", "Exp", "Tanh", "LeakyRelu", "Softplus", "Sqrt", "Log", "HardSigmoid"})
"""Element by element, and larger stays larger: the largest class stays the largest."""
_POINTWISE = _RISING | {"Neg", "Abs", "Floor", "Round", "Ceil", "Pow", "HardSwish", "Reciprocal"}
_WITH_CONSTANT = frozenset({"Mul", "Add", "Sub", "Div", "Pow", "Max", "Min"})
_GATHERS = frozenset({"Gather", "GatherElements"})
_MOST = 16
"""More parts than this are a loop unrolled, not meanings."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A slice of a tensor along ``axis`` (None: all of it) and the tensor that fills it."""

    tensor: str
    start: int
    stop: int
    class_axis: int | None = None


@dataclass(frozen=True, slots=True)
class _Split:
    axis: int | None
    parts: tuple[_Part, ...]


def find_branches(model: onnx.ModelProto) -> dict[str, tuple[Branch, ...]]:
    """Branches of every output by its name; empty where the output is one thing and no class vector."""
    view = GraphView(model)
    shapes = static_shapes(model)
    found: dict[str, tuple[Branch, ...]] = {}
    for name in view.outputs:
        split = _walk(view, shapes, name)
        parts = split.parts
        if len(parts) > _MOST or (len(parts) == 1 and parts[0].class_axis is None):
            found[name] = ()
            continue
        whole = len(parts) == 1
        found[name] = tuple(
            Branch(
                name=name if whole else f"{name}[{part.start}:{part.stop}]",
                axis=None if whole else split.axis,
                start=0 if whole else part.start,
                stop=None if whole else part.stop,
                class_axis=part.class_axis,
            )
            for part in parts
        )
    return found


def _walk(view: GraphView, shapes: Mapping[str, tuple[int, ...]], name: str) -> _Split:
    node, shape = view.producer.get(name), shapes.get(name)
    if node is None or shape is None:
        return _whole(name)
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = int(attribute(node, "axis", -1)) % max(len(shape), 1)
        return _Split(None, (_Part(name, 0, 0, axis if shape and shape[axis] > 1 else None),))
    if node.op_type in _SAME:
        return _walk(view, shapes, node.input[0])
    if node.op_type == "Transpose":
        order = list(attribute(node, "perm", list(range(len(shape)))[::-1]))
        return _move(_walk(view, shapes, node.input[0]), {old: new for new, old in enumerate(order)}, name)
    if node.op_type in _RESHAPES and node.input[0] in shapes:
        return _move(_walk(view, shapes, node.input[0]), _kept_axes(shapes[node.input[0]], shape), name)
    if node.op_type == "Concat":
        return _concat(view, shapes, node, shape)
    if node.op_type in ("Slice", "Split"):
        return _cut(view, shapes, node, name)
    if node.op_type in _POINTWISE | _WITH_CONSTANT:
        return _pointwise(view, shapes, node, name)
    if node.op_type in _GATHERS:
        return _gather(view, shapes, node, name)
    return _whole(name)


def _pointwise(view: GraphView, shapes: Mapping[str, tuple[int, ...]], node: Any, name: str) -> _Split:
    """Scaled, shifted or squashed behind the Concat: the parts are the same, if there is more than one."""
    sources = [source for source in node.input if source and source not in view.constants]
    if node.op_type in {"Clip", "Pow"}:
        sources = sources[:1]
    if len(sources) != 1 or shapes.get(sources[0]) != shapes[name]:
        return _whole(name)
    split = _walk(view, shapes, sources[0])
    if len(split.parts) < 2:
        return _whole(name)
    if node.op_type in _RISING:
        return split
    return _Split(split.axis, tuple(_Part(p.tensor, p.start, p.stop) for p in split.parts))


def _gather(view: GraphView, shapes: Mapping[str, tuple[int, ...]], node: Any, name: str) -> _Split:
    """Rows that are picked across the split (the best of the anchors) keep their columns."""
    before, after = shapes.get(node.input[0]), shapes[name]
    if before is None or len(before) != len(after):
        return _whole(name)
    axis = int(attribute(node, "axis", 0)) % len(before)
    split = _walk(view, shapes, node.input[0])
    kept = split.axis is None or (split.axis != axis and before[split.axis] == after[split.axis])
    if not kept:
        return _whole(name)
    parts = tuple(_Part(p.tensor, p.start, p.stop, None if p.class_axis == axis else p.class_axis) for p in split.parts)
    return _Split(split.axis, parts)


def _whole(name: str) -> _Split:
    return _Split(None, (_Part(name, 0, 0),))


def _concat(view: GraphView, shapes: Mapping[str, tuple[int, ...]], node: Any, shape: tuple[int, ...]) -> _Split:
    axis = int(attribute(node, "axis", 0)) % len(shape)
    sources = [source for source in node.input if source not in view.constants]
    inner = [_walk(view, shapes, source) for source in node.input]
    # The same split across another axis in every operand (boxes and scores, once per feature map) is the meaning;
    # the feature maps are not.
    first = inner[0]
    if first.axis not in (None, axis) and all(
        other.axis == first.axis and _bounds(other) == _bounds(first) for other in inner[1:]
    ):
        return _Split(first.axis, first.parts)
    if len(sources) < 2 or any(source not in shapes for source in node.input):
        return _whole(node.output[0])
    parts: list[_Part] = []
    at = 0
    for source, split in zip(node.input, inner, strict=True):
        size = shapes[source][axis]
        if split.axis == axis:
            parts += [_Part(p.tensor, at + p.start, at + p.stop, p.class_axis) for p in split.parts]
        else:
            classes = split.parts[0].class_axis if split.axis is None else None
            parts.append(_Part(source, at, at + size, classes))
        at += size
    return _Split(axis, tuple(parts))


def _cut(view: GraphView, shapes: Mapping[str, tuple[int, ...]], node: Any, name: str) -> _Split:
    """A Slice or Split keeps the parts that it touches; only unit steps along one axis are followed."""
    split = _walk(view, shapes, node.input[0])
    before, after = shapes.get(node.input[0]), shapes.get(name)
    if before is None or after is None:
        return _whole(name)
    changed = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if not changed:
        return split
    if split.axis is None and split.parts[0].class_axis not in changed:
        return _Split(None, (_Part(name, 0, 0, split.parts[0].class_axis),))  # fewer class vectors, each whole
    if changed != [split.axis]:
        return split if split.axis is not None and split.axis not in changed else _whole(name)
    start = _start(view, shapes, node, name, changed[0])
    if start is None:
        return _whole(name)
    stop = start + after[changed[0]]
    parts = tuple(
        _Part(p.tensor, max(p.start, start) - start, min(p.stop, stop) - start, p.class_axis)
        for p in split.parts
        if p.stop > start and p.start < stop
    )
    return _Split(changed[0], parts)


def _start(view: GraphView, shapes: Mapping[str, tuple[int, ...]], node: Any, name: str, axis: int) -> int | None:
    if node.op_type == "Split":
        at = 0
        for other in node.output:
            if other == name:
                return at
            if other not in shapes:
                return None
            at += shapes[other][axis]
        return None
    starts, axes = view.constant(node.input[1]), view.constant(node.input[3]) if len(node.input) > 3 else None
    steps = view.constant(node.input[4]) if len(node.input) > 4 else None
    if starts is None or (axes is None and len(node.input) > 3) or (steps is not None and (steps != 1).any()):
        return None
    rank = len(shapes[name])
    order = [int(a) % rank for a in axes] if axes is not None else list(range(len(starts)))
    if axis not in order:
        return None
    value = int(starts[order.index(axis)])
    return value if value >= 0 else shapes[node.input[0]][axis] + value


def _move(split: _Split, axes: Mapping[int, int], name: str) -> _Split:
    """Follow the axes of a split into a transposed or reshaped tensor; what is lost makes it one whole again."""
    if split.axis is not None and split.axis not in axes:
        return _whole(name)
    parts = tuple(
        _Part(p.tensor, p.start, p.stop, axes.get(p.class_axis) if p.class_axis is not None else None)
        for p in split.parts
    )
    return _Split(None if split.axis is None else axes[split.axis], parts)


def _kept_axes(before: tuple[int, ...], after: tuple[int, ...]) -> dict[int, int]:
    """Axes that survive a reshape: same size, same number of elements in front and behind."""
    kept: dict[int, int] = {}
    for old, size in enumerate(before):
        for new, other in enumerate(after):
            if size == other and size > 1 and math.prod(before[:old]) == math.prod(after[:new]):
                kept[old] = new
                break
    return kept


def _bounds(split: _Split) -> list[tuple[int, int]]:
    return [(part.start, part.stop) for part in split.parts]
