"""Says yes or no to a variant, with the figures and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import BranchFidelity, Contract, Measurement, StateInput
from edgesdk_converters.calibration.feeds import Feeds
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.guard.fidelity import FidelityMeter, in_words, worst_margin
from edgesdk_converters.guard.latency import ALLOWANCE, measure
from edgesdk_converters.guard.memory import peak_memory
from edgesdk_converters.guard.metrics import metric_for
from edgesdk_converters.variants.api import Form, Runner

Array = NDArray[Any]
Optimize = Literal["speed", "size"]

MAX_EVALUATED = 256
"""Held-out inferences compared at most, spread evenly."""
MAX_LABELLED = 2048
"""The same where labels are given: a drop of half a percentage point is not seen in 256 samples."""
MAX_BYTES, FEWEST = 256 << 20, 24
"""Outputs of the source that are kept in memory; where they are large, fewer inferences are compared, but not fewer than these."""
FLOAT = frozenset({"fp32", "fp16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeness:
    """How close a variant is to its source, and what is missing."""

    fidelity: tuple[BranchFidelity, ...]
    metrics: dict[str, float]
    reasons: tuple[str, ...]
    """Limits that were missed; empty is a yes."""
    margin: float
    """Distance to the limit of the worst branch, in dB; negative is below."""


class Judge:
    """Knows the source's answers on the held-out inputs."""

    def __init__(
        self,
        contract: Contract,
        source: Runner,
        held_out: Sequence[Sequence[list[Array]]],
        *,
        source_size_bytes: int,
        optimize: Optimize,
        budget: Budget | None = None,
        labels: Sequence[str | None] | None = None,
    ) -> None:
        """Run the source.

        Args:
            contract: Of the model.
            source: It, loaded.
            held_out: Independent samples, each as its inferences in order, with the states that the source makes.
            source_size_bytes: For the ratio.
            optimize: Whether being slower is a reason to refuse.
            budget: Limits; by default 20 dB, 0.98, not slower, smaller than the source.
            labels: The truth about every held-out sample; of those that take several inferences it is not used.
        """
        self.budget = budget or Budget()
        names = [spec.name for spec in contract.outputs]
        self._states = {
            index: names.index(spec.source.from_output)
            for index, spec in enumerate(contract.inputs)
            if isinstance(spec.source, StateInput)
        }
        most = MAX_LABELLED if labels is not None and any(one is not None for one in labels) else MAX_EVALUATED
        total = sum(len(unit) for unit in held_out)
        # States follow from one inference to the next: a stream is cut short where other samples are thinned out.
        step = 1 if self._states else max(1, -(-total // most))
        truth = labels if labels is not None else [None] * len(held_out)
        flat = [
            (number, position, label if len(unit) == 1 else None)
            for number, (unit, label) in enumerate(zip(held_out, truth, strict=True))
            for position in range(len(unit))
        ]
        chosen = flat[::step][:most]
        feeds = Feeds(held_out, [(number, position) for number, position, _ in chosen])
        self._expected: list[list[Array]] = []
        held = 0
        for feed in feeds:
            if not self._expected:
                self.feed: Sequence[Array] = [np.array(array) for array in feed]
                """The inference that times and memory are measured on."""
            self._expected.append([np.array(array) for array in source.run(feed)])
            held += sum(array.nbytes for array in self._expected[-1])
            if held > MAX_BYTES and len(self._expected) >= FEWEST:
                break
        # Samples stay in their files; they are read again for every variant.
        self._feeds = feeds[: len(self._expected)]
        self._first = [position == 0 for _, position, _ in chosen[: len(self._feeds)]]
        self._labels = [label for _, _, label in chosen[: len(self._feeds)]]
        self._contract, self._outputs = contract, contract.outputs
        self._size, self._optimize = source_size_bytes, optimize

    def compare(self, runner: Runner) -> Closeness:
        """Fidelity and the task's own figures; no clock is looked at, so equal variants always get the same answer."""
        meter, metric = FidelityMeter(self._outputs, self.budget), metric_for(self._contract)
        states: dict[int, Array] = {}
        rows = zip(self._feeds, self._first, self._expected, self._labels, strict=True)
        for feed, first, expected, label in rows:
            # A variant lives with its own states, as it will on the board, not with those of its source.
            got = runner.run(feed if first else [states.get(index, array) for index, array in enumerate(feed)])
            meter.add(expected, got)
            if metric is not None:
                metric.add(expected, got, label)
            states = {index: np.array(got[output]) for index, output in self._states.items()}
        fidelity = meter.result()
        reasons = [in_words(figure, self.budget) for figure in fidelity if not figure.passed]
        if metric is not None:
            reasons += [shortfall.text for shortfall in metric.missed(self.budget)]
        return Closeness(
            fidelity=fidelity,
            metrics={} if metric is None else metric.result(),
            reasons=tuple(reasons),
            margin=worst_margin(fidelity, self.budget),
        )

    def judge(
        self,
        variant: str,
        form: Form,
        runner: Runner,
        reference: Runner,
        *,
        always_time: bool = True,
        memory: bool = False,
    ) -> Measurement:
        """Measure and decide.

        Args:
            variant: Its id.
            form: What is judged.
            runner: It, loaded.
            reference: The float variant, loaded; the source, where the float variant itself is judged.
            always_time: Measure the latency of what fails on fidelity, too.
            memory: Measure the peak memory, which starts a process.
        """
        close = self.compare(runner)
        reasons = list(close.reasons)
        latency = None
        if always_time or not reasons:
            latency = measure(lambda: runner.run(self.feed), lambda: reference.run(self.feed))
        if form.precision not in FLOAT:
            if latency is not None:
                reasons += self._slow(latency.ratio, latency.host)
            reasons += self._large(len(form.content))
        return Measurement(
            variant=variant,
            kept=not reasons,
            reasons=tuple(reasons),
            size_bytes=len(form.content),
            source_size_bytes=self._size,
            fidelity=close.fidelity,
            latency=latency,
            held_out_samples=len(self._feeds),
            metrics=close.metrics,
            peak_memory_bytes=self.memory(form) if memory else None,
        )

    def too_slow(self, measurement: Measurement) -> bool:
        """Whether it missed the limit on speed."""
        latency = measurement.latency
        return latency is not None and bool(self._slow(latency.ratio, latency.host))

    def only_slow(self, measurement: Measurement) -> bool:
        """Whether that is all that is wrong with it."""
        latency = measurement.latency
        return latency is not None and set(measurement.reasons) <= set(self._slow(latency.ratio, latency.host))

    def memory(self, form: Form) -> int | None:
        """Peak bytes of a process that loads and runs a form."""
        return peak_memory(form.content, form.format, form.inputs, self.feed)

    def _slow(self, ratio: float, host: str) -> list[str]:
        wanted = self.budget.min_speedup
        if wanted is not None and 1 / ratio < wanted:
            return [f"{1 / ratio:.2f} times as fast as the float variant on {host}, expected at least {wanted:g}"]
        if wanted is None and self._optimize == "speed" and ratio > ALLOWANCE:
            return [f"slower than the float variant: {ratio:.2f} of its time on {host}, expected at most {ALLOWANCE}"]
        return []

    def _large(self, size: int) -> list[str]:
        most = self.budget.max_size_bytes
        if most is not None and size > most:
            return [f"larger than allowed: {size} bytes, expected at most {most}"]
        if most is None and size >= self._size:
            return [f"not smaller than its source: {size} bytes, source {self._size}"]
        return []
