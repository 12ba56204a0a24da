"""Whether two results, as plain data, would make an application do the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[[dict[str, Any], dict[str, Any]], bool]

MIN_IOU = 0.5
"""Boxes that overlap this much are the same object (PASCAL VOC's rule)."""
NEAR = 0.05
"""Share of the larger one by which plain numbers may differ."""


def same_decision(expected: dict[str, Any], got: dict[str, Any]) -> bool:
    """Compare what was decided, not how sure the model was.

    Args:
        expected: ``to_json()`` of the float model's result.
        got: Of the other's, for the same input.
    """
    if expected.get("kind") != got.get("kind"):
        return False
    rule: Rule = _RULES.get(str(expected.get("kind")), near)
    return rule(expected, got)


def _classes(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return [one["class_id"] for one in a["classes"][:1]] == [one["class_id"] for one in b["classes"][:1]]


def _objects(key: str) -> Rule:
    def rule(a: dict[str, Any], b: dict[str, Any]) -> bool:
        left, rest = a[key], list(b[key])
        if len(left) != len(rest):
            return False
        for one in left:
            for other in rest:
                if one.get("class_id") == other.get("class_id") and iou(_box(one), _box(other)) >= MIN_IOU:
                    rest.remove(other)
                    break
            else:
                return False
        return True

    return rule


def _box(one: dict[str, Any]) -> Sequence[float]:
    """Its own box, or the one around its quad."""
    if "xyxy" in one:
        box: Sequence[float] = one["xyxy"]
        return box
    xs, ys = zip(*one["quad"], strict=True)
    return (min(xs), min(ys), max(xs), max(ys))


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two ``xyxy`` boxes, 0..1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else float(list(a) == list(b))


def _text_line(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["text"] == b["text"])


def _lines(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return [line["text"] for line in a["lines"]] == [line["text"] for line in b["lines"]]


def _direction(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["degrees"] == b["degrees"])


def _speech(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["speaking"] == b["speaking"]) and len(a["segments"]) == len(b["segments"])


def _raw(a: dict[str, Any], b: dict[str, Any]) -> bool:
    left, right = a["outputs"], b["outputs"]
    return left.keys() == right.keys() and all(_raw_output(left[name], right[name]) for name in left)


def _raw_output(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if "argmax" in a or "argmax" in b:
        return bool(a.get("argmax") == b.get("argmax"))
    if "values" in a and "values" in b:
        x, y = _flat(a["values"]), _flat(b["values"])
        if len(x) == len(y) > 1 and all(isinstance(value, int | float) for value in (*x, *y)):
            return x.index(max(x)) == y.index(max(y))
    return near(a, b)


def _flat(values: Any) -> list[Any]:
    return [leaf for value in values for leaf in _flat(value)] if isinstance(values, list) else [values]


def near(a: Any, b: Any, size: float = 0.0) -> bool:
    """Whether plain data are alike: equal texts and shapes, numbers within a few percent.

    Args:
        a: One value: text, number, list or dict.
        b: The other.
        size: Of the whole that they are part of: a corner at 2 of a box that ends at 230 may move by more than 5 % of 2, and so may the
            probability of a class that it is not.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key], size) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        size = max(size, largest(a), largest(b))
        return len(a) == len(b) and all(near(x, y, size) for x, y in zip(a, b, strict=True))
    numbers = isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool)
    if numbers:
        return bool(abs(a - b) <= NEAR * max(abs(a), abs(b), size) + 1e-9)
    return bool(a == b)


def largest(values: Any) -> float:
    """Magnitude of the largest finite number in a list of numbers, however deep; 0 where there is anything else in it."""
    flat = _flat(values)
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in flat):
        return 0.0
    return max((abs(value) for value in flat if math.isfinite(value)), default=0.0)


_RULES: dict[str, Rule] = {
    "classification": _classes,
    "detections": _objects("objects"),
    "faces": _objects("faces"),
    "text_regions": _objects("regions"),
    "text_line": _text_line,
    "text": _lines,
    "text_direction": _direction,
    "voice_activity": _speech,
    "raw": _raw,
}
