"""One walk of the float model over the samples: which classes it sees, what its branches reach, how its outputs group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, OutputSpec
from edgesdk_converters.calibration import CalibrationSet, Feed
from edgesdk_converters.guard.fidelity import branches_of, cut
from edgesdk_converters.progress import Progress

Array = NDArray[Any]
Run = Callable[[Feed], Sequence[Array]]

MOST = 256
"""Inferences at most, spread evenly: shares are then known to 3 %."""
_POOLED = 32
"""Numbers that stand for a branch when samples are grouped."""


@dataclass(slots=True)
class BranchSurvey:
    """One branch over all samples."""

    output: str
    name: str
    low: float = np.inf
    high: float = -np.inf
    first: Array | None = None
    varies: float = 0.0
    """Largest distance of any value from its value at the first sample."""
    peaks: list[float] = field(default_factory=list)
    """Largest value of each inference."""
    classes: Counter[int] = field(default_factory=Counter)
    """Class id -> inferences that it is the best of, where the branch is one class vector."""
    count: int | None = None
    """Number of classes, likewise."""

    def add(self, value: Array, class_axis: int | None) -> None:
        """Take in one inference."""
        if not value.size:
            return
        values = value.astype(np.float32)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.peaks.append(float(values.max()))
        if self.first is None or self.first.shape != values.shape:
            self.first = values
        self.varies = max(self.varies, float(np.abs(values - self.first).max()))
        if class_axis is not None and values.size == values.shape[class_axis]:
            self.count = values.size
            self.classes[int(values.reshape(-1).argmax())] += 1

    @property
    def constant(self) -> bool:
        """Whether it says the same about every sample."""
        return len(self.peaks) > 1 and self.varies <= 1e-6 * max(abs(self.low), abs(self.high), 1e-6)


@dataclass(frozen=True, slots=True)
class Survey:
    """What the walk found."""

    branches: tuple[BranchSurvey, ...]
    units: tuple[int, ...]
    """Sample of each inference."""
    features: NDArray[np.float32]
    """(inferences, features) pooled outputs."""
    lows: NDArray[np.float32]
    """(inferences, inputs + outputs) smallest values of the floating-point tensors."""
    highs: NDArray[np.float32]
    step: int = 1
    """Every which inference it walked through."""


def survey(calibration: CalibrationSet, run: Run, outputs: Sequence[OutputSpec], progress: Progress) -> Survey:
    """Run the float model over at most 256 inferences."""
    index = [number for number, unit in enumerate(calibration.units) for _ in range(len(unit))]
    step = max(1, -(-len(index) // MOST))
    pairs: list[tuple[BranchSurvey, int, Branch]] = [
        (BranchSurvey(spec.name, branch.name), position, branch)
        for position, spec in enumerate(outputs)
        for branch in branches_of(spec)
    ]
    features, lows, highs = [], [], []
    feeds = calibration.feeds[::step]
    with progress.bar("looking at the calibration samples", len(feeds)) as bar:
        for feed in feeds:
            results = run(list(feed))
            row = []
            for found, position, branch in pairs:
                value = cut(results[position], branch)
                found.add(value, branch.class_axis)
                row.append(_pooled(value))
            features.append(np.concatenate(row) if row else np.zeros(1, np.float32))
            floats = [array for array in (*feed, *results) if array.dtype.kind == "f" and array.size]
            lows.append([min(0.0, float(array.min())) for array in floats])
            highs.append([max(0.0, float(array.max())) for array in floats])
            bar.advance()
    return Survey(
        branches=tuple(found for found, *_ in pairs),
        units=tuple(index[::step]),
        features=np.nan_to_num(np.stack(features), posinf=0, neginf=0),
        lows=np.asarray(lows, np.float32).reshape(len(features), -1),
        highs=np.asarray(highs, np.float32).reshape(len(features), -1),
        step=step,
    )


def _pooled(value: Array) -> NDArray[np.float32]:
    flat = value.reshape(-1).astype(np.float32)
    pooled = np.zeros(2 * _POOLED, np.float32)
    if flat.size:
        parts = np.array_split(flat, min(_POOLED, flat.size))
        pooled[: len(parts)] = [part.mean() for part in parts]
        pooled[_POOLED : _POOLED + len(parts)] = [part.max() for part in parts]
    return pooled
