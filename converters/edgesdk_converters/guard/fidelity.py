"""How close a variant is to its source, branch by branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, BranchFidelity, OutputSpec
from edgesdk_converters.guard.budget import AGREEMENT_LIMIT, AGREEMENT_PER_DB, SNR_LIMIT_DB, Budget

__all__ = [
    "AGREEMENT_LIMIT",
    "SNR_LIMIT_DB",
    "FidelityMeter",
    "branches_of",
    "cut",
    "in_words",
    "snr_db",
    "worst_margin",
]

Array = NDArray[Any]

_CAP_DB = 120.0
SURE = 0.5
_RARE = 1e-6
"""Probabilities below it count as it: an integer Softmax says 0 where float says 0.0001, which is no infinite surprise."""


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


def snr_db(expected: Array, got: Array) -> float:
    """``10 log10(signal power / error power)``, capped at +-120 dB; nan or inf in ``got`` counts as -120."""
    total = _Sums()
    total.add(expected, got)
    return total.snr_db


def branches_of(output: OutputSpec) -> tuple[Branch, ...]:
    """The branches of an output; one for the whole where none is named."""
    return output.branches or (Branch(name=output.name),)


def cut(value: Array, branch: Branch) -> Array:
    """The slice of an output that a branch is."""
    if branch.axis is None:
        return value
    at: list[Any] = [slice(None)] * value.ndim
    at[branch.axis] = slice(branch.start, branch.stop)
    part: Array = value[tuple(at)]
    return part


@dataclass(slots=True)
class _Sums:
    signal: float = 0.0
    error: float = 0.0
    other: float = 0.0
    dot: float = 0.0
    agree: int = 0
    votes: int = 0
    sure_agree: int = 0
    sure_votes: int = 0
    divergence: float = 0.0
    broken: bool = False

    def add(self, expected: Array, got: Array, class_axis: int | None = None, *, probabilities: bool = True) -> None:
        a, b = expected.astype(np.float64), got.astype(np.float64)
        if a.shape != b.shape or (not np.isfinite(b).all() and np.isfinite(a).all()):
            self.broken = True
            return
        finite = np.isfinite(a)
        a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        self.signal += float((a * a).sum())
        self.other += float((b * b).sum())
        self.dot += float((a * b).sum())
        self.error += float(((a - b) ** 2).sum())
        if class_axis is not None:
            same = a.argmax(axis=class_axis) == b.argmax(axis=class_axis)
            self.agree += int(same.sum())
            self.votes += int(same.size)
            if probabilities:
                self._compare_probabilities(a, b, class_axis, same)

    def _compare_probabilities(self, a: Array, b: Array, axis: int, same: Array) -> None:
        p, q = _probabilities(a, a, axis), _probabilities(b, a, axis)
        decided = p.max(axis=axis) >= SURE
        self.sure_agree += int(same[decided].sum())
        self.sure_votes += int(decided.sum())
        self.divergence += float((p * np.log(p / q)).sum())

    @property
    def snr_db(self) -> float:
        if self.broken:
            return -_CAP_DB
        if self.error == 0:
            return _CAP_DB
        if self.signal == 0:
            return -_CAP_DB
        return float(np.clip(10 * math.log10(self.signal / self.error), -_CAP_DB, _CAP_DB))

    @property
    def cosine(self) -> float:
        size = math.sqrt(self.signal) * math.sqrt(self.other)
        if self.broken:
            return 0.0
        return self.dot / size if size else float(self.signal == self.other)


@dataclass(slots=True)
class FidelityMeter:
    """Collects pairs of outputs and judges every branch over all of them together."""

    outputs: Sequence[OutputSpec]
    budget: Budget = field(default_factory=Budget)
    probabilities: bool = True
    """Compare class vectors as probabilities, too, which takes longer than a small model."""
    _sums: dict[tuple[str, str], _Sums] = field(default_factory=dict)

    def add(self, expected: Sequence[Array], got: Sequence[Array]) -> None:
        """One inference of the source and of the variant."""
        for spec, a, b in zip(self.outputs, expected, got, strict=True):
            for branch in branches_of(spec):
                sums = self._sums.setdefault((spec.name, branch.name), _Sums())
                if a.shape != b.shape:
                    sums.broken = True
                else:
                    sums.add(cut(a, branch), cut(b, branch), branch.class_axis, probabilities=self.probabilities)

    def result(self) -> tuple[BranchFidelity, ...]:
        """One figure per branch, in the order of the outputs."""
        figures = []
        for spec in self.outputs:
            for branch in branches_of(spec):
                sums = self._sums.get((spec.name, branch.name), _Sums(broken=True))
                agreement = sums.agree / sums.votes if sums.votes else None
                by_class = branch.class_axis is not None
                close = sums.snr_db >= self.budget.min_snr_db
                passed = self._agrees(sums, close=close) if by_class else close
                figures.append(
                    BranchFidelity(
                        output=spec.name,
                        branch=branch.name,
                        snr_db=round(sums.snr_db, 2),
                        cosine=round(sums.cosine, 6),
                        top1_agreement=None if agreement is None else round(agreement, 4),
                        kl_divergence=round(sums.divergence / sums.votes, 6)
                        if sums.votes and self.probabilities
                        else None,
                        passed=passed and not sums.broken,
                    )
                )
        return tuple(figures)

    def _agrees(self, sums: _Sums, *, close: bool) -> bool:
        """Enough agreement over all votes; or, where the values are close, over those that the float model is sure of.

        A picture of nothing that the classes know is decided by the last bit, and one of a dozen that differs says nothing: neither
        is a reason to refuse, as long as the values themselves keep the limit of other branches.
        """
        limit = self.budget.min_agreement
        if not sums.votes:
            return False
        if round(sums.agree / sums.votes, 4) >= limit:
            return True
        misses = sums.sure_votes - sums.sure_agree
        return close and misses <= self.budget.allowed_misses(sums.sure_votes) and sums.votes > 1


def worst_margin(fidelity: Sequence[BranchFidelity], budget: Budget | None = None) -> float:
    """Distance to the limit of the worst branch, in dB (0.002 of agreement count as one); of what passed, not below 0."""
    budget = budget or Budget()
    return min(
        max(margin, 0.0) if figure.passed else margin
        for figure, margin in zip(fidelity, _margins(fidelity, budget), strict=True)
    )


def _margins(fidelity: Sequence[BranchFidelity], budget: Budget) -> list[float]:
    return [
        (f.top1_agreement - budget.min_agreement) / AGREEMENT_PER_DB
        if f.top1_agreement is not None
        else f.snr_db - budget.min_snr_db
        for f in fidelity
    ]


def in_words(figure: BranchFidelity, budget: Budget | None = None) -> str:
    """What a refused branch reached and what it should have."""
    budget = budget or Budget()
    if figure.top1_agreement is not None:
        got = f"top-1 agreement {figure.top1_agreement:.3f}"
        return f"branch {figure.branch!r}: {got}, expected at least {budget.min_agreement:g}"
    return f"branch {figure.branch!r}: SNR {figure.snr_db:.1f} dB, expected at least {budget.min_snr_db:g} dB"
