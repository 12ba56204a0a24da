"""The publishing thread: one per app; decides which results go out, and hands them to the outbox."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgesdk.app.change import ChangeDetector, not_finite
from edgesdk.app.config import PublishConfig
from edgesdk.app.events import Event, PublishFailed, ResultEvent
from edgesdk.app.inference import Done, ModelStats
from edgesdk.errors import EdgeSdkError

if TYPE_CHECKING:
    from edgesdk.telemetry import Telemetry

logger = logging.getLogger("edgesdk.app")

PLACES = 256
"""Results that wait for the outbox, before inference waits for it: some seconds of a slow SD card."""


class Publisher:
    """Publishes results in its own thread.

    Args:
        telemetry: Started.
        settings: Of each stream.
        stats: Of each stream and model.
        identities: What a payload says about each stream's models.
        emit: Takes events; must not raise.
        ended: Called last, from the thread, with the error that ended it, if one did.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        settings: Mapping[str, PublishConfig],
        stats: Mapping[tuple[str, str], ModelStats],
        identities: Mapping[tuple[str, str], Mapping[str, Any]],
        emit: Callable[[Event], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        self._telemetry = telemetry
        self._settings = settings
        self._stats = stats
        self._identities = identities
        self._emit = emit
        self._ended = ended
        self._detectors: dict[tuple[str, str], ChangeDetector] = {}
        self._queue: queue.Queue[Done | None] = queue.Queue(maxsize=PLACES)
        self._abort = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def deliver(self, done: Done) -> None:
        """Take a result; waits where the outbox is slow."""
        while not self._abort.is_set():
            try:
                self._queue.put(done, timeout=0.5)
            except queue.Full:
                continue
            return

    def close(self) -> None:
        """Publish what is waiting, then end."""
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=0.5)
            except queue.Full:
                if self._abort.is_set():
                    return
                continue
            return

    def abort(self) -> None:
        """End now; what waits is thrown away."""
        self._abort.set()
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return  # then the thread is not waiting, and sees the flag

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False where it did not come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._abort.is_set():
                done = self._queue.get()
                if done is None or self._abort.is_set():
                    return
                self._publish(done)
        except BaseException as fault:  # noqa: BLE001 - reported by the app, which then stops with exit code 1
            error = fault
        finally:
            # Whoever waits in deliver() must not wait for a thread that is gone.
            self._abort.set()
            self._ended(error)

    def _publish(self, done: Done) -> None:
        key = (done.stream, done.model)
        stats, settings = self._stats[key], self._settings[done.stream]
        try:
            payload = {"kind": done.result.kind, **done.result.to_json()}
        except Exception as error:  # noqa: BLE001 - a result may be somebody's plug-in
            self._refused(done, stats, f"its to_json() failed: {type(error).__name__}: {error}")
            return
        if has_nan(done.result) or not_finite(payload):
            stats.not_finite += 1
            if stats.not_finite & (stats.not_finite - 1) == 0:
                logger.warning(
                    "stream %s, model %s: result with NaN or infinity, not published (%d so far). "
                    "Check the model on this backend with `edgesdk predict`.",
                    done.stream, done.model, stats.not_finite,
                )  # fmt: skip
            return
        detector = self._detectors.setdefault(key, ChangeDetector(settings.every_s))
        if settings.when == "change" and not detector.wants(payload):
            stats.unchanged += 1
            self._tell(done, "unchanged", None)
            return
        try:
            result_id = self._telemetry.publish(
                done.stream,
                payload,
                captured=done.sample.captured,
                model=self._identities[key],
                latency={f"{name}_ms": value for name, value in done.latency_ms.items()},
                durable=settings.durable,
            )
        except EdgeSdkError as error:
            self._refused(done, stats, str(error))
            return
        stats.published += 1
        self._tell(done, "published", result_id)

    def _refused(self, done: Done, stats: ModelStats, reason: str) -> None:
        stats.publish_failed += 1
        logger.error("stream %s, model %s: result lost: %s", done.stream, done.model, reason)
        self._emit(PublishFailed(stream=done.stream, model=done.model, reason=reason))
        self._tell(done, "failed", None)

    def _tell(self, done: Done, outcome: Literal["published", "unchanged", "failed"], result_id: str | None) -> None:
        self._emit(
            ResultEvent(
                stream=done.stream,
                model=done.model,
                sample=done.sample,
                result=done.result,
                latency_ms=done.latency_ms,
                outcome=outcome,
                id=result_id,
            )
        )


def has_nan(result: Any) -> bool:
    """Whether an array of the result holds NaN; its ``to_json`` may have replaced that by null."""
    if not dataclasses.is_dataclass(result):
        return False
    values: list[Any] = []
    for field in dataclasses.fields(result):
        value = getattr(result, field.name, None)
        values += value.values() if isinstance(value, dict) else [value]
    return any(
        isinstance(value, np.ndarray) and value.dtype.kind == "f" and bool(np.isnan(value).any()) for value in values
    )
