"""Resampling of PCM in plain numpy: a polyphase filter bank of Kaiser-windowed sincs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

ZERO_CROSSINGS = 32
"""Of the sinc on each side, at the lower of the two rates: more makes the transition to silence steeper."""
ROLL_OFF = 0.945
"""Pass band as a part of the lower Nyquist frequency; with 32 zero crossings the stop band begins just above it."""
KAISER_BETA = 9.0
"""Stop band of about -90 dB, below the noise of 16-bit PCM."""


def resample(pcm: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Change the sample rate, without moving the signal in time.

    Args:
        pcm: (n,) float32.
        from_hz: Rate of ``pcm``, positive.
        to_hz: Wanted rate, positive.

    Returns:
        (ceil(n * to_hz / from_hz),) float32; ``pcm`` itself where the rates are equal. What lies beyond the ends counts as
        silence.
    """
    if from_hz == to_hz or not len(pcm):
        return pcm
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    bank = _filter_bank(up, down)
    taps = bank.shape[1]
    left = taps // 2 - 1
    count = -(-len(pcm) * up // down)
    padded = np.pad(pcm, (left, taps + down))
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    out = np.empty(count, np.float32)
    for first in range(min(up, count)):
        # Outputs first, first + up, ... lie at the same fraction between two input samples: one filter for all of them.
        start, fraction = divmod(first * down, up)
        places = out[first::up]
        places[...] = windows[start::down][: len(places)] @ bank[fraction]
    return out


def resample_blocks(blocks: Iterable[NDArray[np.float32]], from_hz: int, to_hz: int) -> Iterator[NDArray[np.float32]]:
    """:func:`resample` for a signal that comes in blocks (n,) of any size; joined, what comes out is the same."""
    if from_hz == to_hz:
        yield from blocks
        return
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    # As much before and after every part as a filter reaches, in whole periods of the two rates: then parts meet without a seam.
    margin = -(-_filter_bank(up, down).shape[1] // down) * down
    skipped = margin // down * up
    waiting = np.zeros(margin, np.float32)
    for block in blocks:
        waiting = np.concatenate((waiting, block))
        ready = (waiting.size - 2 * margin) // down * down
        if ready > 0:
            yield resample(waiting[: ready + 2 * margin], from_hz, to_hz)[skipped : skipped + ready // down * up]
            waiting = waiting[ready:]
    if waiting.size > margin:
        yield resample(waiting, from_hz, to_hz)[skipped:]


@lru_cache(maxsize=8)
def _filter_bank(up: int, down: int) -> NDArray[np.float32]:
    """One filter per fraction k/up between two input samples, (up, taps); each sums to one."""
    cutoff = min(1.0, up / down) * ROLL_OFF
    reach = int(np.ceil(ZERO_CROSSINGS * max(1.0, down / up)))
    offsets = np.arange(1 - reach, reach + 1)
    times = offsets[None, :] - (np.arange(up) / up)[:, None]
    window = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (times / reach) ** 2, 0, None))) / np.i0(KAISER_BETA)
    bank = np.sinc(cutoff * times) * window
    normalised: NDArray[np.float64] = bank / bank.sum(axis=1, keepdims=True)
    return normalised.astype(np.float32)
