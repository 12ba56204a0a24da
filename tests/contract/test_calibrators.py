"""What every calibrator promises, run against all that are registered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("edgesdk_converters.quantize", reason="needs the converters: pip install edgesdk-converters")

from edgesdk.errors import ConfigError
from edgesdk.registry import plugins
from edgesdk_converters.quantize.calibrators import CALIBRATORS, Calibrator, make_calibrator
from edgesdk_converters.quantize.histogram import Range, Statistics

Values = NDArray[np.float32]
NAMES = sorted(plugins(CALIBRATORS))


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def choose(name: str, samples: Sequence[Values], *, levels: int = 256) -> tuple[Range, Statistics]:
    calibrator = make_calibrator(name)
    seen = Statistics()
    for number in range(max(1, calibrator.passes)):
        for value in samples:
            if number == 0:
                seen.add(value)
            if calibrator.passes:
                calibrator.observe("t", value, number)
    return calibrator.range("t", seen, levels=levels), seen


def normal(count: int = 8, *, transform: Callable[[Values], Values] = lambda v: v) -> list[Values]:
    rng = np.random.default_rng(0)
    return [transform(rng.normal(0, 1, (1, 8, 16, 16)).astype(np.float32)) for _ in range(count)]


def error(samples: Sequence[Values], chosen: Range, levels: int = 256) -> float:
    """Mean squared error after quantization."""
    step = (chosen.high - chosen.low) / (levels - 1)
    values = np.stack(samples).astype(np.float64)
    rounded = np.round((np.clip(values, chosen.low, chosen.high) - chosen.low) / step) * step + chosen.low
    return float(((values - rounded) ** 2).mean())


def test_calibrator__keeps_the_protocol(name: str) -> None:
    calibrator = make_calibrator(name)
    assert isinstance(calibrator, Calibrator)
    assert calibrator.name == name
    assert calibrator.passes >= 0


def test_range__symmetric_values(name: str) -> None:
    samples = normal()
    chosen, seen = choose(name, samples)
    assert seen.low <= chosen.low < -2 < 2 < chosen.high <= seen.high
    assert error(samples, chosen) < 1e-3  # 30 dB


def test_range__one_sided_values_keep_their_zero(name: str) -> None:
    samples = normal(transform=lambda v: np.maximum(v, 0))
    chosen, seen = choose(name, samples)
    assert chosen.low == 0
    assert 1.5 < chosen.high <= seen.high


def test_range__negative_values(name: str) -> None:
    chosen, seen = choose(name, normal(transform=lambda v: -np.abs(v)))
    assert chosen.high == 0
    assert seen.low <= chosen.low < -1.5


def test_range__constant(name: str) -> None:
    for value in (3.0, -0.25, 1e-6, 1e6):
        chosen, _ = choose(name, [np.full((1, 4), value, np.float32)] * 3)
        assert min(chosen.low, chosen.high) == pytest.approx(min(value, 0), rel=1e-2)
        assert max(chosen.low, chosen.high) == pytest.approx(max(value, 0), rel=1e-2)


def test_range__all_zero(name: str) -> None:
    chosen, _ = choose(name, [np.zeros((1, 4, 2, 2), np.float32)])
    assert chosen == Range(0.0, 0.0)


def test_range__nothing_in_it(name: str) -> None:
    chosen, _ = choose(name, [np.zeros((0,), np.float32)])
    assert chosen == Range(0.0, 0.0)


def test_range__single_sample(name: str) -> None:
    chosen, seen = choose(name, normal(1))
    assert seen.low <= chosen.low < 0 < chosen.high <= seen.high


def test_range__outlier(name: str) -> None:
    samples = normal(64)
    samples[5] = samples[5].copy()
    samples[5].flat[77] = 60.0  # 60 standard deviations, once in 131,072 values
    chosen, _ = choose(name, samples)
    if name == "minmax":
        assert chosen.high == 60
    elif name == "mse":  # one error of 60 costs more than it saves
        assert error(samples, chosen) <= error(samples, Range(chosen.low, 60.0))
    else:
        assert chosen.high < 30
        assert error(samples[:5], chosen) < error(samples[:5], Range(chosen.low, 60.0))


def test_range__order_of_magnitude_changes_late(name: str) -> None:
    samples = [value * scale for scale in (1e-4, 1e-2, 1.0) for value in normal(4)]
    chosen, seen = choose(name, samples)
    assert seen.low <= chosen.low < 0 < chosen.high <= seen.high
    assert chosen.high > 1


def test_range__more_levels_clip_no_more(name: str) -> None:
    samples = normal()
    few, _ = choose(name, samples)
    many, seen = choose(name, samples, levels=65536)
    assert seen.low <= many.low <= 0 <= many.high <= seen.high
    if name in {"mse", "minmax"}:
        assert many.high - many.low >= few.high - few.low


def test_range__same_again(name: str) -> None:
    assert choose(name, normal())[0] == choose(name, normal())[0]


def test_mse__has_the_least_error_of_all() -> None:
    for samples in (normal(), normal(transform=lambda v: v**3), normal(transform=lambda v: np.maximum(v**3, 0))):
        errors = {name: error(samples, choose(name, samples)[0]) for name in NAMES}
        assert errors["mse"] <= 1.1 * min(errors.values()), errors


def test_percentile__takes_a_number() -> None:
    samples = normal(32)
    half, seen = choose("percentile:90", samples)
    assert half.high == pytest.approx(1.645, abs=0.05)  # 95 % of a normal distribution lie below
    assert half.low == pytest.approx(-1.645, abs=0.05)
    whole, _ = choose("percentile:100", samples)
    assert (whole.low, whole.high) == (seen.low, seen.high)


def test_calibrator__unknown() -> None:
    with pytest.raises(
        ConfigError, match=r"calibrator 'percentil' is unknown\. Did you mean 'percentile'\? Known: entropy, "
    ):
        make_calibrator("percentil")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("mse:3", r"calibrator 'mse:3': 'mse' takes no number\. Say calibrator: mse"),
        ("percentile:12", r"12 percent, expected more than 50 and at most 100\. Say percentile:99\.99"),
        ("percentile:many", r"calibrator 'percentile:many': "),
    ],
)
def test_calibrator__wrong_number(text: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        make_calibrator(text)
