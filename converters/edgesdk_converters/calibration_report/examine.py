"""The whole examination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, OutputSpec
from edgesdk_converters.calibration import CalibrationSet, Feed
from edgesdk_converters.calibration_report.amount import FEWEST, LIMIT, Amount, amount, independent
from edgesdk_converters.calibration_report.copies import duplicates, leakage
from edgesdk_converters.calibration_report.coverage import coverage, excitation, labels
from edgesdk_converters.calibration_report.quality import LISTED, quality
from edgesdk_converters.calibration_report.survey import MOST, survey
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize.nan import float_tensors
from edgesdk_converters.quantize.ranges import Observer
from edgesdk_converters.report.record import CalibrationFindings, Finding

Array = NDArray[Any]
_ORDER = {"warning": 0, "hint": 1, "ok": 2}


def examine(
    calibration: CalibrationSet,
    *,
    evaluation: CalibrationSet | None = None,
    contract: Contract,
    run: Callable[[Feed], Sequence[Array]],
    outputs: Sequence[OutputSpec] | None = None,
    observer: Observer | None = None,
    model: onnx.ModelProto | None = None,
    progress: Progress | None = None,
) -> CalibrationFindings:
    """Look for what makes a calibration set worse than it could be.

    Args:
        calibration: The samples that ranges come from.
        evaluation: Those that judge; None, or the calibration samples themselves, where there are no others.
        contract: Of the model.
        run: One inference of the float model.
        outputs: Its outputs with their branches, in the order of ``run``; None are those of the contract.
        observer: Of the same samples: its ranges answer whether the samples are enough.
        model: The same float model as ONNX, to observe all activations where there is no observer. Without either, the ranges
            of inputs and outputs have to do.
        progress: Where to say what is being done.

    Returns:
        Warnings first.
    """
    found = survey(calibration, run, contract.outputs if outputs is None else outputs, progress or Quiet())
    groups, findings = coverage(calibration, found, contract)
    findings += excitation(found, contract)
    findings += labels(
        [calibration] if evaluation is None or evaluation.shared else [calibration, evaluation], contract
    )
    findings += duplicates(calibration)
    if evaluation is not None and not evaluation.shared:
        findings += leakage(calibration, evaluation)
    findings += quality(calibration, contract)
    observed = calibration
    if observer is None and model is not None:
        observed = calibration.thinned(MOST)
        observer = Observer(model, observed.feeds, float_tensors(model), histograms=False, progress=progress)
    samples = independent(observed)
    if observer is None:
        answer = amount(found.lows, found.highs, samples[:: found.step])
    else:
        answer = amount(*observer.trace, samples)
    missing = [one for one in findings if one.severity == "warning" and one.subject in {"coverage", "excitation"}]
    count = _Count(len(calibration.units), len(calibration.feeds), answer)
    findings.append(_about_amount(answer, count))
    findings += _about_odd(answer, observed, samples)
    return CalibrationFindings(
        samples=count.samples,
        enough=answer.enough and not missing,
        verdict=_verdict(answer, missing, count),
        findings=tuple(sorted(findings, key=lambda one: _ORDER[one.severity])),
        groups=groups,
        stability=answer.curve,
        forecast=(answer.different, round(answer.change, 5)) if len(answer.curve) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class _Count:
    """How many there are, in words."""

    samples: int
    inferences: int
    answer: Amount

    @property
    def there(self) -> str:
        """``60 samples``, ``60 samples (8 different ones)``, ``3 samples (96 inferences)``."""
        word = "1 sample" if self.samples == 1 else f"{self.samples} samples"
        if self.inferences > self.samples:
            return f"{word} ({self.inferences} inferences)"
        if self.answer.different < self.samples:
            return f"{word} ({self.answer.different} different ones)"
        return word

    @property
    def are(self) -> str:
        """``is`` of one."""
        return "is" if self.samples == 1 else "are"

    @property
    def es(self) -> str:
        """Ending of a verb: of one only."""
        return "es" if self.samples == 1 else ""

    @property
    def needed(self) -> str:
        """``128``, ``128 different ones``, ``200 inferences``."""
        if self.inferences > self.samples:
            return f"{round(self.answer.needed * self.inferences / max(1, self.answer.different))} inferences"
        return f"{self.answer.needed}" + (" different ones" if self.answer.different < self.samples else "")


def _about_amount(answer: Amount, count: _Count) -> Finding:
    text = (
        f"with as many samples again, the ranges would move by {answer.change:.1%} on average."
        if len(answer.curve) > 1
        else f"{count.there} {count.are} too few to tell how far the ranges would move."
    )
    if answer.enough:
        return Finding(severity="ok", subject="amount", text=text)
    more = f" There {count.are} {count.there}, about {count.needed} are needed. Add typical inputs."
    return Finding(severity="warning", subject="amount", text=text + more)


def _about_odd(answer: Amount, observed: CalibrationSet, samples: NDArray[np.intp]) -> list[Finding]:
    """Names the samples that the ranges hang on."""
    # In a recording there is always a loudest moment.
    if not answer.odd or any(len(unit) > 1 for unit in observed.units):
        return []
    names = []
    for number, _ in answer.odd:
        unit = int(np.flatnonzero(samples == number)[0])
        names.append(observed.names[unit] if observed.names else f"sample {unit}")
    who = ", ".join(f"{name} by {share:.1%}" for name, (_, share) in zip(names[:3], answer.odd, strict=False))
    text = (
        f"the ranges hang on single samples, which widen them on average: {who}. Look at them: a mistake among them makes the steps of "
        "all others coarser; of what is typical, add more."
    )
    return [Finding(severity="hint", subject="odd samples", text=text, files=tuple(dict.fromkeys(names))[:LISTED])]


def _verdict(answer: Amount, missing: Sequence[Finding], count: _Count) -> str:
    if not answer.enough:
        if answer.different < FEWEST and answer.change <= LIMIT:
            return f"no: {count.there} {count.are} too few to tell, give {count.needed} or more."
        why = (
            f"the ranges would still move by {answer.change:.1%} with as many again"
            if len(answer.curve) > 1
            else "nothing can be said of so few"
        )
        return f"no: {count.there} {count.are} too few, {why}; give about {count.needed}."
    if missing:
        return f"no: there are enough samples, but of the wrong kind: {missing[0].text}"
    return f"yes: {count.there} fix{count.es} the ranges to within {answer.change:.1%}."
