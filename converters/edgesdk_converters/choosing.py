"""Makes the forms of a model, has the guard judge them, and says which go into the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Format, Measurement, OutputSpec
from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.guard.fidelity import worst_margin
from edgesdk_converters.guard.judge import Judge, Optimize, too_slow
from edgesdk_converters.progress import Progress
from edgesdk_converters.report.record import Trial
from edgesdk_converters.variants import Attempt, Family, Form, Runner

Array = NDArray[Any]

FLOAT = frozenset({"fp32", "fp16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was tried and what is kept."""

    kept: tuple[Form, ...]
    """In the order of preference."""
    measured: tuple[Measurement, ...]
    """Of the float forms, and of the attempt that was taken or came closest."""
    trials: tuple[Trial, ...]
    """Everything that was made, in order."""
    failures: tuple[str, ...]
    """What could not be made at all, with the reason."""
    attempt: Attempt | None
    """The one that was taken or came closest."""


def choose(
    family: Family,
    feeds: Sequence[Sequence[Array]] | None,
    outputs: Sequence[OutputSpec],
    judge: Judge,
    *,
    optimize: Optimize,
    allow: str | None,
    progress: Progress,
) -> Choice:
    """Judge the float forms, then attempt after attempt until one is close enough in every format.

    Args:
        family: The model.
        feeds: Calibration inferences; None makes float forms only.
        outputs: With the branches.
        judge: Knows what the source answers.
        optimize: Under ``speed``, an attempt that is too slow in every format ends the search: more help keeps more nodes
            in float, which makes nothing faster.
        allow: A reason to keep what the guard refused.
        progress: Where to say what is being done.

    Raises:
        CalibrationError: The samples cannot be used.
    """
    chooser = _Chooser(family, judge, progress)
    chooser.floats()
    failures: list[str] = []
    if feeds and not family.quantized:
        try:
            chooser.quantized(feeds, outputs, optimize)
        except ConversionError as error:
            if isinstance(error, CalibrationError):
                raise
            failures.append(f"int8: {error}")
    return chooser.result(allow, failures)


class _Chooser:
    def __init__(self, family: Family, judge: Judge, progress: Progress) -> None:
        self._family, self._judge, self._progress = family, judge, progress
        self._references: dict[Format, Runner] = {}
        self._floats: list[tuple[Form, Measurement]] = []
        self._tried: list[tuple[Form, Measurement]] = []
        self._best: tuple[float, Attempt, list[tuple[Form, Measurement]]] | None = None

    def floats(self) -> None:
        """Judge the float forms; the first of each format is what the others are timed against."""
        for form in self._family.floats():
            runner = self._family.open(form)
            reference = self._references.get(form.format)
            if reference is None:
                self._references[form.format] = runner
                reference = self._family.source() if not self._floats else next(iter(self._references.values()))
            self._floats.append((form, self._judge.judge(form.id, form, runner, reference)))

    def quantized(self, feeds: Sequence[Sequence[Array]], outputs: Sequence[OutputSpec], optimize: Optimize) -> None:
        """Find the first attempt whose every form is close enough, else the closest."""
        for attempt in self._family.attempts(feeds, outputs, self._progress):
            judged = [(form, self._judged(form)) for form in attempt.forms]
            self._tried += judged
            reasons = [f"{one.variant}: {reason}" for _, one in judged for reason in one.reasons]
            self._progress.say(f"  {attempt.recipe}: {'; '.join(reasons) or 'passes'}")
            # What is close enough but slow stays slow with more help; the form of the other format may do.
            done = all(one.kept or (_close(one) and optimize == "speed" and too_slow(one)) for _, one in judged)
            margin = min(worst_margin(one.fidelity) for _, one in judged)
            if done or self._best is None or margin > self._best[0]:
                self._best = (margin, attempt, judged)
            if done or (optimize == "speed" and all(too_slow(one) for _, one in judged)):
                return

    def _judged(self, form: Form) -> Measurement:
        reference = self._references[form.format]
        return self._judge.judge(form.id, form, self._family.open(form), reference, always_time=self._best is None)

    def result(self, allow: str | None, failures: list[str]) -> Choice:
        """Decide, and order what is kept: the smallest first; what was refused and allowed all the same, last."""
        attempt, judged = (self._best[1], self._best[2]) if self._best is not None else (None, [])
        if attempt is not None:
            failures = [*failures, *attempt.failures]
        if allow:
            judged = [(form, msgspec.structs.replace(one, kept=True)) for form, one in judged]
        # The first float form is the source itself, simplified: it is the bundle's fallback whatever the clock says.
        kept = [pair for index, pair in enumerate(self._floats) if index == 0 or pair[1].kept]
        kept += [pair for pair in judged if pair[1].kept]
        # No measured time decides the order: the board times the variants itself, and two equal conversions must make
        # the same manifest.
        kept.sort(key=lambda pair: (pair[0].precision not in FLOAT and bool(pair[1].reasons), pair[1].size_bytes))
        chosen = {id(form) for form, _ in kept}
        return Choice(
            kept=tuple(form for form, _ in kept),
            measured=tuple(one for _, one in (*self._floats, *judged)),
            trials=tuple(
                Trial(
                    recipe=form.recipe,
                    format=form.format,
                    precision=form.precision,
                    measurement=one,
                    float_nodes=form.float_nodes,
                    chosen=id(form) in chosen,
                )
                for form, one in (*self._floats, *self._tried)
            ),
            failures=tuple(failures),
            attempt=attempt,
        )


def _close(measurement: Measurement) -> bool:
    return all(figure.passed for figure in measurement.fidelity)
