from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.sources.resample import resample, resample_blocks


def _tone(frequency_hz: float, rate_hz: int, seconds: float = 0.5) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * seconds)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (8000, 16000), (22050, 16000), (16000, 44100)]
)
@pytest.mark.parametrize("part", [0.05, 0.4, 0.85])
def test_resample__tones_in_the_pass_band_stay(from_hz: int, to_hz: int, part: float) -> None:
    frequency = part * min(from_hz, to_hz) / 2
    result = resample(_tone(frequency, from_hz), from_hz, to_hz)
    expected = _tone(frequency, to_hz)
    assert abs(len(result) - len(expected)) <= 1
    middle = slice(len(expected) // 4, -len(expected) // 4)
    error = result[: len(expected)][middle] - expected[middle]
    signal_to_noise_db = 10 * np.log10(np.mean(expected[middle] ** 2) / np.mean(error**2))
    assert signal_to_noise_db > 60


@pytest.mark.parametrize("frequency", [8200, 9000, 12000, 20000])
def test_resample__what_would_alias_is_gone(frequency: float) -> None:
    result = resample(_tone(frequency, 44100), 44100, 16000)
    level_db = 10 * np.log10(np.mean(result[1000:-1000] ** 2) / 0.5)
    assert level_db < -55


def test_resample__a_constant_stays_in_the_middle() -> None:
    result = resample(np.ones(4000, np.float32), 44100, 16000)
    np.testing.assert_allclose(result[200:-200], 1, atol=1e-4)


def test_resample__equal_rates_and_nothing() -> None:
    pcm = np.ones(3, np.float32)
    assert resample(pcm, 16000, 16000) is pcm
    assert len(resample(np.empty(0, np.float32), 44100, 16000)) == 0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 44100, 48000]), st.sampled_from([8000, 16000, 22050]))
def test_resample__length_is_the_duration(count: int, from_hz: int, to_hz: int) -> None:
    result = resample(np.zeros(count, np.float32), from_hz, to_hz)
    assert len(result) == -(-count * to_hz // from_hz)
    assert result.dtype == np.float32


def test_resample__a_click_stays_where_it_was() -> None:
    pcm = np.zeros(4410, np.float32)
    pcm[2205] = 1  # at 50 ms
    assert int(np.argmax(resample(pcm, 44100, 16000))) == 800


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (8000, 16000), (16000, 16000)])
@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_resample_blocks__joined_is_the_whole(from_hz: int, to_hz: int, sizes: list[int]) -> None:
    pcm = np.random.default_rng(0).normal(0, 0.3, sum(sizes)).astype(np.float32)
    joined = np.concatenate(list(resample_blocks(np.split(pcm, np.cumsum(sizes)[:-1]), from_hz, to_hz)))
    whole = resample(pcm, from_hz, to_hz)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-6)
