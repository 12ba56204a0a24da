"""Says yes or no to a variant, with the figures and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, Measurement
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
        held_out: Sequence[Sequence[Array]],
        *,
        source_size_bytes: int,
        optimize: Optimize,
    ) -> None:
        step = max(1, -(-len(held_out) // MAX_EVALUATED))
        self._feeds = list(held_out[::step])
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
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            meter.add(expected, runner.run(feed))
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
