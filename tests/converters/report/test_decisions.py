from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk_converters.report.decisions import iou, same_decision

BOX = st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.floats(0, 100)).map(
    lambda box: (min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3]))
)


def objects(*found: tuple[int, list[float]]) -> dict[str, Any]:
    return {"kind": "detections", "objects": [{"class_id": c, "score": 0.9, "xyxy": box} for c, box in found]}


def classes(*ids: int) -> dict[str, Any]:
    return {"kind": "classification", "classes": [{"class_id": one, "score": 0.5} for one in ids]}


def raw(**outputs: Any) -> dict[str, Any]:
    return {"kind": "raw", "outputs": outputs}


A, NEAR, FAR = [0.0, 0, 10, 10], [1.0, 0, 10, 10], [50.0, 50, 60, 60]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (classes(1, 2), classes(1, 3), True),
        (classes(1, 2), classes(2, 1), False),
        (classes(), classes(), True),
        (objects((0, A), (1, FAR)), objects((1, FAR), (0, NEAR)), True),
        (objects((0, A)), objects((0, FAR)), False),
        (objects((0, A)), objects((1, A)), False),
        (objects((0, A)), objects((0, A), (0, A)), False),
        ({"kind": "text_line", "text": "a", "score": 0.1}, {"kind": "text_line", "text": "a", "score": 0.9}, True),
        ({"kind": "text_line", "text": "a"}, {"kind": "text_line", "text": "b"}, False),
        ({"kind": "text", "lines": [{"text": "a"}]}, {"kind": "text", "lines": [{"text": "a"}]}, True),
        ({"kind": "text_direction", "degrees": 0}, {"kind": "text_direction", "degrees": 180}, False),
        (
            {"kind": "text_regions", "regions": [{"quad": [[0, 0], [10, 0], [10, 10], [0, 10]]}]},
            {"kind": "text_regions", "regions": [{"quad": [[0, 1], [10, 0], [10, 10], [0, 10]]}]},
            True,
        ),
        ({"kind": "voice_activity", "speaking": True, "segments": []}, {"kind": "voice_activity", "speaking": False, "segments": []}, False),
        (raw(y={"values": [[0.1, 0.9]]}), raw(y={"values": [[0.4, 0.6]]}), True),
        (raw(y={"values": [[0.1, 0.9]]}), raw(y={"values": [[0.9, 0.1]]}), False),
        (raw(y={"argmax": 3, "min": 0.0}), raw(y={"argmax": 3, "min": 9.0}), True),
        (raw(y={"min": 1.0, "max": 2.0}), raw(y={"min": 1.01, "max": 2.0}), True),
        (raw(y={"min": 1.0, "max": 2.0}), raw(y={"min": 1.5, "max": 2.0}), False),
        (raw(y={}), raw(z={}), False),
        ({"kind": "face_keypoints", "points": [[1.0, 2.0]]}, {"kind": "face_keypoints", "points": [[1.01, 2.0]]}, True),
        ({"kind": "face_keypoints", "points": [[1.0, 200.0]]}, {"kind": "face_keypoints", "points": [[3.0, 200.0]]}, True),
        ({"kind": "face_keypoints", "points": [[1.0, 20.0]]}, {"kind": "face_keypoints", "points": [[3.0, 20.0]]}, False),
        ({"kind": "of a plug-in", "x": True}, {"kind": "of a plug-in", "x": False}, False),
        (classes(1), objects(), False),
    ],
)  # fmt: skip
def test_same_decision__per_kind(a: dict[str, Any], b: dict[str, Any], same: bool) -> None:
    assert same_decision(a, b) is same


@given(BOX, BOX)
def test_iou__bounds_and_symmetry(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    assert 0 <= iou(a, b) <= 1 + 1e-9
    assert iou(a, b) == pytest.approx(iou(b, a))
    assert iou(a, a) == pytest.approx(1)
