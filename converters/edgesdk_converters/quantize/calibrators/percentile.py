"""Ranges that leave out the rarest values."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantize.histogram import Range, Statistics

Array = NDArray[Any]

DEFAULT = 99.99
_LOWEST = 50.0


class Percentile:
    """The middle ``percent`` of all values, half of the rest cut off at each end. Source: onnxruntime's calibrator of this name."""

    name: ClassVar[str] = "percentile"
    passes = 0

    def __init__(self, percent: float = DEFAULT) -> None:
        if not _LOWEST < percent <= 100:
            raise ValueError(f"{percent:g} percent, expected more than 50 and at most 100. Say percentile:{DEFAULT}")
        self.percent = percent

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """Nothing more is needed."""

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """Between the two percentiles, to a bin of the histogram."""
        del tensor, levels
        histogram = seen.histogram
        total = int(histogram.counts.sum()) + histogram.zeros
        if not histogram.counts.any():
            return seen.extremes
        cut = total * (100 - self.percent) / 200
        centres, half = histogram.centres, histogram.width / 2
        above = np.cumsum(histogram.counts[::-1])[::-1]  # values in this bin and beyond
        below = np.cumsum(histogram.counts)
        negative = centres < 0
        high = float(centres[~negative & (above > cut)].max(initial=-half)) + half
        low = float(centres[negative & (below > cut)].min(initial=half)) - half
        return Range(max(min(low, 0.0), seen.low), min(max(high, 0.0), seen.high))
