"""The whole examination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, OutputSpec
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet, Feed
from edgesdk_converters.calibration_report.amount import FEWEST, Amount, amount
from edgesdk_converters.calibration_report.copies import duplicates, leakage
from edgesdk_converters.calibration_report.coverage import coverage, excitation
from edgesdk_converters.calibration_report.quality import quality
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
    findings += duplicates(calibration)
    if evaluation is not None and not evaluation.shared:
        findings += leakage(calibration, evaluation)
    findings += quality(calibration, contract)
    if observer is None and model is not None:
        observer = Observer(
            model, calibration.thinned(MOST).feeds, float_tensors(model), histograms=False, progress=progress
        )
    answer = amount(*((found.lows, found.highs) if observer is None else observer.trace))
    missing = [one for one in findings if one.severity == "warning" and one.subject in {"coverage", "excitation"}]
    count = len(calibration.units)
    findings.append(_about_amount(answer, len(calibration.feeds), count))
    return CalibrationFindings(
        samples=count,
        enough=answer.enough and not missing,
        verdict=_verdict(answer, missing, count),
        findings=tuple(sorted(findings, key=lambda one: _ORDER[one.severity])),
        groups=groups,
        stability=answer.curve,
    )


def require_excited(found: CalibrationFindings) -> None:
    """Refuse samples that leave a branch of the model asleep: its range would be a guess.

    Raises:
        CalibrationError: Names every such branch and what to do.
    """
    asleep = [one.text for one in found.findings if one.subject == "excitation" and one.severity == "warning"]
    if asleep:
        raise CalibrationError("the calibration samples do not excite all of the model:\n  " + "\n  ".join(asleep))


def _about_amount(answer: Amount, inferences: int, samples: int) -> Finding:
    text = (
        f"with as many samples again, the ranges would move by {answer.change:.1%} on average."
        if answer.curve
        else f"{samples} samples are too few to tell how far the ranges would move."
    )
    if answer.enough:
        return Finding(severity="ok", subject="amount", text=text)
    more = f" About {answer.needed} inferences are needed, there are {inferences}. Add typical inputs."
    return Finding(severity="warning", subject="amount", text=text + more)


def _verdict(answer: Amount, missing: Sequence[Finding], count: int) -> str:
    if not answer.enough:
        if count < FEWEST and answer.change < 1:
            return f"no: {count} samples are too few, give {FEWEST} or more, better {answer.needed}."
        why = (
            f"the ranges would still move by {answer.change:.1%} with as many again"
            if answer.curve
            else "nothing can be said of so few"
        )
        return f"no: {count} samples are too few, {why}; give about {answer.needed}."
    if missing:
        return f"no: there are enough samples, but of the wrong kind: {missing[0].text}"
    return f"yes: {count} samples fix the ranges to within {answer.change:.1%}."
