"""What a report says beyond the measurements: sensitivity, histograms, examples, the calibration set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import ConversionError
from edgesdk_converters.auto import sensitivity
from edgesdk_converters.calibration_report import examine
from edgesdk_converters.choosing import Choice
from edgesdk_converters.guard import ALLOWANCE
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.guard.judge import Optimize
from edgesdk_converters.progress import Progress
from edgesdk_converters.report import make_examples, pick_samples, record_of
from edgesdk_converters.report.record import CalibrationFindings, Example, NodeCost, Record, TensorHistogram
from edgesdk_converters.samples import Samples
from edgesdk_converters.variants import Attempt, Family, Runner

if TYPE_CHECKING:
    from edgesdk_converters.pipeline import Conversion


def check_report_path(path: Path) -> None:
    """What would make the report unwritable is said before the work.

    Raises:
        ConversionError: Another ending than .html or .json, or no such folder.
    """
    if path.suffix not in (".html", ".json"):
        raise ConversionError(f"{path}: a report is called NAME.html or NAME.json. Say --report {path.stem}.html")
    if not path.parent.is_dir():
        raise ConversionError(f"{path}: there is no folder {path.parent}. Create it: mkdir -p {path.parent}")


def calibration_findings(
    choice: Choice, samples: Samples, contract: Contract, source: Runner, progress: Progress
) -> CalibrationFindings | None:
    """What there is to say about the calibration samples; None where there are none."""
    if samples.calibration is None:
        return None
    quantizing = next((one for one in choice.attempts if one.plan is not None and one.quantizer is not None), None)
    observer = None
    if quantizing is not None and quantizing.plan is not None and quantizing.quantizer is not None:
        observer = quantizing.quantizer.observer(quantizing.plan)
    return examine(
        samples.calibration,
        evaluation=samples.evaluation,
        contract=contract,
        run=source.run,
        observer=observer,
        progress=progress,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What takes long to find out and goes into the report."""

    costs: tuple[NodeCost, ...] = ()
    histograms: tuple[TensorHistogram, ...] = ()
    examples: tuple[Example, ...] = ()


def examined(
    contract: Contract, choice: Choice, family: Family, samples: Samples, source: Runner, progress: Progress
) -> Examination:
    """What each node costs, what it sees, and what the models say of a few samples.

    Args:
        contract: As settled.
        choice: What was tried.
        family: The model.
        samples: What it was calibrated with and judged on.
        source: The source, loaded.
        progress: Where to say what is being done.
    """
    attempt = _planned(choice)
    costs: tuple[NodeCost, ...] = ()
    histograms: tuple[TensorHistogram, ...] = ()
    if attempt is not None and attempt.plan and attempt.quantizer and attempt.base and samples.calibration:
        feeds = samples.calibration.feeds
        progress.say("report: what each node costs")
        costs = attempt.costs or sensitivity(
            attempt.quantizer, attempt.base, contract.outputs, feeds, plan=attempt.plan, progress=progress
        )
        histograms = attempt.quantizer.histograms(attempt.plan)
    examples: tuple[Example, ...] = ()
    forms = [form for one in choice.attempts for form in one.forms]
    if forms and samples.evaluation is not None:
        progress.say("report: examples")
        picks = pick_samples(samples.evaluation, samples.folder, contract)
        form = next((form for form in choice.kept if form in forms), forms[0])
        shown = family.open(form)
        examples = make_examples(
            contract, picks, lambda feed: source.run(list(feed)), lambda feed: shown.run(list(feed)), variant=form.id
        )
    return Examination(costs=costs, histograms=histograms, examples=examples)


def recorded(
    conversion: Conversion, choice: Choice, examination: Examination, budget: Budget, *, optimize: Optimize
) -> Record:
    """The whole record of a conversion.

    Args:
        conversion: What was written; its bundle is read again.
        choice: What was tried.
        examination: What was found out for the report.
        budget: The guard's limits.
        optimize: Whether speed was a limit.
    """
    limits = budget.limits()
    if budget.min_speedup is None and optimize == "speed":
        limits["time_ratio"] = ALLOWANCE
    attempt = _planned(choice)
    return record_of(
        conversion,
        trials=choice.trials,
        limits=limits,
        sensitivity=examination.costs,
        histograms=examination.histograms,
        examples=examination.examples,
        calibration=conversion.findings,
        plan=attempt.plan if attempt is not None else None,
    )


def _planned(choice: Choice) -> Attempt | None:
    return next((one for one in choice.attempts if one.plan is not None), None)
