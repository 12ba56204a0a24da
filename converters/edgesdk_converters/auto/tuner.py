"""Compares quantized models with the float model on calibration samples. Held-out samples never come here."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import BranchFidelity, Contract, OutputSpec
from edgesdk.errors import CalibrationError, ModelFormatError
from edgesdk_converters.auto.expected import ExpectedAgreement
from edgesdk_converters.guard.budget import AGREEMENT_PER_DB, Budget
from edgesdk_converters.guard.fidelity import FidelityMeter, branches_of, cut, sure
from edgesdk_converters.guard.metrics import metric_for
from edgesdk_converters.quantize.nan import explain, nan_weight
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]
Feeds = Sequence[Sequence[Array]]
Run = Callable[[Sequence[Array]], Sequence[Array]]

MIN_FEEDS, MAX_FEEDS = 24, 96
"""Calibration inferences that a model is checked on; more for class vectors, each of which is one vote only."""
_FEWEST = 12
VOTES = 960
"""Class decisions that make an agreement near 0.98 mean something: one is 0.001."""
KEPT_BYTES = 160 << 20
"""Feeds and outputs that are held in memory; fewer samples where they are large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """How close a model comes on the calibration samples."""

    margin: float
    """Distance to the limit of the worst branch or task figure, in dB; negative is below."""
    errors: dict[str, float]
    """Branch -> error power over signal power; 0 is perfect."""


class Tuner:
    """Knows the float model's answers on some calibration samples, spread evenly over the set."""

    def __init__(
        self,
        model: onnx.ModelProto,
        outputs: Sequence[OutputSpec],
        feeds: Feeds,
        *,
        budget: Budget,
        contract: Contract | None = None,
    ) -> None:
        """Run the float model.

        Args:
            model: Float, prepared.
            outputs: Its branches.
            feeds: Calibration inferences, possibly read from files as they are asked for.
            budget: Limits.
            contract: With it the task's own figure counts as well (F1 of boxes, edit distance).

        Raises:
            CalibrationError: There are no samples, or the float model makes NaN of one; the text names the node where it begins.
            ModelFormatError: A weight is NaN; the text names it and its node.
        """
        bad = nan_weight(model)
        if bad is not None:
            raise ModelFormatError(
                f"weight {bad[1]!r} of node {bad[0]!r} holds NaN. "
                "Export the model again from a checkpoint whose training did not diverge."
            )
        if not len(feeds):
            raise CalibrationError("no calibration samples: the search needs some. Give a folder with --calibration.")
        self.outputs, self.budget = outputs, budget
        self._contract = contract
        self._runner = OnnxRunner(model, threads=WORKERS)
        step = max(1, -(-len(feeds) // enough(outputs)))
        chosen: list[list[Array]] = []
        expected: list[list[Array]] = []
        held = 0
        for feed in feeds[::step]:
            answer = self._runner.run(feed)
            if any(value.dtype.kind == "f" and np.isnan(value).any() for value in answer):
                raise CalibrationError(
                    f"calibration inference {len(chosen) * step}: the float model's output holds NaN: {explain(model, feed)}"
                )
            chosen.append([np.array(array) for array in feed])
            expected.append(answer)
            held += sum(array.nbytes for array in (*feed, *answer))
            if held > KEPT_BYTES and len(chosen) >= _FEWEST:
                break
        self._feeds, self.expected = chosen, expected
        self._sure = {
            (index, branch.name): [
                sure(cut(answer[index], branch).astype(np.float64), branch.class_axis) for answer in expected
            ]
            for index, spec in enumerate(outputs)
            for branch in spec.branches
            if branch.class_axis is not None
        }

    def __len__(self) -> int:
        return len(self._feeds)

    def check(self, model: onnx.ModelProto) -> Closeness:
        """Compare a quantized model."""
        return self.compare(OnnxRunner(model, threads=WORKERS).run)

    def compare(self, run: Run, *, most: int | None = None) -> Closeness:
        """Compare whatever answers like the model; on ``most`` samples, spread evenly, where that is enough."""
        meter = FidelityMeter(self.outputs, self.budget, probabilities=False)
        metric = metric_for(self._contract) if self._contract is not None and most is None else None
        votes = {
            (index, branch.name): (branch, ExpectedAgreement(), ExpectedAgreement())
            for index, spec in enumerate(self.outputs)
            for branch in spec.branches
            if branch.class_axis is not None
        }
        step = 1 if most is None else max(1, -(-len(self._feeds) // most))
        for number in range(0, len(self._feeds), step):
            expected = self.expected[number]
            got = run(self._feeds[number])
            meter.add(expected, got)
            if metric is not None:
                metric.add(expected, got)
            for key, (branch, every, decided) in votes.items():
                index = key[0]
                a, b, axis = cut(expected[index], branch), cut(got[index], branch), branch.class_axis
                assert axis is not None
                every.add(a, b, axis)
                decided.add(a, b, axis, where=self._sure[key][number])
        figures = meter.result()
        margins = []
        for figure, key in zip(figures, self._keys(), strict=True):
            margin = figure.snr_db - self.budget.min_snr_db
            if key in votes:
                # As the guard has it: all votes, or close values and the votes that the float model is sure of.
                _, every, decided = votes[key]
                margin = max(self._votes(every), min(margin, self._votes(decided)))
            margins.append(margin)
        if metric is not None:
            margins += [short.margin / AGREEMENT_PER_DB for short in metric.missed(self.budget)]
        return Closeness(margin=min(margins, default=math.inf), errors=errors_of(figures))

    def _keys(self) -> list[tuple[int, str]]:
        return [(index, branch.name) for index, spec in enumerate(self.outputs) for branch in branches_of(spec)]

    def _votes(self, agreement: ExpectedAgreement) -> float:
        reached = agreement.result()
        return math.inf if reached is None else (round(reached, 5) - self.budget.min_agreement) / AGREEMENT_PER_DB


def errors_of(figures: Sequence[BranchFidelity]) -> dict[str, float]:
    """Error power over signal power by branch; a name that two outputs share is told apart by the output."""
    names = [figure.branch for figure in figures]
    return {
        figure.branch if names.count(figure.branch) == 1 else f"{figure.output}/{figure.branch}": float(
            f"{10 ** (-figure.snr_db / 10):.4g}"
        )
        for figure in figures
    }


def enough(outputs: Sequence[OutputSpec]) -> int:
    """Inferences to check on: as many as give every class vector enough votes."""
    needed = MIN_FEEDS
    for output in outputs:
        for branch in output.branches:
            if branch.class_axis is not None:
                votes = math.prod(output.shape) // output.shape[branch.class_axis]
                needed = max(needed, -(-VOTES // max(votes, 1)))
    return min(needed, MAX_FEEDS)
