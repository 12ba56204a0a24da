"""Activation ranges from calibration samples: minimum and maximum, or the clipping that costs the least squared error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]
Method = Literal["minmax", "mse"]

BINS = 8192
"""Histogram resolution over -reach..reach, a power of two: at least 2048 bins lie over what a one-sided tensor took."""
_MOST_VALUES = 50_000
"""Values per tensor and inference that enter its histogram; all of them took ten times as long for the same ranges."""


@dataclass(frozen=True, slots=True)
class Range:
    """Values that a tensor took, widened to contain zero, which must be exactly representable (padding, ReLU)."""

    low: float
    high: float


class Observer:
    """Runs a float model over the calibration samples once and remembers what its tensors did."""

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Sequence[Array]], tensors: Iterable[str]) -> None:
        self._feeds = feeds
        self._names = sorted(set(tensors))
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        already = {value.name for value in watched.graph.output} | {value.name for value in watched.graph.input}
        watched.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in self._names
            if name not in already
        )
        self._runner = OnnxRunner(watched, wanted=self._names, threads=WORKERS)
        self.means: dict[str, NDArray[np.float64]] = {}
        """Mean per channel (C,) of tensors with spatial axes; known once :meth:`ranges` was asked."""
        self._histograms = {name: _Histogram() for name in self._names}
        self._minmax: dict[str, Range] | None = None
        self._mse: dict[str, Range] | None = None

    def ranges(self, method: Method) -> dict[str, Range]:
        """Range of every watched tensor."""
        if method == "minmax":
            return self._extremes()
        if self._mse is None:
            extremes = self._extremes()
            self._mse = {name: _least_error(extremes[name], self._histograms[name]) for name in self._names}
        return self._mse

    def _extremes(self) -> dict[str, Range]:
        if self._minmax is None:
            low = dict.fromkeys(self._names, 0.0)
            high = dict.fromkeys(self._names, 0.0)
            sums: dict[str, NDArray[np.float64]] = {}
            for feed in self._feeds:
                for name, value in zip(self._names, self._runner.run_wanted(feed), strict=True):
                    low[name] = min(low[name], float(value.min(initial=0.0)))
                    high[name] = max(high[name], float(value.max(initial=0.0)))
                    self._histograms[name].add(value)
                    if value.ndim > 2:
                        mean = value.mean(axis=(0, *range(2, value.ndim)), dtype=np.float64)
                        sums[name] = sums[name] + mean if name in sums else mean
            self.means = {name: total / len(self._feeds) for name, total in sums.items()}
            self._minmax = {name: Range(low[name], high[name]) for name in self._names}
        return self._minmax


class _Histogram:
    """Counts over -reach..reach; the reach doubles when a value lies beyond, and neighbouring bins are merged."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.reach = 0.0

    def add(self, value: Array) -> None:
        # An odd step walks through all columns.
        part = value.reshape(-1)[:: max(1, value.size // _MOST_VALUES) | 1]
        largest = float(np.abs(part).max(initial=0.0))
        if not 0 < largest < math.inf:
            return
        if self.reach == 0:
            self.reach = 2.0 ** math.ceil(math.log2(largest))
        while self.reach < largest:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)])
            self.reach *= 2
        self.counts += np.histogram(part, BINS, (-self.reach, self.reach))[0]

    @property
    def centres(self) -> NDArray[np.float64]:
        return np.asarray((np.arange(BINS) + 0.5) * (2 * self.reach / BINS) - self.reach, np.float64)


def _least_error(extremes: Range, histogram: _Histogram) -> Range:
    """Shrink both ends together and apart; keep what has the least rounding plus clipping error at 8 bits."""
    if extremes.high <= extremes.low or not histogram.counts.any():
        return extremes
    used = histogram.counts > 0
    counts, centres = histogram.counts[used], histogram.centres[used]
    best, best_error = extremes, np.inf
    # 1 - 0.5 in steps of 5 %: finer steps changed the chosen error by less than 1 % on PP-OCR and DS-CNN.
    factors = np.linspace(0.5, 1.0, 11)
    for shrink_low in factors if extremes.low < 0 else (1.0,):
        for shrink_high in factors if extremes.high > 0 else (1.0,):
            low, high = extremes.low * float(shrink_low), extremes.high * float(shrink_high)
            step = (high - low) / 255
            clipped = centres - np.clip(centres, low, high)
            inside = clipped == 0
            error = float((counts * (clipped**2 + inside * step**2 / 12)).sum())
            if error < best_error:
                best, best_error = Range(low, high), error
    return best
