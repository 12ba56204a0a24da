from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.metrics import TextMetric, edit_distance, metric_for


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("gate 7", "gate 1", 1),
        ("ab", "ba", 2),
    ],
)
def test_edit_distance__by_hand(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == distance


_words = st.text("abc ", max_size=8)


@given(_words, _words, _words)
def test_edit_distance__is_a_distance(a: str, b: str, c: str) -> None:
    assert edit_distance(a, a) == 0
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))
    assert (edit_distance(a, b) == 0) == (a == b)


CONTRACT = Contract(
    task="text-recognition",
    inputs=(
        InputSpec(name="x", shape=(1, 3, 8, 64), dtype="float32", source=ImageInput(layout="NCHW", fit="pad-right")),
    ),
    outputs=(OutputSpec(name="y", shape=(1, 16, 4), dtype="float32"),),
    labels=("a", "b", "c"),
)


def output(text: str) -> list[NDArray[np.float32]]:
    """Every second step is a blank."""
    value = np.zeros((1, 16, 4), np.float32)
    value[..., 0] = 0.6
    for index, letter in enumerate(text):
        value[0, 2 * index + 1] = 0.05
        value[0, 2 * index + 1, 1 + "abc".index(letter)] = 0.9
    return [value]


def test_metric__agreement_and_accuracy() -> None:
    metric = metric_for(CONTRACT)
    assert isinstance(metric, TextMetric)
    assert metric.result() == {}
    metric.add(output("abc"), output("abc"), "abc")
    metric.add(output("abca"), output("abba"), "abba")  # what float reads wrong, the variant may read right
    assert metric.result() == {
        "character_agreement": pytest.approx(6 / 7, abs=1e-4),
        "character_accuracy": 1.0,
        "float_character_accuracy": pytest.approx(6 / 7, abs=1e-4),
    }
    (shortfall,) = metric.missed(Budget(max_drop=0.005))  # against the truth it has gained
    assert "character agreement 0.857 with the text of the float model" in shortfall.text
    metric.add(output("abc"), output("abc"))
    assert not metric.missed(Budget())  # one of ten is no evidence


def test_metric__other_text_is_refused_without_being_asked() -> None:
    metric = TextMetric(CONTRACT)
    for _ in range(10):
        metric.add(output("abc"), output("ab"), "abc")
    (shortfall,) = metric.missed(Budget())
    assert "character agreement 0.667 with the text of the float model, expected at least 0.98" in shortfall.text
    assert "(10 edits in 30 characters)" in shortfall.text
    _, lost = metric.missed(Budget(max_drop=0.005))
    assert "33.33 percentage points lost, expected at most 0.5 (30 characters)" in lost.text
    assert "the labels" in lost.text


def test_metric__a_drop_of_the_agreement_counts_without_labels() -> None:
    metric = TextMetric(CONTRACT)
    for index in range(50):
        metric.add(output("abc"), output("abb" if index < 2 else "abc"))
    assert not metric.missed(Budget())
    (shortfall,) = metric.missed(Budget(max_drop=0.01))
    assert "against the text of the float model: 1.33 percentage points lost, expected at most 1" in shortfall.text


def test_metric__lines_in_which_float_reads_nothing_prove_nothing() -> None:
    metric = TextMetric(CONTRACT)
    metric.add(output(""), output(""))
    (shortfall,) = metric.missed(Budget())
    assert "the float model reads nothing in the 1 held-out lines" in shortfall.text
    assert "Give --evaluation lines with text in them" in shortfall.text
