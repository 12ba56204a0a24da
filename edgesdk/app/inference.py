"""The inference thread: one per stream; runs the stream's models on its samples, one after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgesdk.app.events import Event, ModelFailing, ModelRecovered, SampleFailed
from edgesdk.app.queues import Closed, SampleQueue
from edgesdk.samples import Sample
from edgesdk.tasks.api import Result

if TYPE_CHECKING:
    from edgesdk.model import Model

logger = logging.getLogger("edgesdk.app")

FAILING = 10
"""Failures in a row after which the model is reported, and not only its samples."""


@dataclass(slots=True, kw_only=True)
class ModelStats:
    """Counts of one model in one stream; written by the stream's inference and publishing threads, each its own."""

    results: int = 0
    failed: int = 0
    """Samples that it made nothing of."""
    consecutive_failures: int = 0
    reason: str = ""
    """Of the last failure."""
    deadline_missed: int = 0
    inference_ms: float = 0.0
    """Running mean (over about 20) of pre-processing, inference and post-processing together."""
    not_finite: int = 0
    """Results with NaN or infinity; never published."""
    published: int = 0
    unchanged: int = 0
    """Held back by ``publish.when: change``."""
    publish_failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A result on its way to the publishing thread."""

    stream: str
    model: str
    sample: Sample
    result: Result
    latency_ms: dict[str, float]


class Inference:
    """Runs one stream's models in its own thread.

    Args:
        stream: Its name.
        queue: Where its samples come from; the thread ends when it is closed and empty.
        models: Loaded models by their names in app.yaml, in the order in which they run.
        deadline_s: From capture to result.
        deliver: Takes results; may wait.
        emit: Takes events; must not raise.
        ended: Called last, from the thread, with the error that ended it, if one did.
    """

    def __init__(
        self,
        stream: str,
        queue: SampleQueue[Sample],
        models: Mapping[str, Model],
        *,
        deadline_s: float | None,
        deliver: Callable[[Done], None],
        emit: Callable[[Event], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self.stream = stream
        self.queue = queue
        self.models = models
        self.stats = {name: ModelStats() for name in models}
        self._deadline_s = deadline_s
        self._deliver = deliver
        self._emit = emit
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name=f"inference-{stream}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False where it did not come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while True:
                sample = self.queue.get()
                for name, model in self.models.items():
                    self._infer(name, model, sample)
        except Closed:
            pass
        except BaseException as fault:  # noqa: BLE001 - reported by the app, which then stops with exit code 1
            error = fault
        finally:
            self._ended(error)

    def _infer(self, name: str, model: Model, sample: Sample) -> None:
        stats = self.stats[name]
        started_ns = time.monotonic_ns()
        try:
            inference = model.infer(sample)
        except Exception as error:  # noqa: BLE001 - a task may be somebody's plug-in; one bad sample ends no app
            self._failed(name, stats, error)
            return
        now_ns = time.monotonic_ns()
        if stats.consecutive_failures >= FAILING:
            logger.warning("stream %s, model %s: works again", self.stream, name)
            self._emit(ModelRecovered(stream=self.stream, model=name, failures=stats.consecutive_failures))
        stats.consecutive_failures = 0
        captured_ns = sample.captured.monotonic_ns
        total_ms = (now_ns - captured_ns) / 1e6
        split = inference.latency
        latency_ms = {
            "queue": round(max(0.0, (started_ns - captured_ns) / 1e6), 3),
            "pre": round(split.pre_ms, 3),
            "inference": round(split.inference_ms, 3),
            "post": round(split.post_ms, 3),
            "total": round(max(0.0, total_ms), 3),
        }
        own_ms = (now_ns - started_ns) / 1e6
        stats.inference_ms += (own_ms - stats.inference_ms) / min(stats.results + 1, 20)
        stats.results += 1
        if self._deadline_s is not None and total_ms > self._deadline_s * 1e3:
            stats.deadline_missed += 1
        self._deliver(
            Done(stream=self.stream, model=name, sample=sample, result=inference.result, latency_ms=latency_ms)
        )

    def _failed(self, name: str, stats: ModelStats, error: Exception) -> None:
        stats.failed += 1
        stats.consecutive_failures += 1
        count = stats.consecutive_failures
        reason = f"{type(error).__name__}: {error}"
        # The same failure at 15 Hz would fill the log: it is written when it is new, and at every power of two.
        if reason != stats.reason or count & (count - 1) == 0:
            logger.warning("stream %s, model %s: %s (%d in a row)", self.stream, name, reason, count)
        stats.reason = reason
        self._emit(SampleFailed(stream=self.stream, model=name, reason=reason, consecutive=count))
        if count == FAILING:
            logger.error("stream %s, model %s: %d failures in a row; last: %s", self.stream, name, count, reason)
            self._emit(ModelFailing(stream=self.stream, model=name, reason=reason, consecutive=count))
