"""Ranges by extremes: of all samples, or averaged over them."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from edgesdk_converters.quantize.histogram import Range, Statistics

Array = NDArray[Any]

_SLOWEST = 0.01
"""Weight of a sample after the first hundred, which are averaged: PyTorch's averaging constant."""


class MinMax:
    """Smallest and largest value: nothing is clipped, one outlier makes every step coarse."""

    name: ClassVar[str] = "minmax"
    passes = 0

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """Nothing more is needed."""

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """The extremes."""
        del tensor, levels
        return seen.extremes


class MovingAverage:
    """Extremes of each sample, averaged: one odd sample moves them little. Depends on the order after the first 100 samples."""

    name: ClassVar[str] = "moving-average"
    passes = 1

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float, float]] = {}

    def observe(self, tensor: str, value: Array, number: int) -> None:
        """Average in one sample."""
        del number
        count, low, high = self._seen.get(tensor, (0, 0.0, 0.0))
        weight = max(1 / (count + 1), _SLOWEST)
        low += weight * (min(0.0, float(value.min(initial=0.0))) - low)
        high += weight * (max(0.0, float(value.max(initial=0.0))) - high)
        self._seen[tensor] = count + 1, low, high

    def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
        """The averages."""
        del levels
        _, low, high = self._seen.get(tensor, (0, 0.0, 0.0))
        return Range(max(low, seen.low), min(high, seen.high))
