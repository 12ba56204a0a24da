"""What waits in memory for the writer: bounded, and the place where a rule is applied when the disk does not take it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Literal

from edgesdk.errors import OutboxFullError
from edgesdk.telemetry.store import GapCount

RING_ENTRIES = 4096
RING_BYTES = 8 << 20
"""The writer empties the ring every commit window; it only fills up when the disk is full or stalls."""
ENTRY_OVERHEAD_BYTES = 400

WhenFull = Literal["drop_oldest", "drop_newest", "block"]


class Entry:
    """A result on its way to the disk; not accepted yet."""

    __slots__ = ("body", "cancelled", "done", "error", "id", "monotonic_ns", "stream", "time_ns")

    def __init__(self, stream: str, id_: str, time_ns: int, monotonic_ns: int, body: bytes) -> None:
        self.stream = stream
        self.id = id_
        self.time_ns = time_ns
        self.monotonic_ns = monotonic_ns
        self.body = body
        self.done: threading.Event | None = None
        self.error: Exception | None = None
        self.cancelled = False


class Ring:
    """Bounded deque between publishers and the writer.

    Args:
        when_full: What gives way when the bound is reached.
        entries: Bound in entries.
        size_bytes: Bound in bytes of bodies and their overhead.
    """

    def __init__(self, when_full: WhenFull, *, entries: int = RING_ENTRIES, size_bytes: int = RING_BYTES) -> None:
        self._when_full = when_full
        self._entries = entries
        self._limit_bytes = size_bytes
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._dropped: dict[str, int] = {}
        self.passed = 0
        """Entries that left the queue for good or were taken; with its length, the number of the newest entry."""
        self.dropped = 0
        """Results dropped here since the start."""
        self._closed = False
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, entry: Entry) -> None:
        """Append ``entry``, dropping another or itself when the bound is reached.

        Raises:
            OutboxFullError: The ring is closed while a publisher waits, or the entry is to be durable and the rule
                would drop it.
        """
        size = len(entry.body) + ENTRY_OVERHEAD_BYTES
        with self._lock:
            if self._closed:
                raise OutboxFullError("telemetry is closed; publish() came after close().")
            if len(self._queue) < self._entries and self._bytes + size <= self._limit_bytes:
                self._queue.append(entry)
                self._bytes += size
            else:
                self._put_full(entry, size)

    def _put_full(self, entry: Entry, size: int) -> None:
        if self._when_full == "block":
            while self._is_full(size):
                self._room.wait(1.0)
                if self._closed:
                    raise OutboxFullError("telemetry was closed while publish() waited for room in the outbox.")
        elif self._when_full == "drop_newest":
            self._drop(entry)
            return
        while self._queue and self._is_full(size):
            old = self._queue.popleft()
            self.passed += 1
            self._bytes -= len(old.body) + ENTRY_OVERHEAD_BYTES
            self._drop(old)
        self._queue.append(entry)
        self._bytes += size

    def _is_full(self, size: int) -> bool:
        return len(self._queue) >= self._entries or self._bytes + size > self._limit_bytes

    def _drop(self, entry: Entry) -> None:
        self.dropped += 1
        self._dropped[entry.stream] = self._dropped.get(entry.stream, 0) + 1
        if entry.done is not None:
            entry.error = OutboxFullError(
                f"outbox: full, and rule {self._when_full} dropped this result. Free some disk space, raise "
                "outbox.max_size, or use when_full: block."
            )
            entry.done.set()

    def take(self, entries: int, size_bytes: int) -> list[Entry]:
        """Remove and return the oldest entries, at least one if there is any."""
        taken: list[Entry] = []
        with self._lock:
            while self._queue and len(taken) < entries and size_bytes > 0:
                entry = self._queue.popleft()
                self.passed += 1
                self._bytes -= len(entry.body) + ENTRY_OVERHEAD_BYTES
                size_bytes -= len(entry.body)
                if not entry.cancelled:
                    taken.append(entry)
            self._room.notify_all()
        return taken

    def put_back(self, entries: list[Entry]) -> None:
        """Return what could not be written; it may pass the bound until the next ``put``."""
        with self._lock:
            self._queue.extendleft(reversed(entries))
            self.passed -= len(entries)
            self._bytes += sum(len(entry.body) + ENTRY_OVERHEAD_BYTES for entry in entries)

    def take_dropped(self) -> list[GapCount]:
        """Remove and return what was dropped here since the last call; these had no sequence yet."""
        with self._lock:
            dropped, self._dropped = self._dropped, {}
        rule = "drop_newest" if self._when_full == "drop_newest" else "drop_oldest"
        return [GapCount(stream, rule, count, None, None) for stream, count in dropped.items()]

    def put_back_dropped(self, gaps: list[GapCount]) -> None:
        """Return counts that could not be written."""
        with self._lock:
            for gap in gaps:
                self._dropped[gap.stream] = self._dropped.get(gap.stream, 0) + gap.dropped

    def fail_durable(self, error: Exception) -> None:
        """Tell publishers that wait for the disk that it does not take their result; they are not accepted."""
        with self._lock:
            for entry in self._queue:
                if entry.done is not None and not entry.done.is_set():
                    entry.error = error
                    entry.cancelled = True
                    entry.done.set()

    def close(self) -> None:
        """Refuse further entries and release waiting publishers."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
