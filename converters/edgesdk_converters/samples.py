"""Which samples calibrate and which judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.guard.metrics import metric_for
from edgesdk_converters.progress import Progress

Array = NDArray[Any]
FEW = 5
"""Held-out samples below which that is worth a word."""
Run = Callable[[list[Array]], Sequence[Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What goes into a conversion."""

    calibration: CalibrationSet | None
    """None makes float variants only."""
    held_out: Sequence[Sequence[list[Array]]]
    """Independent samples to judge on, each as its inferences in order."""
    evaluation: CalibrationSet | None = None
    """The same with files and labels; None where noise has to do."""
    folder: Path | None = None
    """That the names in ``evaluation`` are relative to."""
    count: int | None = None
    """Independent calibration samples."""
    sha256: str | None = None
    notes: tuple[str, ...] = ()


def gather(
    contract: Contract, run: Run, calibration: Path | None, evaluation: Path | None, progress: Progress
) -> Samples:
    """Read the folders.

    Args:
        contract: Says how a file becomes the model's inputs.
        run: One inference of the float source; makes the states of recurrent models.
        calibration: Folder of typical inputs.
        evaluation: Folder to judge on; otherwise a fifth of the calibration samples is held out.
        progress: Where to say what is being done.

    Raises:
        CalibrationError: A folder holds nothing usable, or files that do not fit.
    """
    judged = _read(Path(evaluation), contract, run, progress) if evaluation is not None else None
    if calibration is None:
        if judged is not None:
            return Samples(calibration=None, held_out=judged.units, evaluation=judged, folder=evaluation)
        note = "no calibration samples: no int8; the float variants were compared on noise"
        noise = random_feed([(spec.shape, spec.dtype, spec.source) for spec in contract.inputs])
        return Samples(calibration=None, held_out=[[noise]], notes=(note,))
    whole = _read(Path(calibration), contract, run, progress)
    notes = [
        f"{name} folder: {problem}"
        for name, data in (("calibration", whole), ("evaluation", judged))
        for problem in (data.problems[:20] if data is not None else ())
    ]
    used = whole
    if judged is None:
        used, judged = whole.split()
        if judged.shared:
            notes.append(
                f"judged on the calibration samples themselves: {len(whole.units)} are too few to hold any out "
                "(give 20 or more)"
            )
        elif len(judged.units) < FEW:
            notes.append(f"judged on {_count(judged)} only: give 50 calibration samples or more, or --evaluation")
    notes += unused_labels(judged, contract)
    return Samples(
        calibration=used.thinned(),
        held_out=judged.units,
        evaluation=judged,
        folder=Path(calibration) if evaluation is None else Path(evaluation),
        count=len(used.units),
        sha256=whole.sha256,
        notes=tuple(notes),
    )


def _read(folder: Path, contract: Contract, run: Run, progress: Progress) -> CalibrationSet:
    data = CalibrationSet.from_folder(folder, contract, progress=progress).rolled(contract, run)
    if not data.feeds:
        raise CalibrationError(f"{folder}: its files hold no samples. Put 20 or more typical inputs there.")
    return data


def _count(data: CalibrationSet) -> str:
    samples, inferences = len(data.units), len(data.feeds)
    return f"{samples} held-out sample{'s' if samples > 1 else ''}" + (
        f" ({inferences} inferences)" if inferences > samples else ""
    )


def unused_labels(data: CalibrationSet, contract: Contract) -> list[str]:
    """A word about labels that nothing is compared with."""
    given = [len(unit) for unit, label in zip(data.units, data.labels, strict=True) if label is not None]
    if not given:
        return []
    metric = metric_for(contract)
    if metric is None or not metric.labelled:
        return [
            f"the labels of the samples are not used: task {contract.task!r} has no class vector or text to compare them with"
        ]
    long = sum(length > 1 for length in given)
    if not long:
        return []
    text = (
        f"the labels of {long} of {len(given)} samples are not used: they take several inferences each, and a label is the truth about one. "
        "Cut them to the length of one inference"
    )
    return [text]
