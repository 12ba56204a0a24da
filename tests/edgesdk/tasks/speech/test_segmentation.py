"""Probabilities to segments: hysteresis and minimum durations, in a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.tasks.speech.segmentation import SegmentRule, SpeechSegmenter
from edgesdk.tasks.speech_results import SpeechSegment

# Chunks of 100 samples at 1000 Hz: 0.1 s each.
RULE = SegmentRule(threshold=0.5, end_threshold=0.3, min_speech_s=0.2, min_silence_s=0.2, pad_s=0.0)


def _run(probabilities: list[float], rule: SegmentRule = RULE, first: int = 0) -> list[tuple[float, float | None]]:
    segmenter = SpeechSegmenter(rule, 1000)
    segmenter.begin(first)
    for index, probability in enumerate(probabilities):
        segmenter.push(probability, first + index * 100, 100)
    segmenter.finish()
    return [(round(part.start_s, 3), part.end_s and round(part.end_s, 3)) for part in segmenter.take()[0]]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.0] * 5, []),
        ([0.9] * 3, [(0.0, 0.3)]),  # open at the end of the stream
        ([0, 0.9, 0.9, 0, 0, 0], [(0.1, 0.3)]),
        ([0, 0.9, 0, 0, 0, 0], []),  # shorter than min_speech_s
        ([0.9, 0.9, 0, 0.9, 0.9, 0, 0], [(0.0, 0.5)]),  # a pause shorter than min_silence_s
        ([0.9, 0.9, 0, 0, 0.9, 0.9, 0, 0], [(0.0, 0.2), (0.4, 0.6)]),
        ([0.9, 0.9, 0.4, 0.4, 0.4, 0, 0], [(0.0, 0.5)]),  # between the thresholds speech goes on
        ([0.4, 0.4, 0.9, 0.9, 0, 0], [(0.2, 0.4)]),  # and does not begin
        ([0.9, 0.9, 0, 0.4, 0], [(0.0, 0.2)]),  # silence goes on between the thresholds, too
        ([0.9, 0.9, 0.0], [(0.0, 0.2)]),  # the stream ends in a silence
    ],
)
def test_segmenter__table(probabilities: list[float], expected: list[tuple[float, float]]) -> None:
    assert _run(probabilities) == expected
    later = [(round(a + 5, 3), round(b + 5, 3)) for a, b in expected]
    assert _run(probabilities, first=5000) == later


def test_segmenter__padding_stays_within_the_stretch_and_apart() -> None:
    rule = SegmentRule(threshold=0.5, end_threshold=0.3, min_speech_s=0.1, min_silence_s=0.2, pad_s=0.15)
    assert _run([0.9, 0.9, 0, 0, 0.9], rule) == [(0.0, 0.35), (0.35, 0.5)]


def test_segmenter__events_come_when_they_are_sure() -> None:
    segmenter = SpeechSegmenter(RULE, 1000)
    seen = []
    for index, probability in enumerate([0.9, 0.9, 0.9, 0, 0]):
        segmenter.push(probability, index * 100, 100)
        segments, events = segmenter.take()
        seen.append(([(event.event, event.time_s) for event in events], segments, segmenter.speaking))
    going_on = (SpeechSegment(start_s=0.0, end_s=None),)
    assert seen == [
        ([], (), False),
        ([("start", 0.0)], going_on, True),
        ([], going_on, True),
        ([], going_on, True),
        ([("end", 0.3)], (SpeechSegment(start_s=0.0, end_s=0.3),), False),
    ]


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0, 0.3), st.floats(0, 0.5), st.floats(0, 0.5))
def test_segmenter__segments_are_in_order_and_apart(
    probabilities: list[float], pad_s: float, min_speech_s: float, min_silence_s: float
) -> None:
    rule = SegmentRule(
        threshold=0.5, end_threshold=0.3, min_speech_s=min_speech_s, min_silence_s=min_silence_s, pad_s=pad_s
    )
    segmenter = SpeechSegmenter(rule, 1000)
    for index, probability in enumerate(probabilities):
        segmenter.push(probability, index * 100, 100)
    segmenter.finish()
    segments, events = segmenter.take()
    assert [event.event for event in events] == ["start", "end"] * len(segments)
    before = 0.0
    for segment in segments:
        assert segment.end_s is not None
        assert before <= segment.start_s + 1e-9
        assert segment.end_s - segment.start_s >= min_speech_s - 1e-9
        assert segment.end_s <= len(probabilities) * 0.1 + 1e-9
        before = segment.end_s
