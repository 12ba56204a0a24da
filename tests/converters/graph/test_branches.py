from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from edgesdk.bundle.manifest import Branch
from edgesdk_converters.graph import find_branches

Parse = Callable[[str], onnx.ModelProto]
HEAD = '<ir_version: 8, opset_import: ["": 17]>'


def spans(branches: tuple[Branch, ...]) -> list[tuple[int | None, int, int | None, int | None]]:
    return [(branch.axis, branch.start, branch.stop, branch.class_axis) for branch in branches]


def test_branches__boxes_and_scores_behind_a_concat(yolo: onnx.ModelProto) -> None:
    assert spans(find_branches(yolo)["output0"]) == [(1, 0, 4, None), (1, 4, 6, None)]


def test_branches__single_tensor_has_none(small: onnx.ModelProto) -> None:
    assert find_branches(small) == {"y": ()}


def test_branches__softmax_is_a_class_vector(classifier: onnx.ModelProto) -> None:
    assert spans(find_branches(classifier)["y"]) == [(None, 0, None, 1)]


def test_branches__through_transpose_reshape_and_squeeze(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b, float[1, 2, 8] s) => (float[8, 6] y) {
          boxes = Relu (b)
          scores = Sigmoid (s)
          both = Concat <axis = 1> (boxes, scores)
          turned = Transpose <perm = [0, 2, 1]> (both)
          axes = Constant <value = int64[1] {0}> ()
          y = Squeeze (turned, axes)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(1, 0, 4, None), (1, 4, 6, None)]


def test_branches__same_split_in_every_feature_map(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b0, float[1, 3, 8] s0, float[1, 4, 2] b1, float[1, 3, 2] s1) => (float[1, 7, 10] y) {
          rb0 = Relu (b0)
          ss0 = Sigmoid (s0)
          rb1 = Relu (b1)
          ss1 = Sigmoid (s1)
          m0 = Concat <axis = 1> (rb0, ss0)
          m1 = Concat <axis = 1> (rb1, ss1)
          y = Concat <axis = 2> (m0, m1)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(1, 0, 4, None), (1, 4, 7, None)]


def test_branches__nested_concat_on_one_axis(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 2, 8] a, float[1, 2, 8] b, float[1, 3, 8] c) => (float[1, 7, 8] y) {
          xy = Relu (a)
          wh = Exp (b)
          box = Concat <axis = 1> (xy, wh)
          s = Softmax <axis = 1> (c)
          y = Concat <axis = 1> (box, s)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(1, 0, 2, None), (1, 2, 4, None), (1, 4, 7, 1)]


def test_branches__slice_keeps_what_it_touches(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b, float[1, 4, 8] s) => (float[1, 5, 8] y) {
          boxes = Relu (b)
          scores = Sigmoid (s)
          both = Concat <axis = 1> (boxes, scores)
          starts = Constant <value = int64[1] {2}> ()
          ends = Constant <value = int64[1] {7}> ()
          axes = Constant <value = int64[1] {1}> ()
          y = Slice (both, starts, ends, axes)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(1, 0, 2, None), (1, 2, 5, None)]


def test_branches__scaled_behind_the_concat(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b, float[1, 2, 8] s) => (float[1, 6, 8] y) <float k = {2.0}> {
          boxes = Relu (b)
          both = Concat <axis = 1> (boxes, s)
          scaled = Mul (both, k)
          y = Sigmoid (scaled)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(1, 0, 4, None), (1, 4, 6, None)]


def test_branches__split_squashed_and_joined_again(parse: Parse) -> None:
    """YOLOv5: Sigmoid over all, xy and wh decoded, levels flattened."""
    model = parse(
        HEAD
        + """ g (float[1, 3, 4, 4, 7] a) => (float[1, 48, 7] y) <int64[3] sizes = {2, 2, 3}, float k = {2.0}, int64[3] flat = {1, 48, 7}> {
          all = Sigmoid (a)
          xy, wh, scores = Split <axis = -1> (all, sizes)
          xy2 = Mul (xy, k)
          wh2 = Mul (wh, wh)
          joined = Concat <axis = -1> (xy2, wh2, scores)
          y = Reshape (joined, flat)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(2, 0, 2, None), (2, 2, 4, None), (2, 4, 7, None)]


def test_branches__end_to_end_head(parse: Parse) -> None:
    """Boxes, score and class of the best anchors: [1, 300, 6]."""
    model = parse(
        HEAD
        + """ g (float[1, 900, 4] b, float[1, 900, 1] s, float[1, 900, 1] c, int64[300] best) => (float[1, 300, 6] y) {
          boxes = Relu (b)
          scores = Sigmoid (s)
          classes = Floor (c)
          all = Concat <axis = -1> (boxes, scores, classes)
          y = Gather <axis = 1> (all, best)
        }"""
    )
    assert spans(find_branches(model)["y"]) == [(2, 0, 4, None), (2, 4, 5, None), (2, 5, 6, None)]


def test_branches__gather_along_the_split_is_one_thing(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b, float[1, 2, 8] s, int64[3] i) => (float[1, 3, 8] y) {
          boxes = Relu (b)
          scores = Sigmoid (s)
          both = Concat <axis = 1> (boxes, scores)
          y = Gather <axis = 1> (both, i)
        }"""
    )
    assert find_branches(model) == {"y": ()}


def test_branches__split_outputs_are_one_each(parse: Parse) -> None:
    model = parse(
        HEAD
        + """ g (float[1, 4, 8] b, float[1, 2, 8] s) => (float[1, 4, 8] one, float[1, 2, 8] two) <int64[2] sizes = {4, 2}> {
          boxes = Relu (b)
          scores = Sigmoid (s)
          both = Concat <axis = 1> (boxes, scores)
          one, two = Split <axis = 1> (both, sizes)
        }"""
    )
    assert find_branches(model) == {"one": (), "two": ()}


@pytest.mark.parametrize(("axis", "classes"), [(1, 2), (2, None)])
def test_branches__slice_of_class_vectors(parse: Parse, axis: int, classes: int | None) -> None:
    """Fewer of them are class vectors still; without some of their classes they are not."""
    model = parse(
        HEAD
        + f""" g (float[1, 8, 6] s) => (float[1, a, b] y) <int64[1] start = {{1}}, int64[1] stop = {{5}}, int64[1] axis = {{{axis}}}> {{
          p = LogSoftmax <axis = 2> (s)
          y = Slice (p, start, stop, axis)
        }}"""
    )
    expected = [] if classes is None else [(None, 0, None, classes)]
    assert spans(find_branches(model)["y"]) == expected
