"""What of a branch differs from sample to sample, and whether a variant follows it.

Most of the power of many branches is the same for every input: the grid under a box, the mean of an embedding. A variant that
always says that mean is 20 dB and more from float, and says nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch

Array = NDArray[Any]

MAX_ERROR = 0.25
"""Error power over the power of what differs from sample to sample, over a whole branch; a constant is at 1."""
DEAD = 0.8
"""The same of one channel: no more than a constant would say. Below 1, because a few samples know their mean only roughly."""
FEWEST, FEWEST_FOR_CHANNELS = 3, 8
"""Samples from which on anything can be said."""
_STEPS = 256
"""What differs by less than the largest value over this is no more than a step of 8 bits, which no such variant can follow."""
_ACTIVE = 64
"""Channels with less of what differs than the most active one over this are not looked at alone: a class that was seen once, weakly."""
_MOST = 1 << 21
"""Elements of a branch that are looked at; of more, every so many."""


class Spread:
    """Sums per element over all samples."""

    def __init__(self) -> None:
        self._count = 0
        self._peak = 0.0
        self._every: tuple[slice, ...] = ()
        self._first: Array = np.zeros(0)
        self._sum: Array = np.zeros(0)
        self._squares: Array = np.zeros(0)
        self._errors: Array = np.zeros(0)

    def add(self, expected: Array, got: Array) -> None:
        """One sample: float64, finite, of equal shapes."""
        if not self._count:
            self._every = _thinned(expected.shape)
            self._first = expected[self._every].copy()
            self._sum, self._squares, self._errors = (np.zeros_like(self._first) for _ in range(3))
        a, b = expected[self._every], got[self._every]
        self._count += 1
        self._peak = max(self._peak, float(np.abs(a).max(initial=0.0)))
        # Distances from the first sample: sums of squares of the values themselves would lose small differences.
        moved = a - self._first
        self._sum += moved
        self._squares += moved * moved
        self._errors += (a - b) ** 2

    @property
    def asleep(self) -> bool:
        """Whether all samples, two or more, got exactly the same."""
        return self._count > 1 and not self._squares.any()

    def problems(self, branch: Branch) -> tuple[str, ...]:
        """What the variant does not follow, in words."""
        if self._count < FEWEST or not self._first.size:
            return ()
        mean = self._sum / self._count
        differs = np.maximum(self._squares - self._count * mean * mean, 0.0) * (self._count / (self._count - 1))
        told = differs / self._count > (self._peak / _STEPS) ** 2
        if not told.any():
            return ()
        differs, errors = np.where(told, differs, 0.0), np.where(told, self._errors, 0.0)
        share = float(errors.sum() / differs.sum())
        if share > MAX_ERROR:
            text = (
                f"does not follow its input: its error is {share:.2f} of what differs from sample to sample, "
                f"expected at most {MAX_ERROR:g} (always the same answer would be 1)"
            )
            return (text,)
        if self._count < FEWEST_FOR_CHANNELS:
            return ()
        for axis in channel_axes(branch, differs.shape):
            dead = _dead(differs, errors, axis)
            if dead:
                some = ", ".join(map(str, dead[:8])) + (f" and {len(dead) - 8} more" if len(dead) > 8 else "")
                text = (
                    f"channel{'s' if len(dead) > 1 else ''} {some} of {differs.shape[axis]} (axis {axis}): no closer to float "
                    "than always the same answer"
                )
                return (text,)
        return ()


def channel_axes(branch: Branch, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes along which the values mean different things; class vectors have their votes instead.

    Of a map the channels are first or last; of rows they are the shorter axis. Positions are no channels: a single object that is found
    a little less surely would make its place look dead.
    """
    if branch.class_axis is not None or not 2 <= len(shape) <= 4:
        return ()
    axes = {2: (1,), 3: (1, 2), 4: (1, 3)}[len(shape)]
    if min(shape[axis] for axis in axes) == 1:
        return ()
    return axes if len(shape) == 4 else tuple(axis for axis in axes if shape[axis] == min(shape[1:]))


def _dead(differs: Array, errors: Array, axis: int) -> list[int]:
    others = tuple(index for index in range(differs.ndim) if index != axis)
    active, wrong = differs.sum(axis=others), errors.sum(axis=others)
    looked_at = active > active.max() / _ACTIVE
    return [int(index) for index in np.flatnonzero(looked_at & (wrong >= DEAD * active))]


def _thinned(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Every so many along the longest axis, so that no more than `_MOST` elements are left."""
    every = [slice(None)] * len(shape)
    size = math.prod(shape)
    if size > _MOST:
        longest = max(range(len(shape)), key=lambda axis: shape[axis])
        every[longest] = slice(None, None, -(-size // _MOST))
    return tuple(every)
