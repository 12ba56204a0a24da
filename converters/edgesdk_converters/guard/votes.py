"""Class vectors: which class a variant chooses, class by class, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.guard.budget import Budget, short_of

Array = NDArray[Any]

SURE = 0.5
_RARE = 1e-6
"""Probabilities below it count as it: an integer Softmax says 0 where float says 0.0001, which is no infinite surprise."""
ENOUGH = 50
"""Votes of which one is 2 %: an agreement of 0.98 over fewer is luck, so their values must be close as well."""
FEW_DB = 6.0
"""How far below the SNR of other branches the values of few votes may be. Files of PP-OCR's recognizer lose 3 % of their votes at 14 dB."""
MAX_GAIN_ERROR = 0.1
"""How much larger or smaller all values may have become: thresholds are set by them."""
_PER_CLASS = 3
"""Votes for one class from which on losing most of them is no accident."""


def sure(expected: Array, axis: int) -> NDArray[np.bool_]:
    """Which class vectors along ``axis`` give their best class at least a half; of the others, the next sample of noise decides."""
    return np.asarray(_probabilities(expected, expected, axis).max(axis=axis) >= SURE)


def _probabilities(value: Array, like: Array, axis: int) -> NDArray[np.float64]:
    """``value`` as probabilities; ``like``, the float model's, decides whether it is already."""
    total = like.sum(axis=axis)
    if float(like.min(initial=0.0)) < 0 or not np.allclose(total, 1.0, atol=1e-2):
        shifted = value - value.max(axis=axis, keepdims=True)
        value = np.exp(shifted)
    value = np.maximum(value, _RARE)
    return np.asarray(value / value.sum(axis=axis, keepdims=True), np.float64)


class Votes:
    """Counts over all class vectors of a branch."""

    def __init__(self) -> None:
        self.count = self._agree = 0
        self._sure = self._sure_agree = 0
        self._divergence: float | None = None
        self._chosen: NDArray[np.int64] = np.zeros(0, np.int64)
        self._kept: NDArray[np.int64] = np.zeros(0, np.int64)
        self._along = self._length = 0.0

    def add(self, a: Array, b: Array, axis: int, *, thorough: bool) -> None:
        """Vectors along ``axis``: float64, finite.

        Args:
            a: The float model's.
            b: The variant's.
            axis: Of the classes.
            thorough: Compare them as probabilities and class by class, too, which takes longer than a small model.
        """
        mine, theirs = b.argmax(axis=axis), a.argmax(axis=axis)
        same = mine == theirs
        self._agree += int(same.sum())
        self.count += int(same.size)
        if not thorough:
            return
        p, q = _probabilities(a, a, axis), _probabilities(b, a, axis)
        decided = p.max(axis=axis) >= SURE
        self._sure_agree += int(same[decided].sum())
        self._sure += int(decided.sum())
        self._divergence = (self._divergence or 0.0) + float((p * np.log(p / q)).sum())
        classes = a.shape[axis]
        if not self._chosen.size:
            self._chosen, self._kept = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        self._chosen += np.bincount(theirs[decided].reshape(-1), minlength=classes)
        self._kept += np.bincount(theirs[decided & same].reshape(-1), minlength=classes)
        centred = a - a.mean(axis=axis, keepdims=True)
        self._along += float((centred * b).sum())
        self._length += float((centred * centred).sum())

    @property
    def agreement(self) -> float | None:
        """0..1 over all votes."""
        return self._agree / self.count if self.count else None

    @property
    def divergence(self) -> float | None:
        """Mean Kullback-Leibler divergence in nats."""
        return None if self._divergence is None else self._divergence / self.count

    def problems(self, budget: Budget, snr_db: float) -> tuple[str, ...]:
        """Limits that are missed.

        Enough agreement over all votes, of which there must be enough or the values near; or, where the values are close, over those
        votes that the float model is sure of: a picture of nothing that the classes know is decided by the last bit.
        """
        if not self.count:
            return ("there is no class vector in it",)
        close = snr_db >= budget.min_snr_db
        agreement = self._agree / self.count
        if round(agreement, 4) < budget.min_agreement:
            misses = self._sure - self._sure_agree
            if not (close and self.count > 1 and misses <= budget.allowed_misses(self._sure)):
                return (
                    f"top-1 agreement {short_of(agreement, budget.min_agreement, 3)}, expected at least {budget.min_agreement:g}",
                )
        found = []
        if self.count < ENOUGH and snr_db < budget.min_snr_db - FEW_DB:
            found.append(
                f"SNR {short_of(snr_db, budget.min_snr_db - FEW_DB, 1)} dB, expected at least {budget.min_snr_db - FEW_DB:g} dB where so few class vectors are judged: "
                f"{self.count}, give {ENOUGH} or more to go by top-1 agreement ({agreement:.3f}) alone"
            )
        gain = self._along / self._length if self._length else 1.0
        if not close and abs(gain - 1) > MAX_GAIN_ERROR:
            found.append(
                f"its values are {gain:.2f} of float's, expected {1 - MAX_GAIN_ERROR:g} to {1 + MAX_GAIN_ERROR:g}: "
                "a threshold on them would no longer hold"
            )
        return (*found, *self._dead())

    def _dead(self) -> tuple[str, ...]:
        """Classes that the variant hardly ever chooses where float is sure of them, few as they may be among all votes."""
        lost = np.flatnonzero((self._chosen >= _PER_CLASS) & (2 * self._kept < self._chosen))
        if not lost.size:
            return ()
        first = int(lost[0])
        more = f"; {lost.size - 1} more classes like it" if lost.size > 1 else ""
        text = (
            f"class {first}: float is sure of it {int(self._chosen[first])} times, the variant agrees in {int(self._kept[first])} of them, "
            f"expected at least half{more}"
        )
        return (text,)
