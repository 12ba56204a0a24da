"""Says yes or no to a variant, with the figures and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, Measurement, StateInput
from edgesdk_converters.guard.fidelity import FidelityMeter, in_words
from edgesdk_converters.guard.latency import ALLOWANCE, measure
from edgesdk_converters.variants.api import Form, Runner

Array = NDArray[Any]
Optimize = Literal["speed", "size"]

MAX_EVALUATED = 256
"""Held-out inferences compared at most, spread evenly."""


class Judge:
    """Knows the source's answers on the held-out inputs."""

    def __init__(
        self,
        contract: Contract,
        source: Runner,
        held_out: Sequence[Sequence[Sequence[Array]]],
        *,
        source_size_bytes: int,
        optimize: Optimize,
    ) -> None:
        """Run the source.

        Args:
            contract: Of the model.
            source: It, loaded.
            held_out: Independent samples, each as its inferences in order, with the states that the source makes.
            source_size_bytes: For the ratio.
            optimize: Whether being slower is a reason to refuse.
        """
        names = [spec.name for spec in contract.outputs]
        self._states = {
            index: names.index(spec.source.from_output)
            for index, spec in enumerate(contract.inputs)
            if isinstance(spec.source, StateInput)
        }
        total = sum(len(unit) for unit in held_out)
        # States follow from one inference to the next: a stream is cut short where other samples are thinned out.
        step = 1 if self._states else max(1, -(-total // MAX_EVALUATED))
        flat = [(feed, index == 0) for unit in held_out for index, feed in enumerate(unit)]
        chosen = flat[::step][:MAX_EVALUATED]
        self._feeds = [feed for feed, _ in chosen]
        self._first = [first for _, first in chosen]
        self._outputs = contract.outputs
        self._expected = [source.run(feed) for feed in self._feeds]
        self._size, self._optimize = source_size_bytes, optimize

    def judge(
        self, variant: str, form: Form, runner: Runner, reference: Runner, *, always_time: bool = True
    ) -> Measurement:
        """Measure and decide.

        Args:
            variant: Its id.
            form: What is judged.
            runner: It, loaded.
            reference: The float variant, loaded; the source, where the float variant itself is judged.
            always_time: Measure the latency of what fails on fidelity, too.
        """
        meter = FidelityMeter(self._outputs)
        states: dict[int, Array] = {}
        for feed, first, expected in zip(self._feeds, self._first, self._expected, strict=True):
            # A variant lives with its own states, as it will on the board, not with those of its source.
            got = runner.run(feed if first else [states.get(index, array) for index, array in enumerate(feed)])
            meter.add(expected, got)
            states = {index: np.array(got[output]) for index, output in self._states.items()}
        fidelity = meter.result()
        reasons = [in_words(figure) for figure in fidelity if not figure.passed]
        latency = None
        if always_time or not reasons:
            latency = measure(lambda: runner.run(self._feeds[0]), lambda: reference.run(self._feeds[0]))
        if form.precision == "int8":
            if self._optimize == "speed" and latency is not None and latency.ratio > ALLOWANCE:
                reasons.append(
                    f"slower than the float variant: {latency.ratio:.2f} of its time on {latency.host}, expected at most {ALLOWANCE}"
                )
            if len(form.content) >= self._size:
                reasons.append(f"not smaller than its source: {len(form.content)} bytes, source {self._size}")
        return Measurement(
            variant=variant,
            kept=not reasons,
            reasons=tuple(reasons),
            size_bytes=len(form.content),
            source_size_bytes=self._size,
            fidelity=fidelity,
            latency=latency,
            held_out_samples=len(self._feeds),
        )


def too_slow(measurement: Measurement) -> bool:
    """Whether it missed the limit on speed."""
    return measurement.latency is not None and measurement.latency.ratio > ALLOWANCE
