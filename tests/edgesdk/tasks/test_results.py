from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import TaskError
from edgesdk.tasks.results import (
    SMALL_ARRAY,
    Classification,
    Detections,
    FaceKeypoints,
    Faces,
    RawResult,
)

SIZE = (640, 480)


def _detections(**change: Any) -> Detections:
    fields: dict[str, Any] = {
        "xyxy": np.array([[1.04, 2, 3, 4], [5, 6, 7, 8]], np.float32),
        "scores": np.array([0.9, 0.1], np.float32),
        "class_ids": np.array([3, 1]),
        "labels": ("cat", "dog"),
        "picture_size_wh": SIZE,
    }
    return Detections(**(fields | change))


@pytest.mark.parametrize(
    ("make", "listed"),
    [
        (Classification.empty, {"kind": "classification", "classes": []}),
        (lambda: Detections.empty(SIZE), {"kind": "detections", "picture_size_wh": [640, 480], "objects": []}),
        (lambda: Faces.empty(SIZE), {"kind": "faces", "picture_size_wh": [640, 480], "faces": []}),
        (
            lambda: FaceKeypoints.empty(SIZE, 0.25),
            {"kind": "face_keypoints", "picture_size_wh": [640, 480], "score": 0.25, "points": []},
        ),
        (RawResult.empty, {"kind": "raw", "outputs": {}}),
    ],
    ids=["classification", "detections", "faces", "face keypoints", "raw"],
)
def test_result__empty_is_valid(make: Callable[[], Any], listed: dict[str, Any]) -> None:
    result = make()
    assert len(result) == 0
    assert result.to_json() == listed


def test_detections__to_json_is_plain_and_rounded() -> None:
    assert _detections().to_json() == {
        "kind": "detections",
        "picture_size_wh": [640, 480],
        "objects": [
            {"class_id": 3, "label": "cat", "score": 0.9, "xyxy": [1.0, 2.0, 3.0, 4.0]},
            {"class_id": 1, "label": "dog", "score": 0.1, "xyxy": [5.0, 6.0, 7.0, 8.0]},
        ],
    }


def test_faces__keypoints_are_named() -> None:
    faces = Faces(
        xyxy=np.zeros((1, 4), np.float32),
        scores=np.ones(1, np.float32),
        keypoints=np.arange(12, dtype=np.float32).reshape(1, 6, 2),
        picture_size_wh=SIZE,
    )
    keypoints = faces.to_json()["faces"][0]["keypoints"]
    assert keypoints["right_eye"] == [0.0, 1.0]
    assert keypoints["left_ear"] == [10.0, 11.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xyxy": np.zeros((2, 5), np.float32)}, r"Detections\.xyxy is float32 \(2, 5\), expected float32 \(n, 4\)"),
        ({"xyxy": np.zeros((2, 4))}, r"xyxy is float64 \(2, 4\), expected float32 .*Cast and reshape"),
        ({"class_ids": np.zeros(2, np.int32)}, r"class_ids is int32 \(2,\), expected int64"),
        ({"labels": ("cat",)}, r"unequal length: xyxy 2, scores 2, class_ids 2, labels 1"),
    ],
    ids=["width", "dtype", "ids", "labels"],
)
def test_detections__wrong_fields_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        _detections(**change)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_detections__nan_never_reaches_a_payload(value: float) -> None:
    with pytest.raises(TaskError, match=r"Detections\.scores holds NaN or infinity.*Compare the variant"):
        _detections(scores=np.array([0.9, value], np.float32))


def test_face_keypoints__score_is_a_probability() -> None:
    with pytest.raises(TaskError, match=r"score is 3\.5, expected 0\.\.1\. Apply the sigmoid"):
        FaceKeypoints.empty(SIZE, 3.5)


def test_result__is_frozen() -> None:
    with pytest.raises(AttributeError):
        _detections().labels = ()  # type: ignore[misc]  # that is what is tested


def test_raw__small_array_is_written_out() -> None:
    listed = RawResult(arrays={"y": np.array([[0.1, np.nan, np.inf]], np.float32)}).to_json()
    assert listed["outputs"]["y"] == {"shape": [1, 3], "dtype": "float32", "values": [[0.1, None, None]]}
    json.dumps(listed, allow_nan=False)


def test_raw__large_array_is_summarised() -> None:
    values = np.zeros((1, SMALL_ARRAY + 1), np.float32)
    values[0, 7] = 2.5
    listed = RawResult(arrays={"y": values}).to_json()["outputs"]["y"]
    assert listed["min"] == 0.0
    assert listed["max"] == 2.5
    assert listed["mean"] == pytest.approx(2.5 / values.size, rel=1e-4)
    assert listed["argmax"] == 7
    assert listed["not_finite"] == 0
    assert "values" not in listed


def test_raw__not_finite_values_are_counted_not_printed() -> None:
    values = np.full((2, SMALL_ARRAY), np.nan, np.float32)
    listed = RawResult(arrays={"y": values}).to_json()["outputs"]["y"]
    assert (listed["min"], listed["not_finite"]) == (None, 2 * SMALL_ARRAY)
    assert "argmax" not in listed


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16"])
def test_raw__every_dtype_is_plain_json(dtype: str) -> None:
    for count in (3, 500):
        json.dumps(RawResult(arrays={"y": np.ones(count, dtype)}).to_json(), allow_nan=False)
