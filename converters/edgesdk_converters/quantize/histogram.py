"""What is remembered of a tensor over all samples: exact extremes and a histogram that grows its reach. Constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BINS = 8192
"""Histogram resolution over -reach..reach, a power of two: at least 2048 bins lie over what a one-sided tensor took."""
_MOST_VALUES = 50_000
"""Values per tensor and inference that enter its histogram, spread evenly: all of them would take longer for the same ranges."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a tensor took, widened to contain zero, which must be exactly representable (padding, ReLU)."""

    low: float
    high: float


class Histogram:
    """Counts over -reach..reach; the reach doubles when a value lies beyond, and neighbouring bins are merged."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        """Without exact zeros, which cost nothing to represent and would hide everything else behind a ReLU."""
        self.zeros = 0
        self.reach = 0.0

    def add(self, value: Array) -> None:
        """Count finite values; of a large array, a fixed sample."""
        # An odd step walks through all columns.
        part = value.reshape(-1)[:: max(1, value.size // _MOST_VALUES) | 1]
        part = part[part != 0].astype(np.float32)
        self.zeros += len(range(0, value.size, max(1, value.size // _MOST_VALUES) | 1)) - part.size
        largest = float(np.abs(part).max(initial=0.0))
        if not math.isfinite(largest):
            part = part[np.isfinite(part)]
            largest = float(np.abs(part).max(initial=0.0))
        if not largest > 0:
            return
        if self.reach == 0:
            self.reach = 2.0 ** max(math.ceil(math.log2(largest)), -1000)
        while self.reach < largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)])
            self.reach *= 2
        bins = ((part.astype(np.float64) + self.reach) * (BINS / 2 / self.reach)).astype(np.int32)
        self.counts += np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)

    @property
    def width(self) -> float:
        """Of a bin."""
        return 2 * self.reach / BINS

    @property
    def centres(self) -> NDArray[np.float64]:
        """Of the bins (8192,)."""
        return np.asarray((np.arange(BINS) + 0.5) * self.width - self.reach, np.float64)

    def within(self, low: float, high: float, bins: int) -> NDArray[np.int64]:
        """The same in ``bins`` equal bins over ``low``..``high``, exact zeros included, for a picture of it."""
        counts = np.zeros(bins, np.int64)
        if high <= low:
            counts[0] = self.counts.sum() + self.zeros
            return counts
        used = np.flatnonzero(self.counts)
        values = np.append(self.centres[used], 0.0)
        at = np.clip((values - low) * (bins / (high - low)), 0, bins - 1).astype(int)
        np.add.at(counts, at, np.append(self.counts[used], self.zeros))
        return counts


@dataclass(slots=True)
class Statistics:
    """One tensor over all samples."""

    low: float = 0.0
    """Smallest finite value, at most zero."""
    high: float = 0.0
    """Largest finite value, at least zero."""
    infinite: bool = False
    """Whether it took an infinity, too (attention masks do)."""
    histogram: Histogram = field(default_factory=Histogram)
    channel_low: NDArray[np.float64] | None = None
    """(C,), at most zero; None for tensors without a channel axis."""
    channel_high: NDArray[np.float64] | None = None
    sums: NDArray[np.float64] | None = None
    """(C,) of the means per inference."""

    @property
    def extremes(self) -> Range:
        """Everything the tensor took."""
        return Range(self.low, self.high)

    def add(self, value: Array, *, histogram: bool = True) -> tuple[float, float]:
        """Take in one inference's value.

        Args:
            value: Any shape, floating point.
            histogram: Whether to count values and sum channels, too, which takes most of the time.

        Returns:
            Its own smallest and largest finite value; NaN where it holds one.
        """
        channels = value.shape[1] if value.ndim > 1 else 1
        flat = value.reshape(1, -1) if value.ndim < 2 else np.moveaxis(value, 1, 0).reshape(channels, -1)
        if not flat.size:
            return 0.0, 0.0
        lows, highs = flat.min(axis=1), flat.max(axis=1)
        low, high = float(lows.min()), float(highs.max())
        if math.isnan(low) or math.isnan(high):
            return math.nan, math.nan
        if math.isinf(low) or math.isinf(high):
            self.infinite = True
            flat = np.where(np.isfinite(flat), flat, 0)
            lows, highs = flat.min(axis=1), flat.max(axis=1)
            low, high = float(lows.min()), float(highs.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not histogram:
            return low, high
        self.histogram.add(value)
        if value.ndim > 1:
            if self.channel_low is None or self.channel_high is None:
                self.channel_low, self.channel_high = np.zeros(channels), np.zeros(channels)
            self.channel_low = np.minimum(self.channel_low, lows)
            self.channel_high = np.maximum(self.channel_high, highs)
        if value.ndim > 2:
            means = flat.mean(axis=1, dtype=np.float64)
            self.sums = means if self.sums is None else self.sums + means
        return low, high
