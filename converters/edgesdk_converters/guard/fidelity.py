"""How close a variant is to its source, branch by branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, BranchFidelity, OutputSpec

Array = NDArray[Any]

SNR_LIMIT_DB = 20.0
AGREEMENT_LIMIT = 0.98
AGREEMENT_PER_DB = 0.002
"""Makes the two limits comparable: what one dB was worth on PP-OCR's recognizer near its limit."""
_CAP_DB = 120.0


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
    broken: bool = False

    def add(self, expected: Array, got: Array, class_axis: int | None = None) -> None:
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
    _sums: dict[tuple[str, str], _Sums] = field(default_factory=dict)

    def add(self, expected: Sequence[Array], got: Sequence[Array]) -> None:
        """One inference of the source and of the variant."""
        for spec, a, b in zip(self.outputs, expected, got, strict=True):
            for branch in branches_of(spec):
                sums = self._sums.setdefault((spec.name, branch.name), _Sums())
                if a.shape != b.shape:
                    sums.broken = True
                else:
                    sums.add(cut(a, branch), cut(b, branch), branch.class_axis)

    def result(self) -> tuple[BranchFidelity, ...]:
        """One figure per branch, in the order of the outputs."""
        figures = []
        for spec in self.outputs:
            for branch in branches_of(spec):
                sums = self._sums.get((spec.name, branch.name), _Sums(broken=True))
                agreement = sums.agree / sums.votes if sums.votes else None
                by_class = branch.class_axis is not None
                passed = (agreement or 0.0) >= AGREEMENT_LIMIT if by_class else sums.snr_db >= SNR_LIMIT_DB
                figures.append(
                    BranchFidelity(
                        output=spec.name,
                        branch=branch.name,
                        snr_db=round(sums.snr_db, 2),
                        cosine=round(sums.cosine, 6),
                        top1_agreement=None if agreement is None else round(agreement, 4),
                        passed=passed and not sums.broken,
                    )
                )
        return tuple(figures)


def worst_margin(fidelity: Sequence[BranchFidelity]) -> float:
    """Distance to the limit of the worst branch, in dB (0.002 of agreement count as one)."""
    return min(
        (f.top1_agreement - AGREEMENT_LIMIT) / AGREEMENT_PER_DB
        if f.top1_agreement is not None
        else f.snr_db - SNR_LIMIT_DB
        for f in fidelity
    )


def in_words(figure: BranchFidelity) -> str:
    """What a refused branch reached and what it should have."""
    if figure.top1_agreement is not None:
        return f"branch {figure.branch!r}: top-1 agreement {figure.top1_agreement:.3f}, expected at least {AGREEMENT_LIMIT}"
    return f"branch {figure.branch!r}: SNR {figure.snr_db:.1f} dB, expected at least {SNR_LIMIT_DB:.0f} dB"
