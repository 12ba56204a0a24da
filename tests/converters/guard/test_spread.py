from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, OutputSpec
from edgesdk_converters.guard import FidelityMeter
from edgesdk_converters.guard.spread import FEWEST, Spread, channel_axes

WHOLE = Branch(name="y")


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def spread(expected: NDArray[np.float64], got: NDArray[np.float64]) -> Spread:
    """Of samples along the first axis."""
    one = Spread()
    for a, b in zip(expected, got, strict=True):
        one.add(a[None], b[None])
    return one


def test_spread__what_is_always_the_same_is_no_answer() -> None:
    # Landmarks around 100 that move by 3: their mean is 30 dB from them.
    points = 100 + rng(1).normal(0, 3, (40, 20))
    always = np.broadcast_to(points.mean(axis=0), points.shape)
    meter = FidelityMeter([OutputSpec(name="y", shape=(1, 20), dtype="float32")])
    for a, b in zip(points, always, strict=True):
        meter.add([a[None]], [b[None]])
    (figure,) = meter.result()
    assert figure.snr_db > 28
    assert not figure.passed
    (reason,) = meter.missed()
    assert reason.startswith("branch 'y': does not follow its input: its error is 0.9")
    assert "expected at most 0.25 (always the same answer would be 1)" in reason


def test_spread__noise_below_what_differs_passes() -> None:
    points = 100 + rng(2).normal(0, 3, (40, 20))
    assert not spread(points, points + rng(3).normal(0, 1, points.shape)).problems(WHOLE)
    assert spread(points, points + rng(4).normal(0, 3, points.shape)).problems(WHOLE)


def test_spread__a_dead_channel_is_named() -> None:
    maps = rng(5).normal(0, 1, (12, 24, 30))
    dead = maps.copy()
    dead[:, 3] = 0.0
    (problem,) = spread(maps, dead).problems(WHOLE)
    assert problem == "channel 3 of 24 (axis 1): no closer to float than always the same answer"
    dead[:, [1, 6]] = 0.7
    (problem,) = spread(maps, dead).problems(WHOLE)
    assert problem.startswith("channels 1, 3, 6 of 24 (axis 1)")


def test_spread__a_channel_that_hardly_ever_speaks_is_not_looked_at() -> None:
    maps = rng(6).normal(0, 1, (12, 8, 30))
    maps[:, 3] = 0.0
    maps[4, 3, 2] = 1.0
    missed = maps.copy()
    missed[4, 3, 2] = 0.0
    assert not spread(maps, missed).problems(WHOLE)


def test_spread__less_than_a_step_of_eight_bits_is_nobodys_fault() -> None:
    flat = 100 + rng(7).normal(0, 0.1, (20, 50))
    assert not spread(flat, np.full_like(flat, 100.0)).problems(WHOLE)


@pytest.mark.parametrize("count", range(1, FEWEST))
def test_spread__too_few_samples_say_nothing(count: int) -> None:
    points = rng(8).normal(0, 3, (count, 20))
    assert not spread(points, points * 0).problems(WHOLE)


def test_spread__asleep() -> None:
    same = np.ones((5, 4))
    assert spread(same, same).asleep
    assert not spread(same[:1], same[:1]).asleep
    assert not spread(same * np.arange(5)[:, None], same).asleep


def test_spread__of_a_large_branch_some_elements_are_looked_at() -> None:
    large = np.zeros((4, 3000, 2000))
    large += rng(9).normal(0, 1, (4, 1, 1))
    assert spread(large, np.zeros_like(large)).problems(WHOLE)
    assert not spread(large, large).problems(WHOLE)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 384), (1,)),
        ((1, 4, 8400), (1,)),
        ((1, 896, 16), (2,)),
        ((1, 21, 64, 64), (1, 3)),
        ((1, 1, 320, 320), ()),
        ((1, 320, 320, 1), ()),
        ((1, 896, 1), ()),
        ((7,), ()),
        ((2, 1, 128, 4, 4), ()),
    ],
)
def test_channel_axes__by_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    assert channel_axes(WHOLE, shape) == axes
    assert channel_axes(Branch(name="y", class_axis=1), shape) == ()
