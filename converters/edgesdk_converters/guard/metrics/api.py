"""The seam between the guard and what a task cares about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError
from edgesdk.samples import Picture
from edgesdk.tasks import Result, make_task
from edgesdk_converters.guard.budget import Budget

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A limit that was missed."""

    text: str
    """What was reached and what was expected."""
    margin: float
    """Negative; how far below the limit, as a share."""


class Metric(Protocol):
    """Collects pairs of outputs, the float model's and a variant's, one inference at a time."""

    labelled: ClassVar[bool]
    """Whether labels say anything to it; more samples are looked at then."""

    def add(self, expected: Sequence[Array], got: Sequence[Array], label: str | None = None) -> None:
        """One inference of both, in the contract's order of outputs; the truth, where it is given."""

    def result(self) -> dict[str, float]:
        """Figures by name, 0..1, larger is better; empty where the samples say nothing."""

    def missed(self, budget: Budget) -> tuple[Shortfall, ...]:
        """Limits that the figures do not keep."""


class Decoder:
    """Turns outputs into the task's typed result, without the sample that they were made from.

    The task is given a blank picture of exactly the model's input size, and a run that answers with the outputs: coordinates
    come out in pixels of the model's input, for arrays from a file just as for pictures.
    """

    def __init__(self, contract: Contract) -> None:
        self._task = make_task(contract)
        preprocess: Any = vars(self._task)["preprocess"]  # every picture task has one
        width, height = preprocess.size_wh
        colour = preprocess.image.colour
        shape = (height, width) if colour == "GREY" else (height, width, 3)
        self._blank = Picture(pixels=np.zeros(shape, np.uint8), colour=colour)

    def __call__(self, outputs: Sequence[Array]) -> Result | None:
        """The result, or None where the outputs are broken (NaN, other shapes)."""
        self._task.reset()
        try:
            result: Result = self._task(lambda _: outputs, self._blank)
        except TaskError:
            return None
        return result
