"""Output branches of detection heads as their exporters write them: YOLOv5, YOLOv8 / 11, YOLOv10, SSD, DETR; small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import Branch
from edgesdk_converters.graph import find_branches
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.runner import OnnxRunner

CLASSES = 3
LEVELS = ((8, 4), (4, 4))
"""Side and anchors' channels of each feature map."""


class Head:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.rng = np.random.default_rng(0)

    def add(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def ints(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64))

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def floats(self, *shape: int) -> str:
        return self.constant(self.rng.uniform(0.1, 1, shape).astype(np.float32))

    def conv(self, x: str, outputs: int, inputs: int = 4) -> str:
        return str(self.add("Conv", [x, self.floats(outputs, inputs, 1, 1)]))

    def model(self, **outputs: tuple[str, Sequence[int]]) -> onnx.ModelProto:
        for name, (source, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [source], [name]))
        graph = helper.make_graph(
            self.nodes,
            "head",
            [helper.make_tensor_value_info(f"x{i}", 1, [1, c, s, s]) for i, (s, c) in enumerate(LEVELS)],
            [helper.make_tensor_value_info(name, 1, list(shape)) for name, (_, shape) in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def yolov5() -> onnx.ModelProto:
    """Per level: Sigmoid over everything, Split, xy and wh decoded, joined, flattened; the levels behind one Concat."""
    h, rows = Head(), 5 + CLASSES
    levels = []
    for index, (side, _) in enumerate(LEVELS):
        maps = h.conv(f"x{index}", 2 * rows)
        five = h.add("Reshape", [maps, h.ints(1, 2, rows, side, side)])
        squashed = h.add("Sigmoid", [h.add("Transpose", [five], perm=[0, 1, 3, 4, 2])])
        xy, wh, scores = h.add("Split", [squashed, h.ints(2, 2, 1 + CLASSES)], 3, axis=4)
        xy = h.add("Mul", [h.add("Add", [h.add("Mul", [xy, h.floats()]), h.floats(1, 2, side, side, 2)]), h.floats()])
        wh = h.add(
            "Mul", [h.add("Pow", [h.add("Mul", [wh, h.floats()]), h.constant(np.float32(2))]), h.floats(1, 2, 1, 1, 2)]
        )
        joined = h.add("Concat", [xy, wh, scores], axis=4)
        levels.append(h.add("Reshape", [joined, h.ints(1, 2 * side * side, rows)]))
    return h.model(output0=(h.add("Concat", levels, axis=1), [1, 160, rows]))


def v8_parts(h: Head) -> tuple[str, str, str, int]:
    """Left-top, right-bottom and class logits over all levels: (1, 2, A), (1, 2, A), (1, C, A)."""
    flat = []
    for index in range(len(LEVELS)):
        both = h.add("Concat", [h.conv(f"x{index}", 16), h.conv(f"x{index}", CLASSES)], axis=1)
        flat.append(h.add("Reshape", [both, h.ints(1, 16 + CLASSES, -1)]))
    anchors = sum(side * side for side, _ in LEVELS)
    box, scores = h.add("Split", [h.add("Concat", flat, axis=2), h.ints(16, CLASSES)], 2, axis=1)
    bins = h.add("Transpose", [h.add("Reshape", [box, h.ints(1, 4, 4, anchors)])], perm=[0, 2, 1, 3])
    distance = h.conv(h.add("Softmax", [bins], axis=1), 1)
    sides = h.add("Reshape", [distance, h.ints(1, 4, anchors)])
    one = h.ints(1)
    lt = h.add("Slice", [sides, h.ints(0), h.ints(2), one])
    rb = h.add("Slice", [sides, h.ints(2), h.ints(4), one])
    centre = h.floats(1, 2, anchors)
    return h.add("Sub", [centre, lt]), h.add("Add", [centre, rb]), scores, anchors


def yolov8() -> onnx.ModelProto:
    """Boxes of distances (a Softmax that is no output's), times the stride, and scores behind one Concat."""
    h = Head()
    first, second, scores, anchors = v8_parts(h)
    middle = h.add("Div", [h.add("Add", [first, second]), h.constant(np.float32(2))])
    boxes = h.add("Mul", [h.add("Concat", [middle, h.add("Sub", [second, first])], axis=1), h.floats(1, anchors)])
    whole = h.add("Concat", [boxes, h.add("Sigmoid", [scores])], axis=1)
    return h.model(output0=(whole, [1, 4 + CLASSES, anchors]))


def yolov10() -> onnx.ModelProto:
    """The best anchors without NMS: [1, N, 6] of corners, score and class."""
    h, best = Head(), 5
    first, second, scores, anchors = v8_parts(h)
    boxes = h.add("Mul", [h.add("Concat", [first, second], axis=1), h.floats(1, anchors)])
    whole = h.add("Transpose", [h.add("Concat", [boxes, h.add("Sigmoid", [scores])], axis=1)], perm=[0, 2, 1])
    boxes, scores = h.add("Split", [whole, h.ints(4, CLASSES)], 2, axis=-1)
    top = h.add("ReduceMax", [scores], axes=[-1], keepdims=0)
    _, rows = h.add("TopK", [top, h.ints(best)], 2, axis=-1)
    rows = h.add("Unsqueeze", [rows, h.ints(-1)])
    boxes = h.add("GatherElements", [boxes, h.add("Tile", [rows, h.ints(1, 1, 4)])], axis=1)
    scores = h.add("GatherElements", [scores, h.add("Tile", [rows, h.ints(1, 1, CLASSES)])], axis=1)
    value, place = h.add("TopK", [h.add("Reshape", [scores, h.ints(1, -1)]), h.ints(best)], 2, axis=-1)
    classes = h.add("Mod", [place, h.ints(CLASSES)])
    anchor = h.add("Tile", [h.add("Unsqueeze", [h.add("Div", [place, h.ints(CLASSES)]), h.ints(-1)]), h.ints(1, 1, 4)])
    kept = h.add("GatherElements", [boxes, anchor], axis=1)
    last = h.ints(-1)
    parts = [kept, h.add("Unsqueeze", [value, last]), h.add("Unsqueeze", [h.add("Cast", [classes], to=1), last])]
    return h.model(output0=(h.add("Concat", parts, axis=2), [1, best, 6]))


def ssd(*, softmax_last: bool = True) -> onnx.ModelProto:
    """Boxes and scores are outputs of their own; each is the feature maps one behind the other."""
    h, made = Head(), {}
    for name, columns in (("boxes", 4), ("scores", 1 + CLASSES)):
        flat = []
        for index, (side, _) in enumerate(LEVELS):
            turned = h.add("Transpose", [h.conv(f"x{index}", 2 * columns)], perm=[0, 2, 3, 1])
            level = h.add("Reshape", [turned, h.ints(1, 2 * side * side, columns)])
            flat.append(h.add("Softmax", [level], axis=2) if name == "scores" and not softmax_last else level)
        joined = h.add("Concat", flat, axis=1)
        made[name] = (
            h.add("Softmax", [joined], axis=2) if name == "scores" and softmax_last else joined,
            [1, 160, columns],
        )
    return h.model(**made)


def detr() -> onnx.ModelProto:
    """Queries: class logits and squashed boxes, both behind a matrix product; nothing is joined."""
    h = Head()
    queries = h.add("Transpose", [h.add("Reshape", ["x0", h.ints(1, 4, 64)])], perm=[0, 2, 1])
    logits = h.add("Add", [h.add("MatMul", [queries, h.floats(4, 1 + CLASSES)]), h.floats(1 + CLASSES)])
    boxes = h.add("Sigmoid", [h.add("MatMul", [queries, h.floats(4, 4)])])
    other = h.add("Relu", ["x1"])
    return h.model(logits=(logits, [1, 64, 1 + CLASSES]), boxes=(boxes, [1, 64, 4]), other=(other, [1, 4, 4, 4]))


HEADS: dict[str, tuple[onnx.ModelProto, dict[str, list[tuple[int | None, int, int | None, int | None]]]]] = {
    "yolov5": (yolov5(), {"output0": [(2, 0, 2, None), (2, 2, 4, None), (2, 4, 8, None)]}),
    "yolov8": (yolov8(), {"output0": [(1, 0, 2, None), (1, 2, 4, None), (1, 4, 7, None)]}),
    "yolov10": (yolov10(), {"output0": [(2, 0, 2, None), (2, 2, 4, None), (2, 4, 5, None), (2, 5, 6, None)]}),
    "ssd": (ssd(), {"boxes": [(1, 0, 128, None), (1, 128, 160, None)], "scores": [(None, 0, None, 2)]}),
    "ssd, squashed level by level": (
        ssd(softmax_last=False),
        {"boxes": [(1, 0, 128, None), (1, 128, 160, None)], "scores": [(1, 0, 128, 2), (1, 128, 160, 2)]},
    ),
    "detr": (detr(), {"logits": [], "boxes": [], "other": []}),
}


def spans(branches: tuple[Branch, ...]) -> list[tuple[int | None, int, int | None, int | None]]:
    return [(branch.axis, branch.start, branch.stop, branch.class_axis) for branch in branches]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("prepared", [False, True], ids=["as exported", "prepared"])
def test_branches__of_a_head(name: str, prepared: bool) -> None:
    model, expected = HEADS[name]
    if prepared:
        shapes = {f"x{i}": (1, c, s, s) for i, (s, c) in enumerate(LEVELS)}
        feed = random_feed([(shape, "float32", None) for shape in shapes.values()])
        model, notes = prepare(model, shapes, OnnxRunner(model), feed, file=name)
        assert notes == []
    assert {output: spans(branches) for output, branches in find_branches(model).items()} == expected
