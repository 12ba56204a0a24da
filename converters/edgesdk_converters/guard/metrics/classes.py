"""Accuracy where labels are given: the class that a model says against the truth."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract
from edgesdk.errors import CalibrationError
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.guard.fidelity import branches_of, cut
from edgesdk_converters.guard.metrics.api import Shortfall

Array = NDArray[Any]


class AccuracyMetric:
    """Top-1 accuracy of the float model and of the variant on the same labelled samples; without labels, how often they agree."""

    labelled: ClassVar[bool] = True

    def __init__(self, contract: Contract) -> None:
        self._labels = contract.labels
        vector = class_vector(contract)
        assert vector is not None, "metric_for chooses this metric only where there is a class vector"
        self._output, self._branch = vector
        self._classes = contract.outputs[self._output].shape[self._branch.class_axis or 0]
        self._samples = self._same = 0
        self._count = self._mine = self._theirs = 0

    def add(self, expected: Sequence[Array], got: Sequence[Array], label: str | None = None) -> None:
        """One sample; without a label it does not count for the accuracy.

        Raises:
            CalibrationError: The label is none of the model's, nor the number of a class.
        """
        theirs, mine = self._class(expected), self._class(got)
        self._samples += 1
        self._same += theirs == mine
        if label is None:
            return
        truth = self._truth(label)
        self._count += 1
        self._theirs += theirs == truth
        self._mine += mine == truth

    def result(self) -> dict[str, float]:
        """``accuracy`` and ``float_accuracy``."""
        if not self._count:
            return {}
        return {
            "accuracy": round(self._mine / self._count, 4),
            "float_accuracy": round(self._theirs / self._count, 4),
        }

    def missed(self, budget: Budget) -> tuple[Shortfall, ...]:
        """More lost than ``max_drop`` allows: of the accuracy where labels are given, else of the agreement with float."""
        if budget.max_drop is None or not self._samples:
            return ()
        count = self._count or self._samples
        lost = self._theirs - self._mine if self._count else self._samples - self._same
        if lost <= budget.allowed_drop(count):
            return ()
        if self._count:
            figures = f"accuracy {self._mine / count:.3f}, float {self._theirs / count:.3f}"
        else:
            figures = f"top-1 agreement {self._same / count:.3f}, no labels given"
        text = (
            f"{figures}: {100 * lost / count:.2f} percentage points lost, expected at most {100 * budget.max_drop:g} "
            f"({count} {'labelled ' if self._count else ''}samples, each is {100 / count:.2g})"
        )
        return (Shortfall(text=text, margin=budget.max_drop - lost / count),)

    def _truth(self, label: str) -> int:
        if label in self._labels:
            return self._labels.index(label)
        if label.isdecimal() and int(label) < self._classes:
            return int(label)
        if self._labels:
            close = difflib.get_close_matches(label, self._labels, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(self._labels[:12])}"
            raise CalibrationError(f"label {label!r} of the evaluation samples is none of the model's. {fix}")
        raise CalibrationError(
            f"label {label!r} of the evaluation samples is no class number 0 to {self._classes - 1}, and the model has no labels. "
            "Name them in the spec, in the order of the classes: labels: [...]"
        )

    def _class(self, outputs: Sequence[Array]) -> int:
        return int(cut(outputs[self._output], self._branch).reshape(-1).argmax())


def class_vector(contract: Contract) -> tuple[int, Branch] | None:
    """Index of the output and the branch that is one class vector per sample; None where there is none."""
    for index, output in enumerate(contract.outputs):
        for branch in branches_of(output):
            if branch.class_axis is None:
                continue
            shape = list(output.shape)
            if branch.axis is not None:
                stop = shape[branch.axis] if branch.stop is None else branch.stop
                shape[branch.axis] = stop - branch.start
            if all(size == 1 for axis, size in enumerate(shape) if axis != branch.class_axis):
                return index, branch
    return None
