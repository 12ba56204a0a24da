"""The capture thread: one per source; opens it, hands its samples to every stream, and brings it back when it is lost."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgesdk.app.events import Event, SourceEnded, SourceLost, SourceRecovered
from edgesdk.app.queues import SampleQueue
from edgesdk.errors import MissingExtraError, SourceFormatError
from edgesdk.samples import Sample
from edgesdk.sources import Interruptible, Source

logger = logging.getLogger("edgesdk.app")

STABLE_S = 10.0
"""A source that delivered for so long is healthy: its next loss is retried quickly again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Full jitter: wait a random time up to a bound that doubles, so that boards do not retry in step."""

    base_s: float = 0.5
    cap_s: float = 30.0
    floor_s: float = 0.1
    """Shortest wait: full jitter alone may say 0, and then it would spin."""

    def delay_s(self, attempt: int) -> float:
        """Wait before the attempt after the ``attempt``-th failure (from 1)."""
        bound_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 30))
        return max(self.floor_s, random.uniform(0, bound_s))  # noqa: S311 - jitter, no secret


@dataclass(slots=True, kw_only=True)
class SourceStats:
    """Counts of one source; written by its capture thread only."""

    state: Literal["opening", "running", "lost", "ended", "failed", "stopped"] = "opening"
    delivered: int = 0
    losses: int = 0
    """Times that it was lost, or could not be opened."""
    attempts: int = 0
    """Failed attempts since it delivered last."""
    reason: str = ""
    """Of the last loss."""


class Capture:
    """Runs one source in its own thread.

    Args:
        name: In app.yaml.
        source: Closed.
        queues: One for each stream that it feeds; closed when the source is at its end.
        emit: Takes events; must not raise.
        backoff: How it is retried.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        queues: list[SampleQueue[Sample]],
        *,
        emit: Callable[[Event], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.stats = SourceStats()
        self._queues = queues
        self._emit = emit
        self._backoff = backoff or Backoff()
        self._stopping = threading.Event()
        self._opened = False
        self._lost_s: float | None = None
        self._since_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"capture-{name}", daemon=True)

    def open_first(self) -> None:
        """Open it in the caller's thread, so that a file that is not there stops the app before it starts.

        Raises:
            SourceError: It cannot be opened.
        """
        self.source.open()
        self._opened = True

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it does after the sample that it is reading."""
        self._stopping.set()
        if isinstance(self.source, Interruptible):
            self.source.interrupt()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False where it did not come."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Release a source whose thread was never started."""
        self.source.close()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._deliver()
                except (SourceFormatError, MissingExtraError) as error:
                    self._give_up(error)
                    return
                except Exception as error:  # noqa: BLE001 - a source is somebody's plug-in: whatever it raises, it is retried
                    self._wait(error)
                else:
                    return
            self.stats.state = "stopped"
        finally:
            self._close_quietly()
            for queue in self._queues:
                queue.close()

    def _deliver(self) -> None:
        """Deliver until the source ends or the app stops."""
        if not self._opened:
            self.source.open()
            self._opened = True
        self._since_s = time.monotonic()
        while not self._stopping.is_set():
            sample = self.source.read()
            if self._lost_s is not None:
                self._recovered()
            if sample is None:
                self.stats.state = "ended"
                self._emit(SourceEnded(source=self.name, delivered=self.stats.delivered))
                return
            self.stats.state = "running"
            self.stats.delivered += 1
            for queue in self._queues:
                queue.put(sample)
        self.stats.state = "stopped"

    def _recovered(self) -> None:
        assert self._lost_s is not None
        after_s = time.monotonic() - self._lost_s
        self._lost_s = None
        logger.warning("source %s: is back after %.1f s", self.name, after_s)
        self._emit(SourceRecovered(source=self.name, after_s=after_s, attempts=self.stats.attempts))

    def _wait(self, error: Exception) -> None:
        now_s = time.monotonic()
        if self._opened and self._lost_s is None and now_s - self._since_s >= STABLE_S:
            self.stats.attempts = 0
        self._close_quietly()
        if self._stopping.is_set():
            return
        self._lost_s = now_s if self._lost_s is None else self._lost_s
        self.stats.state = "lost"
        self.stats.losses += 1
        self.stats.attempts += 1
        self.stats.reason = _text(error)
        delay_s = self._backoff.delay_s(self.stats.attempts)
        logger.warning("source %s: %s Retrying in %.1f s.", self.name, self.stats.reason, delay_s)
        attempts = self.stats.attempts
        self._emit(SourceLost(source=self.name, reason=self.stats.reason, retry_in_s=delay_s, attempts=attempts))
        self._stopping.wait(delay_s)

    def _give_up(self, error: Exception) -> None:
        self.stats.state = "failed"
        self.stats.losses += 1
        self.stats.reason = _text(error)
        logger.error("source %s: %s Given up: retrying does not help.", self.name, self.stats.reason)
        attempts = self.stats.attempts + 1
        self._emit(SourceLost(source=self.name, reason=self.stats.reason, retry_in_s=None, attempts=attempts))

    def _close_quietly(self) -> None:
        self._opened = False
        try:
            self.source.close()
        except Exception as error:  # noqa: BLE001 - closing what is broken already: nothing more can be done about it
            logger.warning("source %s: closing it failed: %s", self.name, error)


def _text(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
