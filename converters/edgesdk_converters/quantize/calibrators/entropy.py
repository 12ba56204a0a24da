"""Ranges that keep the distribution of values: least Kullback-Leibler divergence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.quantize.histogram import Range, Statistics

Array = NDArray[Any]

_CANDIDATES = 64
_TINY = 1e-9


class Entropy:
    """Clips at the threshold, equal for both signs, behind which the quantized histogram resembles the original most.

    Source: Migacz, *8-bit Inference with TensorRT* (GTC 2017), with both ends instead of magnitudes.
    """

    name: ClassVar[str] = "entropy"
    passes = 0

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """Nothing more is needed."""

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """The best of 64 thresholds."""
        del tensor
        counts = seen.histogram.counts
        used = np.flatnonzero(counts)
        if seen.high <= seen.low or not used.size:
            return seen.extremes
        middle, width = len(counts) // 2, seen.histogram.width
        furthest = max(used[-1] + 1 - middle, middle - used[0])
        # Below one bin per level nothing is lost by quantizing, and every divergence is zero.
        nearest = min(max(levels // 2, furthest // 16), furthest)
        best, least = seen.extremes, np.inf
        for reach in np.unique(np.linspace(nearest, furthest, _CANDIDATES).astype(int))[::-1]:
            first, last = max(middle - reach, used[0]), min(middle + reach, used[-1] + 1)
            if last <= first:
                continue
            divergence = _divergence(counts, int(first), int(last), levels)
            if divergence < least:
                least = divergence
                low = max(seen.low, -reach * width) if seen.low < 0 else 0.0
                high = min(seen.high, reach * width) if seen.high > 0 else 0.0
                best = Range(float(low), float(high))
        return best


def _divergence(counts: Array, first: int, last: int, levels: int) -> float:
    """KL divergence of the clipped histogram from the same at ``levels`` equal steps."""
    inside = counts[first:last].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.minimum(np.arange(inside.size) * levels // max(inside.size, 1), levels - 1)
    there = clipped > 0
    sums = np.bincount(level, inside, levels)
    bins = np.maximum(np.bincount(level, there, levels), 1)
    quantized = np.where(there, (sums / bins)[level], 0.0)
    p, q = clipped[there] / clipped.sum(), quantized[there] / max(quantized.sum(), _TINY)
    return float((p * np.log(p / np.maximum(q, _TINY))).sum())
