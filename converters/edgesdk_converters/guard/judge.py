"""Says yes or no to a variant, with the figures and the reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import BranchFidelity, Contract, Measurement, OutputSpec, StateInput
from edgesdk.errors import CalibrationError, ConversionError, EdgeSdkError
from edgesdk_converters.calibration.feeds import Feeds
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.guard.budget import Budget, short_of
from edgesdk_converters.guard.fidelity import FidelityMeter, branches_of, cut, decides, worst_margin
from edgesdk_converters.guard.formats import Alike
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
MAX_COMPARED = 128
"""Calibration inferences on which two formats are compared."""
HOPELESS = 2.0
"""Times the limit from which on a variant is given up for its speed."""
FLOAT_DB = 40.0
"""What a float form must keep in every branch, class vectors included: no rewriting of a graph is held to less (`equal_limit`), float16 weights
are better than that, and nobody expects a float variant to be worse."""


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
        explain: Callable[[Sequence[Array]], str] | None = None,
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
            explain: Where the NaN of an inference begins, in words.

        Raises:
            CalibrationError: The source answers a held-out sample with NaN: nothing could be compared with that.
            ConversionError: The budget limits the drop of a figure, and this model has none.
        """
        self.budget = budget or Budget()
        metric = metric_for(contract)
        if metric is None and self.budget.max_drop is not None:
            raise ConversionError(
                f"--max-drop {100 * self.budget.max_drop:g}pp: task {contract.task!r} has no figure that could drop: no boxes, no text, no class "
                "vector, no embedding. Limit the distance of its values instead, --min-fidelity 25dB, or name its task or class_axis in the spec."
            )
        names = [spec.name for spec in contract.outputs]
        self._states = {
            index: names.index(spec.source.from_output)
            for index, spec in enumerate(contract.inputs)
            if isinstance(spec.source, StateInput)
        }
        told = metric is not None and metric.labelled and any(one is not None for one in labels or ())
        most = MAX_LABELLED if told else MAX_EVALUATED
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
            answer = [np.array(array) for array in source.run(feed)]
            for spec, value in zip(contract.outputs, answer, strict=True):
                if value.dtype.kind == "f" and bool(np.isnan(value).any()):
                    begins = (
                        explain(feed) if explain is not None else ""
                    ) or "Repair the model, or take that sample out if it is no typical input."
                    raise CalibrationError(
                        f"held-out inference {len(self._expected)}: the source's output {spec.name!r} holds NaN, so that nothing can be compared "
                        f"with it: {begins}"
                    )
            self._expected.append(answer)
            held += sum(array.nbytes for array in self._expected[-1])
            if held > MAX_BYTES and len(self._expected) >= FEWEST:
                break
        # Samples stay in their files; they are read again for every variant.
        self._feeds = feeds[: len(self._expected)]
        self._first = [position == 0 for _, position, _ in chosen[: len(self._feeds)]]
        self._labels = [label for _, _, label in chosen[: len(self._feeds)]]
        self._contract, self._outputs = contract, contract.outputs
        self._size, self._optimize = source_size_bytes, optimize
        self._source = source

    def _answer_to_noise(self) -> list[Array] | None:
        """What the source says of noise: an output that is the same even then is a constant, and no sample can excite it."""
        feed = random_feed([(spec.shape, spec.dtype, spec.source) for spec in self._contract.inputs])
        try:
            return [np.array(array) for array in self._source.run(feed)]
        except EdgeSdkError:  # noise is no valid input of every model
            return None

    def _unproven(self, meter: FidelityMeter) -> list[str]:
        """Branches of which the held-out samples say nothing."""
        names = [spec.name for spec in self._outputs]
        reasons: list[str] = []
        asleep = meter.asleep()
        noise = self._answer_to_noise() if asleep else None
        for output, branch in asleep:
            index = names.index(output)
            if noise is None or not _alike(cut(noise[index], branch), cut(self._expected[0][index], branch)):
                reasons.append(
                    f"branch {branch.name!r}: the float model says the same of all {len(self._feeds)} held-out inferences: nothing shows that this "
                    "variant works there. Add samples that excite it, in --calibration or --evaluation"
                )
        return reasons

    def compare(self, runner: Runner, *, given: bool = False) -> Closeness:
        """Fidelity and the task's own figures; no clock is looked at, so equal variants always get the same answer.

        Args:
            runner: The variant, loaded.
            given: Whether it is the source in another form, which must be the same; else it may lose what the budget allows.
        """
        budget = Budget(min_snr_db=max(FLOAT_DB, self.budget.min_snr_db)) if given else self.budget
        meter, metric = FidelityMeter(self._outputs, budget), metric_for(self._contract)
        rows = zip(self._answers(runner), self._expected, self._labels, strict=True)
        for got, expected, label in rows:
            meter.add(expected, got)
            if metric is not None:
                metric.add(expected, got, label)
        fidelity = meter.result()
        reasons = list(meter.missed())
        if given:
            reasons = reasons or [
                f"branch {figure.branch!r}: SNR {short_of(figure.snr_db, FLOAT_DB, 1)} dB, expected at least {FLOAT_DB:g} dB of a float form"
                for spec, figure in zip(self._by_figure(), fidelity, strict=True)
                if figure.snr_db < FLOAT_DB and not decides(spec)
            ]
        else:
            reasons += self._unproven(meter)
            reasons += [shortfall.text for shortfall in metric.missed(budget)] if metric is not None else []
        return Closeness(
            fidelity=fidelity,
            metrics={} if metric is None else metric.result(),
            reasons=tuple(reasons),
            margin=worst_margin(fidelity, budget),
        )

    def unlike(self, one: Runner, other: Runner, more: Sequence[Sequence[Array]] = ()) -> str:
        """Whether two formats of one quantization take different decisions, in words; empty where they are one model.

        Args:
            one: A format, loaded.
            other: Another one.
            more: Further inferences, those of the calibration: that formats are alike cannot be fitted to samples, and a share of 1 % is not
                seen in a dozen.
        """
        alike = Alike(self._contract)
        for a, b in zip(self._answers(one), self._answers(other), strict=True):
            alike.add(a, b)
        for feed in more[:: max(1, len(more) // MAX_COMPARED)]:
            alike.add(one.run(feed), other.run(feed))
        return alike.missed()

    def _answers(self, runner: Runner) -> Iterator[list[Array]]:
        """What it says of the held-out inferences; it lives with its own states, as it will on the board, not with those of its source."""
        states: dict[int, Array] = {}
        for feed, first in zip(self._feeds, self._first, strict=True):
            got = runner.run(feed if first else [states.get(index, array) for index, array in enumerate(feed)])
            states = {index: np.array(got[output]) for index, output in self._states.items()}
            yield got

    def _by_figure(self) -> list[OutputSpec]:
        """The output that each figure belongs to."""
        return [spec for spec in self._outputs for _ in branches_of(spec)]

    def judge(
        self,
        variant: str,
        form: Form,
        runner: Runner,
        reference: Runner,
        *,
        always_time: bool = True,
        given: bool = False,
        memory: bool = False,
    ) -> Measurement:
        """Measure and decide.

        Args:
            variant: Its id.
            form: What is judged.
            runner: It, loaded.
            reference: The float variant, loaded; the source, where the float variant itself is judged.
            always_time: Measure the latency of what fails on fidelity, too.
            given: It is the source in another form: the same numbers are expected of it, but neither speed nor a smaller file.
            memory: Measure the peak memory, which starts a process.
        """
        close = self.compare(runner, given=given)
        reasons = list(close.reasons)
        latency = None
        if always_time or not reasons:
            latency = measure(lambda: runner.run(self.feed), lambda: reference.run(self.feed))
        if not given:
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

    def hopeless(self, measurement: Measurement) -> bool:
        """Whether it takes at least twice the time that it may: no other choice of ranges or nodes makes up for that.

        What is only a little too slow does not count: which of a recipe's attempts is taken must not depend on how a clock rounds.
        """
        latency = measurement.latency
        return latency is not None and bool(self._slow(latency.ratio / HOPELESS, latency.host))

    def only_slow(self, measurement: Measurement) -> bool:
        """Whether that is all that is wrong with it."""
        latency = measurement.latency
        return latency is not None and set(measurement.reasons) <= set(self._slow(latency.ratio, latency.host))

    def memory(self, form: Form) -> int | None:
        """Peak bytes of a process that loads and runs a form."""
        return peak_memory(form.content, form.format, form.inputs, self.feed)

    def _slow(self, ratio: float, host: str) -> list[str]:
        wanted = self.budget.min_speedup
        faster = 1 / max(ratio, 1e-3)  # the ratio is rounded to that
        if wanted is not None and faster < wanted:
            return [f"{faster:.2f} times as fast as the float variant on {host}, expected at least {wanted:g}"]
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


def _alike(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
