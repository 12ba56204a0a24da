"""How often two models can be expected to agree on a class: smooth where a count over a few dozen samples jumps.

Of 48 pictures one is 2 %: counting, a search would demand perfection of 48 and get luck of 500. Here every sample says two
things: how far the float model's first class is ahead of its second, and how much quantization moved that lead. From the
spread of the moves follows how likely each lead is to be lost.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CLOSE = 0.5
"""Share of the votes, those with the smallest leads, whose moves tell the spread: where a lead is safe, saturated probabilities do
not move at all and would make it look small."""
_FEWEST = 8
COUNTED = 500
"""From so many votes on a count is finer than what a spread promises: the limit of 0.98 is ten of them."""


class ExpectedAgreement:
    """Collects class vectors of a float model and a quantized one."""

    def __init__(self) -> None:
        self._leads: list[NDArray[np.float64]] = []
        self._moves: list[NDArray[np.float64]] = []
        self._agree = self._votes = 0

    def add(self, expected: Array, got: Array, axis: int, *, where: NDArray[np.bool_] | None = None) -> None:
        """Vectors along ``axis``, any number of them, of equal shapes; only those ``where`` (the shape without ``axis``) says so."""
        classes = expected.shape[axis]
        a = np.moveaxis(expected.astype(np.float64), axis, -1).reshape(-1, classes)
        b = np.nan_to_num(np.moveaxis(got.astype(np.float64), axis, -1).reshape(-1, classes))
        if where is not None:
            a, b = a[where.reshape(-1)], b[where.reshape(-1)]
        if classes < 2 or not len(a):
            return
        self._votes += len(a)
        self._agree += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
        best = np.argpartition(-a, 1, axis=1)[:, :2]
        first, second = np.take_along_axis(a, best, axis=1).T
        lead = first - second
        mine = np.take_along_axis(b, best, axis=1)
        self._leads.append(np.abs(lead))
        self._moves.append(np.where(lead < 0, -1.0, 1.0) * (mine[:, 0] - mine[:, 1]) - np.abs(lead))

    def result(self) -> float | None:
        """0..1; None without votes."""
        if not self._leads:
            return None
        if self._votes >= COUNTED:
            return self._agree / self._votes
        leads, moves = np.concatenate(self._leads), np.concatenate(self._moves)
        close = np.argsort(leads, kind="stable")[: max(_FEWEST, round(_CLOSE * len(leads)))]
        spread = math.sqrt(float((moves[close] ** 2).mean()))
        if spread == 0:
            return 1.0
        lost = [0.5 * math.erfc(lead / (spread * math.sqrt(2))) for lead in leads[close].tolist()]
        return 1 - sum(lost) / len(leads)
