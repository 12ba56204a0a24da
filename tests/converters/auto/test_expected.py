from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk_converters.auto.expected import ExpectedAgreement


def agreement(noise: float, votes: int, seed: int) -> tuple[float, float]:
    """What is expected from logits with noise, and what is counted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (votes, 10))
    moved = logits + rng.normal(0, noise, logits.shape)
    meter = ExpectedAgreement()
    meter.add(logits, moved, 1)
    expected = meter.result()
    assert expected is not None
    return expected, float((logits.argmax(axis=1) == moved.argmax(axis=1)).mean())


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])  # far below the limit a third class overtakes, too
def test_expected__is_what_is_counted_over_many(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesdk_converters.auto.expected.COUNTED", 10**9)
    expected, counted = agreement(noise, 20_000, 0)
    assert expected == pytest.approx(counted, abs=0.01)


def test_expected__of_few_varies_less_than_a_count() -> None:
    pairs = np.asarray([agreement(0.1, 48, seed) for seed in range(60)])
    assert pairs[:, 0].std() < 0.6 * pairs[:, 1].std()


def test_expected__many_are_counted() -> None:
    expected, counted = agreement(0.3, 600, 0)
    assert expected == counted


def test_expected__nothing_moved() -> None:
    meter = ExpectedAgreement()
    assert meter.result() is None
    value = np.random.default_rng(0).normal(size=(1, 5, 4))
    meter.add(value, value, 1)
    assert meter.result() == 1.0


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 2))
def test_expected__is_a_share(seed: int, noise: float) -> None:
    expected, _ = agreement(noise, 30, seed)
    assert 0.4 <= expected <= 1
