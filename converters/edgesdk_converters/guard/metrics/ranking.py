"""Neighbours that embeddings rank alike: what a search by similarity would return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk_converters.guard.budget import Budget, short_of
from edgesdk_converters.guard.metrics.api import Shortfall

Array = NDArray[Any]

MIN_SAMPLES = 5
MIN_WIDTH = 16
"""A shorter vector is a handful of figures, no embedding."""
_UNIT = 1e-3
_TIE = 1e-6
"""Cosines closer than this are a tie in the float model, whose order means nothing."""


def ranking_agreement(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """Share of the comparisons "a is nearer to q than b" on which two sets of embeddings agree, over all q, a, b.

    Args:
        expected: (n, D) embeddings of n samples by the float model.
        got: (n, D') of the same samples by the variant.
    """
    theirs, mine = _cosines(expected), _cosines(got)
    agree = total = 0
    for query in range(len(theirs)):
        others = [index for index in range(len(theirs)) if index != query]
        a = theirs[query, others][:, None] - theirs[query, others][None, :]
        b = mine[query, others][:, None] - mine[query, others][None, :]
        told = np.triu(np.abs(a) > _TIE, 1)
        agree += int((np.sign(a) == np.sign(b))[told].sum())
        total += int(told.sum())
    return agree / total if total else 1.0


def _cosines(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return np.asarray(unit @ unit.T)


class RankingMetric:
    """Ranking agreement over all evaluation samples."""

    labelled: ClassVar[bool] = False

    def __init__(self, contract: Contract) -> None:
        self._index = embedding(contract) or 0
        self._theirs: list[NDArray[np.float64]] = []
        self._mine: list[NDArray[np.float64]] = []

    def add(self, expected: Sequence[Array], got: Sequence[Array], label: str | None = None) -> None:
        """One sample."""
        del label
        self._theirs.append(np.asarray(expected[self._index], np.float64).reshape(-1))
        self._mine.append(np.nan_to_num(np.asarray(got[self._index], np.float64).reshape(-1)))

    def result(self) -> dict[str, float]:
        """``ranking_agreement``, from five samples on."""
        if len(self._theirs) < MIN_SAMPLES:
            return {}
        return {"ranking_agreement": round(ranking_agreement(np.stack(self._theirs), np.stack(self._mine)), 4)}

    def missed(self, budget: Budget) -> tuple[Shortfall, ...]:
        """Less agreement than 1 minus ``max_drop``; without one, vectors of length 1 are asked for the least agreement."""
        if budget.max_drop is None and not self._unit_length():
            return ()
        reached = self.result().get("ranking_agreement")
        if reached is None:
            text = (
                f"{len(self._theirs)} held-out samples are too few to rank, expected at least {MIN_SAMPLES}: nothing says that neighbours stay "
                "neighbours. Give more with --evaluation"
            )
            return (Shortfall(text=text, margin=-1.0),)
        limit = budget.min_agreement if budget.max_drop is None else 1 - budget.max_drop
        if reached >= limit:
            return ()
        text = f"ranking agreement with the float model {short_of(reached, limit, 3)}, expected at least {limit:g}"
        return (Shortfall(text=text, margin=reached - limit),)

    def _unit_length(self) -> bool:
        """Made to be compared by cosine: any other vector may be landmarks or a spectrum."""
        lengths = np.linalg.norm(np.stack(self._theirs), axis=1) if self._theirs else np.zeros(1)
        return bool(np.all(np.abs(lengths - 1) < _UNIT))


def embedding(contract: Contract) -> int | None:
    """Index of the one output that is a single vector and no class vector; None where there is none."""
    if len(contract.outputs) != 1:
        return None
    output = contract.outputs[0]
    vector = len(output.shape) >= 1 and max(output.shape) == int(np.prod(output.shape)) >= MIN_WIDTH
    return 0 if vector and not output.branches and output.dtype.startswith("float") else None
