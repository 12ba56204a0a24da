from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.votes import ENOUGH, Votes

CLEAR, CLOSE_DB, FAR_DB = 0.95, 40.0, 16.0


def rows(classes: list[int], count: int = 4) -> NDArray[np.float64]:
    """Probabilities that are sure of a class each."""
    return np.where(np.eye(count)[classes] > 0, CLEAR, (1 - CLEAR) / (count - 1))


def votes(expected: list[int], got: list[int], factor: float = 1.0) -> Votes:
    one = Votes()
    one.add(rows(expected), rows(got) * factor, 1, thorough=True)
    return one


def test_votes__a_class_that_is_lost_is_refused_however_rare() -> None:
    expected = [0] * 200 + [2] * 3
    problems = votes(expected, [0] * 203).problems(Budget(), FAR_DB)
    assert problems == (
        "class 2: float is sure of it 3 times, the variant agrees in 0 of them, expected at least half",
    )
    assert not votes(expected, [0] * 200 + [2, 2, 0]).problems(Budget(), FAR_DB)
    # Twice is still an accident.
    assert not votes([0] * 200 + [2] * 2, [0] * 202).problems(Budget(), FAR_DB)


def test_votes__several_lost_classes_are_counted() -> None:
    expected = [0] * 600 + [1] * 4 + [2] * 4 + [3] * 4
    (problem,) = votes(expected, [0] * 612).problems(Budget(), FAR_DB)
    assert problem.startswith("class 1: float is sure of it 4 times")
    assert problem.endswith("expected at least half; 2 more classes like it")


def test_votes__agreement_over_few_must_be_near_as_well() -> None:
    few, many = [0, 1] * 5, [0, 1] * ENOUGH
    assert not votes(few, few).problems(Budget(), FAR_DB)
    (problem,) = votes(few, few).problems(Budget(), 13.9)
    assert "SNR 13.9 dB, expected at least 14 dB where so few class vectors are judged: 10, give 50 or more" in problem
    assert "top-1 agreement (1.000) alone" in problem
    assert not votes(many, many).problems(Budget(), 13.9)


@pytest.mark.parametrize(("factor", "passes"), [(1.0, True), (0.92, True), (0.85, False), (1.15, False), (0.5, False)])
def test_votes__scaled_values_move_every_threshold(factor: float, passes: bool) -> None:
    some = [0, 1, 2, 3] * 50
    problems = votes(some, some, factor).problems(Budget(), FAR_DB)
    assert (not problems) is passes
    if not passes:
        assert f"its values are {factor:.2f} of float's, expected 0.9 to 1.1: a threshold on them" in problems[0]


def test_votes__logits_may_all_be_larger_by_the_same() -> None:
    # A Softmax behind them takes it out again; 12 dB is far from close.
    logits = 8 * np.eye(4)[[0, 1, 2, 3] * 50]
    one = Votes()
    one.add(logits, logits + 1.0, 1, thorough=True)
    assert one.problems(Budget(), 12.0) == ()
    two = Votes()
    two.add(logits + 40.0, 0.7 * logits + 40.0, 1, thorough=True)
    (problem,) = two.problems(Budget(), 12.0)
    assert "its values are 0.70 of float's" in problem


def test_votes__one_accident_is_forgiven_only_where_the_values_are_close() -> None:
    expected, got = [0, 1, 2] * 4, [0, 1, 2] * 3 + [0, 1, 1]
    assert not votes(expected, got).problems(Budget(), CLOSE_DB)
    assert votes(expected, got).problems(Budget(), FAR_DB) == ("top-1 agreement 0.917, expected at least 0.98",)
    # Of nine it is one too many.
    assert votes([0, 1, 2] * 3, [0, 1, 2] * 2 + [0, 1, 1]).problems(Budget(), CLOSE_DB)
    assert votes([0, 1, 2, 0], [0, 1, 2, 1]).problems(Budget(), CLOSE_DB)
    assert votes([0], [1]).problems(Budget(), CLOSE_DB)
    assert votes([], []).problems(Budget(), CLOSE_DB) == ("there is no class vector in it",)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_votes__the_same_answers_pass(classes: list[int]) -> None:
    one = votes(classes, classes)
    assert one.problems(Budget(), 120.0) == ()
    assert one.agreement == 1
    assert one.divergence == pytest.approx(0, abs=1e-12)
