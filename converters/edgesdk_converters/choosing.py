"""Makes the forms of a model, has the guard judge them, and says which go into the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, Format, Measurement
from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.guard.budget import AGREEMENT_PER_DB, Budget
from edgesdk_converters.guard.fidelity import worst_margin
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.progress import Progress
from edgesdk_converters.report.record import Trial
from edgesdk_converters.variants import Attempt, Family, Form, Runner, Wish

Array = NDArray[Any]
Judged = list[tuple[Form, Measurement]]

FLOAT = frozenset({"fp32", "fp16"})
UNLIKE = 2
"""Attempts close enough to float whose formats take different decisions, after which one format alone is kept."""
_FIGURES = ("f1", "character_agreement")
"""Of a task, with the limit of an agreement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was tried and what is kept."""

    kept: tuple[Form, ...]
    """In the order of preference."""
    measured: tuple[Measurement, ...]
    """Of the float forms, and of the attempts that were taken or came closest."""
    trials: tuple[Trial, ...]
    """Everything that was made, in order."""
    failures: tuple[str, ...]
    """What could not be made at all, with the reason."""
    attempts: tuple[Attempt, ...]
    """The one that was taken or came closest, of each recipe."""


def choose(
    family: Family,
    wishes: Sequence[Wish],
    contract: Contract,
    feeds: Sequence[Sequence[Array]],
    judge: Judge,
    *,
    allow: str | None,
    memory: bool = False,
    progress: Progress,
) -> Choice:
    """Judge the float forms; then, for each recipe, attempt after attempt until one is close enough in every format.

    Args:
        family: The model.
        wishes: The recipes.
        contract: As settled.
        feeds: Calibration inferences; empty where there are none.
        judge: Knows what the source answers.
        allow: A reason to keep what the guard refused.
        memory: Measure the peak memory of what is kept; each takes a process.
        progress: Where to say what is being done.

    Raises:
        CalibrationError: The samples cannot be used.
        ConversionError: Not even a float form computes what the source does.
    """
    chooser = _Chooser(family, judge, progress)
    chooser.floats()
    for wish in () if family.quantized else wishes:
        chooser.quantized(wish, contract, feeds)
    return chooser.result(allow, memory=memory)


class _Chooser:
    def __init__(self, family: Family, judge: Judge, progress: Progress) -> None:
        self._family, self._judge, self._progress = family, judge, progress
        self._references: dict[Format, Runner] = {}
        self._floats: Judged = []
        self._tried: Judged = []
        self._taken: list[tuple[Attempt, Judged]] = []
        self._failures: list[str] = []

    def floats(self) -> None:
        """Judge the float forms; the first of each format is what the others are timed against.

        It is timed against the first of all, not against the source, whose pre-processing outside the graph would count, too.
        """
        for form in self._family.floats():
            runner = self._family.open(form)
            first = next(iter(self._references.values()), runner)
            reference = self._references.setdefault(form.format, runner)
            against = first if reference is runner else reference
            self._floats.append((form, self._judge.judge(form.id, form, runner, against, given=True)))

    def quantized(self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]) -> None:
        """Find the first attempt whose every form is close enough, else the closest."""
        try:
            best = self._search(wish, contract, feeds)
        except ConversionError as error:
            if isinstance(error, CalibrationError) and len(feeds):
                raise
            self._failures.append(f"{wish.recipe.name}: {error}")
            return
        if best is None:
            return
        taken = {form.id: attempt.recipe for attempt, pairs in self._taken for form, _ in pairs}
        twin = next((form for form, _ in best[1] if form.id in taken), None)
        if twin is not None:
            self._failures.append(
                f"{wish.recipe.name}: makes {twin.id}, and so did {taken[twin.id]!r} before it. Give one of the recipes, or make two bundles."
            )
            return
        self._taken.append(best)
        self._failures += best[0].failures

    def _search(
        self, wish: Wish, contract: Contract, feeds: Sequence[Sequence[Array]]
    ) -> tuple[Attempt, Judged] | None:
        best: tuple[float, Attempt, Judged] | None = None
        unlike = 0
        for attempt in self._family.attempts(wish, contract, feeds):
            runners = [self._family.open(form) for form in attempt.forms]
            judged = [
                (form, self._judged(form, runner, always_time=best is None))
                for form, runner in zip(attempt.forms, runners, strict=True)
            ]
            alone, judged = judged, self._alike(judged, runners, feeds)
            unlike += alone != judged
            self._tried += judged
            reasons = [f"{one.variant}: {reason}" for _, one in judged for reason in one.reasons]
            self._progress.say(f"  {attempt.recipe}: {'; '.join(reasons) or 'passes'}")
            if not judged:
                self._failures += attempt.failures
                continue
            # What is close enough but slow stays slow with more help; the form of the other format may do.
            done = all(one.kept or self._judge.only_slow(one) for _, one in judged)
            margin = min(closeness(one, wish.budget) for _, one in judged)
            if done or best is None or margin > best[0]:
                best = (margin, attempt, judged)
            # What follows has more nodes in float, and those are why two formats differ.
            if done or unlike == UNLIKE or all(self._judge.hopeless(one) for _, one in judged):
                break
        return best[1:] if best is not None else None

    def _judged(self, form: Form, runner: Runner, *, always_time: bool) -> Measurement:
        return self._judge.judge(form.id, form, runner, self._references[form.format], always_time=always_time)

    def _alike(self, judged: Judged, runners: Sequence[Runner], feeds: Sequence[Sequence[Array]]) -> Judged:
        """The same, without the further formats that take other decisions than the first: one conversion makes one model."""
        if not judged or any(not (one.kept or self._judge.only_slow(one)) for _, one in judged):
            return judged
        found = judged[:1]
        for (form, one), runner in zip(judged[1:], runners[1:], strict=True):
            reason = self._judge.unlike(runners[0], runner, feeds)
            more = {"kept": False, "reasons": (*one.reasons, reason)} if reason else {}
            found.append((form, msgspec.structs.replace(one, **more)))
        return found

    def result(self, allow: str | None, *, memory: bool) -> Choice:
        """Decide, and order what is kept: the smallest first; what was refused and allowed all the same, last."""
        judged = [pair for _, pairs in self._taken for pair in pairs]
        if allow:
            judged = [(form, msgspec.structs.replace(one, kept=True)) for form, one in judged]
        kept = [pair for pair in self._floats if pair[1].kept]
        if not kept:
            reasons = "".join(f"\n  {one.variant}: {reason}" for _, one in self._floats for reason in one.reasons)
            raise ConversionError(
                f"not even a float form computes what the source does:{reasons}\nThat is a fault of edgesdk, or of samples on which the "
                "source itself gives NaN; please report it with the model."
            )
        kept += [pair for pair in judged if pair[1].kept]
        # No measured time decides the order: the board times the variants itself, and two equal conversions must make
        # the same manifest.
        kept.sort(key=lambda pair: (pair[0].precision not in FLOAT and bool(pair[1].reasons), pair[1].size_bytes))
        peaks = {id(form): self._judge.memory(form) if memory else None for form, _ in kept}

        def weighed(form: Form, one: Measurement) -> Measurement:
            return msgspec.structs.replace(one, peak_memory_bytes=peaks.get(id(form)))

        return Choice(
            kept=tuple(form for form, _ in kept),
            measured=tuple(weighed(*pair) for pair in (*self._floats, *judged)),
            trials=tuple(
                Trial(
                    recipe=form.recipe,
                    format=form.format,
                    precision=form.precision,
                    measurement=weighed(form, one),
                    float_nodes=form.float_nodes,
                    chosen=id(form) in peaks,
                )
                for form, one in (*self._floats, *self._tried)
            ),
            failures=tuple(self._failures),
            attempts=tuple(attempt for attempt, _ in self._taken),
        )


def closeness(measurement: Measurement, budget: Budget) -> float:
    """Distance in dB to the limit of what is worst about a variant: a branch, or the figure of its task.

    Of two that are refused the closer one is shown, and whoever allows it gets it: boxes that are no longer found count as much as values.
    """
    margins = [worst_margin(measurement.fidelity, budget)]
    margins += [
        (measurement.metrics[name] - budget.min_agreement) / AGREEMENT_PER_DB
        for name in _FIGURES
        if name in measurement.metrics and not measurement.kept
    ]
    return min(margins)
