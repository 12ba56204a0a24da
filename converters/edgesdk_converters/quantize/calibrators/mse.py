"""Ranges with the least squared error of rounding and clipping together."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantize.histogram import Range, Statistics

Array = NDArray[Any]

_LEAST = 0.5
"""Never less than half of the extremes. Down to a tenth, the squared error falls further but the models get worse: rare large values
matter more than their number (DS-CNN, four calibration sets: 28.9 dB instead of 29.6 dB)."""
_FACTORS = np.geomspace(_LEAST, 1.0, 64)
"""Ends of the range over the extremes: 1 % apart."""


class LeastError:
    """Moves both ends inwards, independently, to where clipping costs as much as it saves in rounding."""

    name: ClassVar[str] = "mse"
    passes = 0

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """Nothing more is needed."""

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """The best of 64 x 64 ranges."""
        del tensor
        counts = seen.histogram.counts
        if seen.high <= seen.low or not counts.any():
            return seen.extremes
        centres = seen.histogram.centres
        highs = seen.high * _FACTORS if seen.high > 0 else np.zeros(1)
        lows = seen.low * _FACTORS if seen.low < 0 else np.zeros(1)
        high_cost, high_out = _beyond(highs, centres, counts)
        low_cost, low_out = _beyond(-lows, -centres[::-1], counts[::-1])
        step = (highs[:, None] - lows[None, :]) / (levels - 1)
        inside = counts.sum() + seen.histogram.zeros - high_out[:, None] - low_out[None, :]
        error = high_cost[:, None] + low_cost[None, :] + inside * step**2 / 12
        # Of equals the widest: the last in both.
        row, column = np.unravel_index(error.size - 1 - int(np.argmin(error[::-1, ::-1])), error.shape)
        return Range(float(lows[column]), float(highs[row]))


def _beyond(ends: Array, centres: Array, counts: Array) -> tuple[Array, Array]:
    """Squared distance of all values above each end, and how many there are."""
    first = np.searchsorted(centres, ends, side="right")
    sums = [np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0)[first] for power in (0, 1, 2)]
    return np.maximum(sums[2] - 2 * ends * sums[1] + ends**2 * sums[0], 0.0), sums[0]
