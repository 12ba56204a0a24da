"""How close a variant is to its source, branch by branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, BranchFidelity, OutputSpec
from edgesdk_converters.guard.budget import AGREEMENT_LIMIT, AGREEMENT_PER_DB, SNR_LIMIT_DB, Budget, short_of
from edgesdk_converters.guard.spread import Spread
from edgesdk_converters.guard.votes import Votes, sure

__all__ = [
    "AGREEMENT_LIMIT",
    "SNR_LIMIT_DB",
    "FidelityMeter",
    "branches_of",
    "cut",
    "decides",
    "snr_db",
    "sure",
    "worst_margin",
]

Array = NDArray[Any]

_CAP_DB = 120.0
_REFUSED_DB = 0.1
"""Margin of what was refused for another reason than its own figure: below that of anything that passed."""
_DECISIONS = frozenset({"bool", "int16", "int32", "int64", "uint16", "uint32", "uint64"})


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


def decides(output: OutputSpec) -> bool:
    """Whether an output is class ids, indices or flags: near is as wrong as far. Bytes are pixels or quantized values."""
    return output.dtype in _DECISIONS


@dataclass(slots=True)
class _Sums:
    signal: float = 0.0
    error: float = 0.0
    other: float = 0.0
    dot: float = 0.0
    elements: int = 0
    equal: int = 0
    broken: bool = False
    votes: Votes = field(default_factory=Votes)
    spread: Spread = field(default_factory=Spread)

    def add(self, expected: Array, got: Array, class_axis: int | None = None, *, thorough: bool = False) -> None:
        a, b = expected.astype(np.float64), got.astype(np.float64)
        # Infinity is what masks are made of: it must stay where it is. NaN in the variant is broken, wherever float has none.
        if a.shape != b.shape or bool((~np.isfinite(b) & ~((a == b) | np.isnan(a))).any()):
            self.broken = True
            return
        finite = np.isfinite(a)
        if not finite.all():
            if bool((np.isinf(a) & (a != b)).any()):
                self.broken = True
                return
            a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        self.signal += float((a * a).sum())
        self.other += float((b * b).sum())
        self.dot += float((a * b).sum())
        self.error += float(((a - b) ** 2).sum())
        self.elements += a.size
        self.equal += int((a == b).sum())
        if class_axis is not None:
            self.votes.add(a, b, class_axis, thorough=thorough)
        if thorough:
            self.spread.add(a, b)

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
    """Also compare class vectors as probabilities and class by class, and look for branches and channels that do not follow their
    input, which takes longer than a small model. A guard always does; a search need not."""
    _sums: dict[tuple[str, str], _Sums] = field(default_factory=dict)

    def add(self, expected: Sequence[Array], got: Sequence[Array]) -> None:
        """One inference of the source and of the variant."""
        for spec, a, b in zip(self.outputs, expected, got, strict=True):
            for branch in branches_of(spec):
                sums = self._sums.setdefault((spec.name, branch.name), _Sums())
                if a.shape != b.shape:
                    sums.broken = True
                else:
                    sums.add(cut(a, branch), cut(b, branch), branch.class_axis, thorough=self.probabilities)

    def result(self) -> tuple[BranchFidelity, ...]:
        """One figure per branch, in the order of the outputs."""
        figures = []
        for spec, branch, sums in self._all():
            agreement, divergence = self._agreement(spec, sums), sums.votes.divergence
            figures.append(
                BranchFidelity(
                    output=spec.name,
                    branch=branch.name,
                    snr_db=round(sums.snr_db, 2),
                    cosine=round(sums.cosine, 6),
                    top1_agreement=None if agreement is None else round(agreement, 4),
                    kl_divergence=None if divergence is None else round(divergence, 6),
                    passed=not self._problems(spec, branch, sums),
                )
            )
        return tuple(figures)

    def missed(self) -> tuple[str, ...]:
        """Every limit that a branch misses, in words, in the order of the outputs."""
        return tuple(
            f"branch {branch.name!r}: {problem}"
            for spec, branch, sums in self._all()
            for problem in self._problems(spec, branch, sums)
        )

    def asleep(self) -> tuple[tuple[str, Branch], ...]:
        """Output and branch of what the source answers alike to every sample, two or more: nothing is proven of it."""
        return tuple((spec.name, branch) for spec, branch, sums in self._all() if sums.spread.asleep)

    def _all(self) -> list[tuple[OutputSpec, Branch, _Sums]]:
        return [
            (spec, branch, self._sums.get((spec.name, branch.name), _Sums(broken=True)))
            for spec in self.outputs
            for branch in branches_of(spec)
        ]

    def _agreement(self, spec: OutputSpec, sums: _Sums) -> float | None:
        if decides(spec):
            return sums.equal / sums.elements if sums.elements else None
        return sums.votes.agreement

    def _problems(self, spec: OutputSpec, branch: Branch, sums: _Sums) -> tuple[str, ...]:
        budget = self.budget
        if sums.broken:
            return ("NaN, infinity or another shape where float has none",)
        if decides(spec):
            if sums.elements - sums.equal <= budget.allowed_misses(sums.elements):
                return ()
            return (
                f"{sums.equal} of {sums.elements} values equal, expected at least {budget.min_agreement:g} of them",
            )
        if branch.class_axis is not None:
            own = sums.votes.problems(budget, sums.snr_db)
        else:
            close = sums.snr_db >= budget.min_snr_db
            own = (
                ()
                if close
                else (
                    f"SNR {short_of(sums.snr_db, budget.min_snr_db, 1)} dB, expected at least {budget.min_snr_db:g} dB",
                )
            )
        return own or (sums.spread.problems(branch) if self.probabilities else ())


def worst_margin(fidelity: Sequence[BranchFidelity], budget: Budget | None = None) -> float:
    """Distance to the limit of the worst branch, in dB (0.002 of agreement count as one); never below 0 for what passed, always for what did not."""
    budget = budget or Budget()
    return min(
        max(margin, 0.0) if figure.passed else min(margin, -_REFUSED_DB)
        for figure, margin in zip(fidelity, _margins(fidelity, budget), strict=True)
    )


def _margins(fidelity: Sequence[BranchFidelity], budget: Budget) -> list[float]:
    return [
        (f.top1_agreement - budget.min_agreement) / AGREEMENT_PER_DB
        if f.top1_agreement is not None
        else f.snr_db - budget.min_snr_db
        for f in fidelity
    ]
