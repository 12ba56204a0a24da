from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.tasks.vision.nms import iou_matrix, suppress, suppress_per_class, suppress_weighted

NONE = np.empty((0, 4), np.float32)
NO_SCORES = np.empty(0, np.float32)


def _iou(one: NDArray[Any], two: NDArray[Any]) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return float(common / (sum(areas) - common))


def _reference(boxes: NDArray[Any], scores: NDArray[Any], class_ids: NDArray[Any], threshold: float) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if all(class_ids[index] != class_ids[other] or _iou(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(int(index))
    return kept


@st.composite
def candidates(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    count = draw(st.integers(1, 25))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    corners = random.integers(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.integers(1, 40, (count, 2))], axis=1).astype(np.float32)
    scores = (random.permutation(count) + 1).astype(np.float32) / (count + 1)  # all different: ties have no order
    return boxes, scores, random.integers(0, 3, count)


@settings(deadline=None)
@given(candidates(), st.sampled_from([0.1, 0.31, 0.52, 0.73]))
def test_suppress_per_class__equals_the_definition(
    case: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], threshold: float
) -> None:
    boxes, scores, class_ids = case
    assert suppress_per_class(boxes, scores, class_ids, threshold, 100).tolist() == _reference(*case, threshold)
    together = np.zeros_like(class_ids)
    assert suppress(boxes, scores, threshold, 100).tolist() == _reference(boxes, scores, together, threshold)


def test_suppress__stops_at_max_detections_with_the_best() -> None:
    boxes = np.array([[x, 0, x + 5, 5] for x in range(0, 100, 10)], np.float32)
    scores = np.linspace(0.1, 0.9, 10, dtype=np.float32)
    assert suppress(boxes, scores, 0.5, 3).tolist() == [9, 8, 7]


def test_suppress__nothing_gives_nothing() -> None:
    assert suppress(NONE, NO_SCORES, 0.5, 10).shape == (0,)
    rows, scores = suppress_weighted(NONE, NO_SCORES, 0.5, 10)
    assert (rows.shape, scores.shape) == ((0, 4), (0,))


def test_suppress_weighted__averages_by_score() -> None:
    rows = np.array([[0, 0, 10, 10, 5, 5], [2, 0, 12, 10, 9, 5], [100, 100, 110, 110, 0, 0]], np.float32)
    averaged, scores = suppress_weighted(rows, np.array([0.6, 0.2, 0.9], np.float32), 0.3, 10)
    np.testing.assert_allclose(
        averaged, [[100.0, 100.0, 110.0, 110.0, 0.0, 0.0], [0.5, 0.0, 10.5, 10.0, 6.0, 5.0]], atol=1e-5
    )
    np.testing.assert_allclose(scores, [0.9, 0.6])


def test_suppress_weighted__boxes_without_area_stand_alone() -> None:
    rows = np.zeros((2, 4), np.float32)
    averaged, _ = suppress_weighted(rows, np.array([0.5, 0.6], np.float32), 0.3, 10)
    assert averaged.shape == (2, 4)


def test_iou_matrix__known_values() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [7, 7, 7, 7]], np.float32)
    matrix = iou_matrix(boxes)
    assert matrix[0].tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert matrix[3, 3] == 0
