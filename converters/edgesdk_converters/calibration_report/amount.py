"""Are these enough? How far ranges still move when samples are added."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.calibration.alike import exact_groups, families

Extremes = NDArray[np.float32]

LIMIT = 0.04
"""Mean relative change of the ranges that one more set of the same size would bring, from which samples are too few.

DS-CNN, EfficientNet-Lite0 and PP-OCR stand at 2 - 7 % with 16 samples and at 1 - 4 % with 64; with 8 samples their int8 models vary most, and from
32 on their SNR stays where it is."""
FEWEST = 16
"""Samples below which the answer is no, whatever the ranges do: a curve of two points is none."""
_STRETCHES = 64
"""Parts that recordings are cut into together: what is heard in one moment and the next is no second sample."""
_MOST = 0.5
"""Share of the samples that may be alike and still count as one. Of a camera that never moves nearly all are: their differences are
what there is to learn."""
_ODD = 0.02
"""Share from which a sample is odd: two of them make as much as the limit."""
_START = 4
_DRAWS = 16
_MOST_NEEDED = 2000
_SEED = 3
_FLATTEST = -0.4
"""Exponent of the slowest fall that is believed; an odd sample makes a curve rise, and a line through it would ask for millions."""


@dataclass(frozen=True, slots=True)
class Amount:
    """The answer."""

    enough: bool
    change: float
    """Expected mean relative change of the ranges if as many samples again were added."""
    needed: int
    """Samples at which the change falls below the limit, by extrapolation."""
    curve: tuple[tuple[int, float], ...]
    """(samples, change when as many again were added)."""
    different: int
    """Samples that are no copies of each other."""
    odd: tuple[tuple[int, float], ...] = ()
    """(number of the sample, mean share of the ranges that is there for it alone), of those with a large share; largest first."""


def independent(calibration: CalibrationSet) -> NDArray[np.intp]:
    """Number of the sample that each inference counts for, (inferences,): the same for copies, and for neighbours in a recording.

    Fifty copies of eight pictures do not move a range, and are still eight pictures.
    """
    lengths = [len(unit) for unit in calibration.units]
    copies = list(range(len(lengths)))
    if len(calibration.prints) == len(lengths):
        groups = families(calibration.prints)
        if max(map(len, groups)) > _MOST * len(lengths):
            groups = exact_groups(calibration.prints)
        for number, group in enumerate(groups):
            for index in group:
                copies[index] = number
    if all(length == 1 for length in lengths):
        return np.unique(np.asarray(copies, np.intp), return_inverse=True)[1].reshape(-1)
    stretch = max(1, -(-sum(lengths) // _STRETCHES))
    parts = [(copies[unit], position // stretch) for unit, length in enumerate(lengths) for position in range(length)]
    numbers = {part: number for number, part in enumerate(dict.fromkeys(parts))}
    return np.asarray([numbers[part] for part in parts], np.intp)


def amount(lows: Extremes, highs: Extremes, samples: NDArray[np.intp] | None = None) -> Amount:
    """Add samples in 16 random orders and watch the ranges.

    Args:
        lows: (inferences, tensors) smallest value of each tensor, at most 0.
        highs: The same, largest, at least 0.
        samples: Of :func:`independent`; by default each inference is a sample.
    """
    if samples is not None and len(lows):
        samples = samples[: len(lows)]
        order = np.argsort(samples, kind="stable")
        starts = np.flatnonzero(np.diff(samples[order], prepend=-1))
        lows = np.minimum.reduceat(lows[order], starts)
        highs = np.maximum.reduceat(highs[order], starts)
    count = len(lows)
    curve = []
    size = _START
    while 2 * size <= count:
        curve.append((size, _change(lows, highs, size)))
        size *= 2
    if count >= 2 * _START and curve[-1][0] != count // 2:
        curve.append((count // 2, _change(lows, highs, count // 2)))
    if len(curve) < 2:
        return Amount(enough=False, change=1.0, needed=4 * FEWEST, curve=tuple(curve), different=count)
    # Changes fall like a power of the number of samples: a straight line in logarithms, weighted towards its end.
    x = np.log([size for size, _ in curve])
    y = np.log([max(change, 1e-6) for _, change in curve])
    slope = np.polyfit(x, y, 1, w=np.sqrt(np.arange(1, len(x) + 1)))[0]
    slope = min(float(slope), _FLATTEST)
    change = min(curve[-1][1], curve[-1][1] * math.exp(slope * (math.log(count) - x[-1])))
    needed = count
    if change > LIMIT:
        needed = round(min(_MOST_NEEDED, count * math.exp(math.log(change / LIMIT) / -slope)))
    return Amount(
        enough=change <= LIMIT and count >= FEWEST,
        change=change,
        needed=max(int(float(f"{needed:.2g}")), FEWEST),  # an extrapolation: two digits are more than it knows
        curve=tuple((size, round(change, 5)) for size, change in curve),
        different=count,
        odd=_odd(lows, highs),
    )


def _odd(lows: Extremes, highs: Extremes) -> tuple[tuple[int, float], ...]:
    """Samples without which the ranges were narrower."""
    widths = highs.max(axis=0) - lows.min(axis=0)
    used = widths > 0
    shares = np.zeros(len(lows))
    for ends in (highs, -lows):
        top = np.sort(ends, axis=0)[-2:]
        np.add.at(shares, ends.argmax(axis=0)[used], ((top[1] - top[0])[used] / widths[used]))
    shares /= max(1, int(used.sum()))
    order = np.argsort(-shares, kind="stable")
    return tuple((int(number), float(shares[number])) for number in order if shares[number] >= _ODD)


def _change(lows: Extremes, highs: Extremes, size: int) -> float:
    """Mean over orders and tensors: how much wider the range of 2 x ``size`` samples is than that of the first half of them."""
    rng = np.random.default_rng(_SEED)
    changes = []
    for _ in range(_DRAWS):
        order = rng.permutation(len(lows))[: 2 * size]
        few = highs[order[:size]].max(axis=0) - lows[order[:size]].min(axis=0)
        many = highs[order].max(axis=0) - lows[order].min(axis=0)
        used = many > 0
        changes.append(float(((many - few)[used] / many[used]).mean()) if used.any() else 0.0)
    return float(np.mean(changes))
