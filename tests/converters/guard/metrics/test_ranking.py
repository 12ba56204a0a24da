from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.bundle.manifest import Contract, InputSpec, OutputSpec, TensorInput
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.metrics import RankingMetric, metric_for
from edgesdk_converters.guard.metrics.ranking import ranking_agreement

CONTRACT = Contract(
    task="raw",
    inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
    outputs=(OutputSpec(name="y", shape=(1, 32), dtype="float32"),),
)


def test_ranking__by_hand() -> None:
    # Three points: seen from the first the second is nearer; the variant swaps second and third.
    expected = np.asarray([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    got = np.asarray([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    # q0: nearer 1, got 2: no. q1: nearer 0, got 2: no. q2: nearer 1, got 0 (0.9 to 0.1): no.
    assert ranking_agreement(expected, got) == 0.0
    assert ranking_agreement(expected, expected * [[2], [3], [4]]) == 1.0  # lengths do not matter


@given(st.integers(0, 2**32 - 1), st.integers(5, 12))
def test_ranking__identity_and_range(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(count, 16)), rng.normal(size=(count, 16))
    assert ranking_agreement(a, a) == 1
    assert 0 <= ranking_agreement(a, b) <= 1
    # Ties count in neither, and may be ties in one of the two alone.
    assert ranking_agreement(a, b) == pytest.approx(ranking_agreement(b, a), abs=0.05)


def test_metric__single_vectors_only() -> None:
    def contract(shape: tuple[int, ...]) -> Contract:
        return Contract(
            task="raw",
            inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
            outputs=(OutputSpec(name="y", shape=shape, dtype="float32"),),
        )

    assert metric_for(contract((1, 8, 8))) is None
    metric = metric_for(contract((1, 32)))
    assert isinstance(metric, RankingMetric)
    rng = np.random.default_rng(0)
    for _ in range(20):
        metric.add([rng.normal(size=(1, 32))], [rng.normal(size=(1, 32))])
    assert metric.result()["ranking_agreement"] < 0.7
    assert not metric.missed(Budget())
    (shortfall,) = metric.missed(Budget(max_drop=0.02))
    assert "expected at least 0.98" in shortfall.text


def _rows(count: int, noise: float, *, unit: bool) -> RankingMetric:
    metric = RankingMetric(CONTRACT)
    rng = np.random.default_rng(1)
    for _ in range(count):
        row = rng.normal(size=(1, 32))
        row = row / np.linalg.norm(row) if unit else 3 * row
        metric.add([row], [row + rng.normal(0, noise, (1, 32))])
    return metric


def test_metric__unit_length_must_rank_alike_without_being_asked() -> None:
    assert not _rows(20, 0.001, unit=True).missed(Budget())
    (shortfall,) = _rows(20, 0.1, unit=True).missed(Budget())
    assert "ranking agreement with the float model 0." in shortfall.text
    assert "expected at least 0.98" in shortfall.text
    # Any other vector may be landmarks or a spectrum, whose cosines mean nothing.
    assert not _rows(20, 0.3, unit=False).missed(Budget())
    # What is asked for counts for every vector.
    assert _rows(20, 0.3, unit=False).missed(Budget(max_drop=0.001))


def test_metric__too_few_to_rank_is_said() -> None:
    (shortfall,) = _rows(4, 0.0, unit=True).missed(Budget())
    assert "4 held-out samples are too few to rank, expected at least 5" in shortfall.text
    assert "Give more with --evaluation" in shortfall.text
    assert not _rows(4, 0.0, unit=False).missed(Budget())


def test_metric__one_direction_for_all_ranks_nothing() -> None:
    metric = RankingMetric(CONTRACT)
    rng = np.random.default_rng(2)
    always = np.ones((1, 32)) / np.sqrt(32)
    for _ in range(10):
        row = rng.normal(size=(1, 32))
        metric.add([row / np.linalg.norm(row)], [always])
    assert metric.result()["ranking_agreement"] < 0.6
    assert metric.missed(Budget())
