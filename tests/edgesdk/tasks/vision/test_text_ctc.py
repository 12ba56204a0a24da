"""Greedy CTC decoding, alphabets, and the joining of windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError
from edgesdk.tasks.vision import ctc

LETTERS = ("", "a", "b", "c", " ")


def _steps(text: str, sure: float = 0.9) -> NDArray[np.float32]:
    """One step per character of ``text``; ``-`` is the blank."""
    rest = (1 - sure) / (len(LETTERS) - 1)
    steps = np.full((len(text), len(LETTERS)), rest, np.float32)
    for row, character in zip(steps, text, strict=True):
        row[0 if character == "-" else LETTERS.index(character)] = sure
    return steps


@pytest.mark.parametrize(
    ("steps", "text", "at"),
    [
        ("----", "", ()),
        ("abc", "abc", (0, 1, 2)),
        ("aa-abb", "aab", (0, 3, 4)),
        ("-a-- b-", "a b", (1, 4, 5)),
    ],
)
def test_ctc__table(steps: str, text: str, at: tuple[int, ...]) -> None:
    got, score, where = ctc.decode(_steps(steps), LETTERS, 0)
    assert (got, where) == (text, at)
    assert score == pytest.approx(0.9 if text else 0.0)


def test_ctc__score_is_the_mean_of_the_kept_steps() -> None:
    steps = np.concatenate((_steps("a", 0.6), _steps("a", 0.99), _steps("-"), _steps("b", 0.8)))
    assert ctc.decode(steps, LETTERS, 0)[1] == pytest.approx(0.7)


def _contract(*labels: str) -> Contract:
    return Contract(task="text-recognition", inputs=(), outputs=(), labels=labels)


@pytest.mark.parametrize(
    ("labels", "classes", "blank", "expected"),
    [
        (("a", "b", "c"), 5, 0, ("", "a", "b", "c", " ")),  # PaddleOCR's list
        (("a", "b", "c"), 4, 0, ("", "a", "b", "c")),
        (("a", "b", "c"), 4, 3, ("a", "b", "c", "")),
        (("blank", "a", "b"), 3, 0, ("", "a", "b")),
    ],
)
def test_alphabet__three_ways_to_give_it(
    labels: tuple[str, ...], classes: int, blank: int, expected: tuple[str, ...]
) -> None:
    assert ctc.alphabet(_contract(*labels), classes, blank) == expected


@pytest.mark.parametrize(
    ("labels", "classes", "blank", "expected"),
    [
        ((), 5, 0, r"got 0 labels for 5 classes; expected 5, 4 .* or 3 .* metadata `character`"),
        (("a", "b"), 5, 0, "got 2 labels for 5 classes"),
        (("a", "b", "c"), 5, 4, "got 3 labels for 5 classes"),
        (("a", "b"), 3, 7, r"option 'blank_index' is 7, the output has classes 0..2"),
    ],
)
def test_alphabet__that_does_not_fit(labels: tuple[str, ...], classes: int, blank: int, expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        ctc.alphabet(_contract(*labels), classes, blank)


@given(
    length=st.integers(1, 5000),
    steps=st.integers(4, 60),
    grid=st.integers(1, 16),
    share=st.floats(0.01, 0.75),
)
def test_windows__cover_the_line_and_overlap(length: int, steps: int, grid: int, share: float) -> None:
    window = steps * grid
    overlap = max(1, round(share * steps)) * grid
    starts = ctc.window_starts(length, window, overlap=overlap, grid=grid)
    assert starts[0] == 0
    assert all(start % grid == 0 for start in starts)
    if length > window:
        assert length <= starts[-1] + window < length + grid
        gaps = np.diff(starts)
        assert (gaps > 0).all()
        assert (gaps <= window - overlap).all()
    else:
        assert starts == (0,)


@given(
    text=st.lists(st.sampled_from("abc-- "), min_size=30, max_size=90).map("".join),
    window=st.integers(12, 24),
    overlap=st.integers(5, 8),
)
def test_join__windows_that_agree_give_the_whole_back(text: str, window: int, overlap: int) -> None:
    whole = _steps(text)
    starts = ctc.window_starts(len(text), window, overlap=overlap, grid=1)
    parts = [whole[start : start + window] for start in starts]
    assert np.array_equal(ctc.join(parts, starts, 0), whole)


def test_join__cuts_where_both_see_a_gap_and_not_at_the_windows_edges() -> None:
    # At its end the left window takes half a "b" for a "c", so does the right one at its beginning; "a" is a step apart.
    left, right = _steps("a--b--aa----c"), _steps("c--aa---b--c")
    joined = ctc.join([left, right], [0, 4], 0)
    assert len(joined) == 16
    assert ctc.decode(joined, LETTERS, 0)[0] == "ababc"
