"""Finds the quickest variant of a bundle on this board: tried, timed in turns, and remembered."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgesdk import registry
from edgesdk.backends.api import Session, SessionOptions
from edgesdk.backends.select import Choice, Selection, get_backend
from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import Measurement, Variant
from edgesdk.errors import (
    BackendError,
    BackendFallbackWarning,
    BundleError,
    EdgeSdkWarning,
    NoBackendError,
    PluginError,
    PromiseWarning,
)
from edgesdk.model.trial import Times, contract_problems, time_in_turns, trial_inputs
from edgesdk.model.winners import Winner, recall, remember, winner_file

LOG = logging.getLogger(__name__)

MARGIN = 0.95
"""A later candidate must need less than this share of the time: noise decides nothing."""

NOTICEABLE_MS = 0.02
"""No variant broke a promise by less: that is one context switch, and nobody waits for it."""

FLOAT = frozenset({"fp32", "fp16"})

ON_PURPOSE = 1.05
"""A variant that the conversion measured slower than this, over its source, was kept for its size or by --allow: the guard
lets nothing slower pass for speed."""

Options = Callable[[Choice], SessionOptions]
"""Session options of a choice, given the size of its model file in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A choice with its session, warmed up."""

    choice: Choice
    session: Session
    notices: tuple[EdgeSdkWarning, ...] = ()
    """What the caller must be warned of."""


@dataclass(slots=True, kw_only=True)
class Chooser:
    """Opens the choice of one bundle that runs quickest here.

    Attributes:
        bundle: Open.
        selection: Its candidates, in the profile's and the manifest's order.
        options: Makes session options.
        accelerated: Names of backends that the profile lists for an accelerator: that one of them is not there is told.
        memory_bytes: The board's memory, where it is known; two models of more than a quarter of it together are not timed.
    """

    bundle: Bundle
    selection: Selection
    options: Options
    memory_bytes: int | None
    accelerated: frozenset[str]
    _reasons: list[str] = field(default_factory=list)
    _promise: str = ""
    _complete: bool = True
    """All candidates were timed, so the winner is worth remembering."""

    def choose(self) -> Running:
        """The winner: from the cache, or by timing.

        Raises:
            NoBackendError: No candidate could be opened; with the reason of each.
            BundleError: A model file is damaged or unsafe.
        """
        self._reasons = [reason for reason in self.selection.rejected if self._matters(reason)]
        choices = self.selection.choices
        if len(choices) == 1:
            return self._finish(self._try_open(choices[0]))
        file = self._file()
        known = recall(file)
        if known is not None and 0 <= known.choice < len(choices):
            running = self._try_open(choices[known.choice])
            if running is not None:
                self._promise = known.promise
                return self._finish(running)
        winner = self._finish(self._contest())
        if self._complete:
            chosen, at = winner.choice, next(at for at, one in enumerate(choices) if one is winner.choice)
            facts = {"variant": chosen.variant.id, "backend": chosen.backend.name, "promise": self._promise}
            remember(file, Winner(choice=at, **facts))
        return winner

    def _matters(self, reason: str) -> bool:
        """Whether a rejected candidate is news, and no format that this bundle never had."""
        name = reason.partition(":")[0]
        if " on " in name:  # a variant that the profile or another target rules out
            return False
        if name not in registry.plugins(registry.BACKENDS):
            # A CPU runtime that nobody has installed is an option; an accelerator that idles is a downgrade.
            return name in self.accelerated
        try:
            formats = get_backend(name).formats
        except PluginError:
            return True
        return any(variant.format in formats for variant in self.bundle.manifest.variants)

    def _file(self) -> Path:
        facts = [
            [
                choice.variant.id,
                choice.backend.name,
                choice.backend.availability().runtime,
                repr(self.options(choice)),
            ]
            for choice in self.selection.choices
        ]
        return winner_file(self.bundle.identity, facts)

    def _contest(self) -> Running | None:
        """The best of all, two open at a time."""
        best: Running | None = None
        for choice in self.selection.choices:
            if best is not None and not self._worth_timing(best.choice.variant, choice.variant):
                self._complete = False
                continue
            challenger = self._try_open(choice)
            if best is None or challenger is None:
                best = best or challenger
                continue
            times = time_in_turns(best.session, challenger.session, self.bundle.manifest.contract)
            self._judge(best.choice.variant, challenger.choice.variant, times)
            if times.ratio < MARGIN:
                best, challenger = challenger, best
            challenger.session.close()
        return best

    def _try_open(self, choice: Choice) -> Running | None:
        """Open, compare with the manifest, and run once, so that the first real sample is not the slow one."""
        where = f"{choice.variant.id} on {choice.backend.name}"
        contract = self.bundle.manifest.contract
        model = self.bundle.model_file(choice.variant)
        try:
            session = choice.backend.open(model, self.options(choice))
        except BackendError as error:
            self._reasons.append(f"{where}: {error}")
            return None
        try:
            problems = contract_problems(session, contract)
            if not problems:
                session.run(trial_inputs(contract))
                return Running(choice=choice, session=session)
            self._reasons.append(f"{where}: {' '.join(problems)} Convert the model again.")
        except BackendError as error:
            self._reasons.append(f"{where}: {error}")
        session.close()
        return None

    def _worth_timing(self, best: Variant, other: Variant) -> bool:
        sizes = [self.bundle.manifest.files[variant.file].size_bytes for variant in (best, other)]
        if self.memory_bytes and sum(sizes) * 4 > self.memory_bytes:
            LOG.info("%s: %s is not timed, both are much for this board", self.bundle.path, other.id)
            return False
        # Under --optimize size a variant may be slower on purpose: then its place in the manifest decides.
        ratio = self._measured_ratio(best)
        return best.id == other.id or ratio is None or ratio <= ON_PURPOSE

    def _measured_ratio(self, variant: Variant) -> float | None:
        """Time over the source model's time, as the conversion measured it."""
        item = self._measurement(variant)
        return item.latency.ratio if item is not None and item.latency is not None else None

    def _measurement(self, variant: Variant) -> Measurement | None:
        try:
            measured = self.bundle.measurements
        except BundleError as error:
            LOG.warning("%s", error)
            return None
        for item in measured.variants if measured is not None else ():
            if item.variant == variant.id:
                return item
        return None

    def _overruled(self, variant: Variant) -> str:
        """What to tell of a variant that the guard refused and --allow kept."""
        allowed = self.bundle.manifest.allowed
        if allowed is None or variant.precision == "fp32":
            return ""
        item = self._measurement(variant)
        if item is not None and not item.reasons:
            return ""
        reasons = "; ".join(item.reasons) if item is not None else "its measurements are not in the bundle"
        others = [f"load(..., variant={one.id!r})" for one in self.bundle.manifest.variants if one.precision == "fp32"]
        return (
            f"{self.bundle.manifest.name}: runs variant {variant.id!r}, which the guard refused ({reasons}); it was kept "
            f"on request: {allowed}. {'To run the float variant: ' + others[0] if others else 'Convert it again'}."
        )

    def _judge(self, first: Variant, second: Variant, times: Times) -> None:
        """Note where the manifest's preferred variant is slower than a float one."""
        if times.ratio < MARGIN:
            slow, quick, slow_ms, quick_ms = first, second, times.first_ms, times.second_ms
        elif times.ratio > 1 / MARGIN:
            slow, quick, slow_ms, quick_ms = second, first, times.second_ms, times.first_ms
        else:
            return
        if slow.id != self.bundle.manifest.variants[0].id or slow.precision in FLOAT or quick.precision not in FLOAT:
            return
        if slow_ms - quick_ms < NOTICEABLE_MS:
            return
        if slow.format != quick.format:
            return  # the promise was measured against the float variant of its own format
        ratio = self._measured_ratio(slow)
        promised = (
            "was to be the quicker one" if ratio is None else f"took {ratio:.2f} of the source's time when converted"
        )
        self._promise = (
            f"{self.bundle.manifest.name}: variant {slow.id!r} {promised}, but takes {slow_ms:.3g} ms on this board, "
            f"where the float variant {quick.id!r} takes {quick_ms:.3g} ms (the quickest of {times.pairs} runs in turns). "
            f"Convert the model for this board, or insist on it: load(..., variant={slow.id!r})."
        )

    def _finish(self, running: Running | None) -> Running:
        if running is None:
            raise NoBackendError(
                f"{self.bundle.path}: nothing here could open any variant. Follow one of the lines below; "
                "`edgesdk doctor` shows what this board has.",
                tuple(self._reasons),
            )
        running.session.reset()  # the trial runs were no part of any stream
        notices: list[EdgeSdkWarning] = []
        if self._reasons:
            used = f"{running.choice.variant.id} on {running.session.description}"
            head = f"{self.bundle.manifest.name}: runs {used}, because candidates fell away:"
            notices.append(BackendFallbackWarning("\n  ".join((head, *self._reasons))))
        if self._promise:
            notices.append(PromiseWarning(self._promise))
        if overruled := self._overruled(running.choice.variant):
            notices.append(PromiseWarning(overruled))
        return replace(running, notices=tuple(notices))
