from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.app.change import ChangeDetector, not_finite, signature


def _detections(*labels: str, score: float = 0.5) -> dict[str, Any]:
    objects = [{"class_id": 1, "label": label, "score": score, "xyxy": [score, 2.0, 3.0, 4.0]} for label in labels]
    return {"kind": "detections", "objects": objects}


def _speech(*, speaking: bool, events: list[dict[str, Any]] | None = None, probability: float = 0.1) -> dict[str, Any]:
    return {"kind": "voice_activity", "speaking": speaking, "probabilities": [probability], "events": events or []}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (_detections("cat", "dog"), _detections("dog", "cat", score=0.9), True),
        (_detections("cat"), _detections("cat", "cat"), False),
        (_detections("cat"), _detections("dog"), False),
        ({"kind": "faces", "faces": [{"score": 0.1}]}, {"kind": "faces", "faces": [{"score": 0.7}]}, True),
        ({"kind": "faces", "faces": []}, {"kind": "faces", "faces": [{"score": 0.7}]}, False),
        ({"kind": "face_keypoints", "points": [[1, 2]]}, {"kind": "face_keypoints", "points": [[3, 4]]}, True),
        ({"kind": "face_keypoints", "points": [[1, 2]]}, {"kind": "face_keypoints", "points": []}, False),
        (_speech(speaking=True), _speech(speaking=True, probability=0.9), True),
        (_speech(speaking=True), _speech(speaking=False), False),
        ({"kind": "text_direction", "degrees": 0}, {"kind": "text_direction", "degrees": 180}, False),
        ({"kind": "raw", "outputs": {"a": {"values": [1.0]}}}, {"kind": "raw", "outputs": {"a": {"values": [2.0]}}}, False),
        ({"kind": "mine", "gate": "open", "x": 1.0}, {"kind": "mine", "gate": "open", "x": 2.0}, True),
        ({"kind": "mine", "gate": "open", "x": 1.0}, {"kind": "mine", "gate": "shut", "x": 1.0}, False),
        ({"kind": "text", "lines": [{"text": "A"}]}, {"kind": "text", "lines": [{"text": "B"}]}, False),
    ],
)  # fmt: skip
def test_signature__what_counts(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    assert (signature(one) == signature(other)) is same


def test_detector__every__publishes_at_least_that_often() -> None:
    now = [0.0]
    detector = ChangeDetector(10.0, clock=lambda: now[0])
    wanted = []
    for second in range(25):
        now[0] = float(second)
        if detector.wants(_detections("cat")):
            wanted.append(second)
    assert wanted == [0, 10, 20]


def test_detector__speech_within_one_block__counts() -> None:
    detector = ChangeDetector()
    both = [{"event": "start", "time_s": 1.0}, {"event": "end", "time_s": 1.1}]
    assert detector.wants(_speech(speaking=False))
    assert detector.wants(_speech(speaking=False, events=both))
    assert not detector.wants(_speech(speaking=False))


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(payload=st.dictionaries(st.text(max_size=5), _plain, max_size=4))
def test_signature__any_payload_of_an_unknown_kind__is_stable(payload: dict[str, Any]) -> None:
    payload["kind"] = "something else"
    assert signature(payload) == signature(dict(reversed(payload.items())))


@given(value=_plain)
def test_not_finite__finds_what_json_has_no_word_for(value: Any) -> None:
    assert not_finite(value) == any(word in repr(_floats(value)) for word in ("nan", "inf"))


def _floats(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _floats(item)]
    if isinstance(value, list):
        return [found for item in value for found in _floats(item)]
    return [value] if isinstance(value, float) and (math.isnan(value) or not math.isnan(value)) else []
