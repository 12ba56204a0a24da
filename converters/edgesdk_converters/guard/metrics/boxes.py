"""Boxes that a variant finds again: F1 against the float model's, at IoU 0.5, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.tasks import Result
from edgesdk_converters.guard.budget import Budget, short_of
from edgesdk_converters.guard.metrics.api import Decoder, Shortfall

Array = NDArray[Any]

MIN_IOU = 0.5
MIN_MEAN_IOU = 0.9
"""Mean over the boxes found again: F1 at an IoU of 0.5 does not see that all boxes are a few pixels off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of one picture."""

    xyxy: NDArray[np.float64]
    """(n, 4) left, top, right, bottom; pixels."""
    scores: NDArray[np.float64]
    """(n,)"""
    class_ids: NDArray[np.int64]
    """(n,)"""

    def __len__(self) -> int:
        return len(self.scores)


def match(expected: Boxes, got: Boxes, *, min_iou: float = MIN_IOU) -> int:
    """How many boxes of ``got`` find a partner; see :func:`overlaps`."""
    return len(overlaps(expected, got, min_iou=min_iou))


def overlaps(expected: Boxes, got: Boxes, *, min_iou: float = MIN_IOU) -> list[float]:
    """IoU of every box of ``got`` that finds a partner: the best score first, each takes the free box of its class that it overlaps most."""
    if not len(expected) or not len(got):
        return []
    overlap = _iou(expected.xyxy, got.xyxy)
    overlap[expected.class_ids[:, None] != got.class_ids[None, :]] = -1.0
    matched = []
    for index in np.argsort(-got.scores, kind="stable"):
        best = int(overlap[:, index].argmax())
        if overlap[best, index] >= min_iou:
            matched.append(float(overlap[best, index]))
            overlap[best, :] = -1.0
    return matched


def f1(matched: int, expected: int, got: int) -> float:
    """``2 matched / (expected + got)``; 1 where both are none."""
    return 2 * matched / (expected + got) if expected + got else 1.0


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union; 0 for boxes without area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


class BoxesMetric:
    """F1 over all evaluation pictures together, and how well the boxes that were found again lie on the float model's."""

    labelled: ClassVar[bool] = False

    def __init__(self, contract: Contract) -> None:
        self._decode = Decoder(contract)
        self._expected = self._got = self._pictures = 0
        self._overlaps: list[float] = []

    def add(self, expected: Sequence[Array], got: Sequence[Array], label: str | None = None) -> None:
        """One picture."""
        del label
        theirs, mine = boxes_of(self._decode(expected)), boxes_of(self._decode(got))
        self._pictures += 1
        self._expected += len(theirs)
        self._got += len(mine)
        self._overlaps += overlaps(theirs, mine)

    def result(self) -> dict[str, float]:
        """``f1``, where either model found anything, and ``iou``, the mean over the boxes found again."""
        if not self._expected + self._got:
            return {}
        figures = {"f1": round(f1(len(self._overlaps), self._expected, self._got), 4)}
        if self._overlaps:
            figures["iou"] = round(self._iou, 4)
        return figures

    def missed(self, budget: Budget) -> tuple[Shortfall, ...]:
        """F1 below the agreement that is asked for, or below 1 minus the drop that is allowed; boxes that lie elsewhere."""
        matched, total = len(self._overlaps), self._expected + self._got
        if not self._expected:
            text = (
                f"the float model finds nothing in the {self._pictures} held-out pictures: no box says that this variant still does. "
                "Give --evaluation pictures with something to find"
            )
            return (Shortfall(text=text, margin=-1.0),)
        limit = budget.min_agreement if budget.max_drop is None else max(budget.min_agreement, 1 - budget.max_drop)
        reached = f1(matched, self._expected, self._got)
        allowed = budget.allowed_misses(total, things=self._expected)
        if budget.max_drop is not None:
            allowed = min(allowed, budget.allowed_drop(total))
        found = []
        if total - 2 * matched > allowed:
            text = (
                f"F1 {short_of(reached, limit, 3)} against the boxes of the float model, expected at least {limit:g} "
                f"({self._expected} boxes, {self._got} found, {matched} of them alike)"
            )
            found.append(Shortfall(text=text, margin=reached - limit))
        if matched and self._iou < MIN_MEAN_IOU:
            text = (
                f"the {matched} boxes found again overlap those of the float model by {short_of(self._iou, MIN_MEAN_IOU, 3)} on average (IoU), "
                f"expected at least {MIN_MEAN_IOU:g}"
            )
            found.append(Shortfall(text=text, margin=self._iou - MIN_MEAN_IOU))
        return tuple(found)

    @property
    def _iou(self) -> float:
        return sum(self._overlaps) / len(self._overlaps)


def boxes_of(result: Result | None) -> Boxes:
    """Boxes of a detector's result; text regions by the upright box around them."""
    if result is None:
        return Boxes(xyxy=np.zeros((0, 4)), scores=np.zeros(0), class_ids=np.zeros(0, np.int64))
    plain: Any = result
    scores = np.asarray(plain.scores, np.float64)
    if hasattr(plain, "quads"):
        quads = np.asarray(plain.quads, np.float64).reshape(-1, 4, 2)
        xyxy = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)
    else:
        xyxy = np.asarray(plain.xyxy, np.float64).reshape(-1, 4)
    class_ids = getattr(plain, "class_ids", None)
    if class_ids is None:
        class_ids = np.zeros(len(scores), np.int64)
    return Boxes(xyxy=xyxy, scores=scores, class_ids=np.asarray(class_ids, np.int64))
