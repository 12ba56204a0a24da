"""Store and forward: results wait on the disk until the broker has them.

One writer thread owns the SQLite file. ``put`` only appends to a ring in memory; the writer collects for the commit
window and commits the group with one fsync. A result is accepted when that commit returned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edgesdk.errors import OutboxFullError, TelemetryError
from edgesdk.telemetry.codecs.api import Record
from edgesdk.telemetry.ids import uuid7
from edgesdk.telemetry.records import RecordWriter
from edgesdk.telemetry.ring import Entry, Ring
from edgesdk.telemetry.settings import OutboxSettings
from edgesdk.telemetry.store import (
    PAGE_BYTES,
    ROW_OVERHEAD_BYTES,
    GapCount,
    Store,
    StoreCorruptError,
    StoreUnavailableError,
    set_aside,
)
from edgesdk.telemetry.topics import Topics

log = logging.getLogger("edgesdk.telemetry")

BATCH_ENTRIES = 500
BATCH_BYTES = 256 << 10
"""One transaction at most: bounds the WAL, and how long a durable publish waits behind others."""
RETRY_S = 1.0
"""Wait between attempts while the disk is full."""
LINGER_S = 2.0
"""How long after a result the writer looks once per commit window before it sleeps until it is woken."""
GAP_INTERVAL_S = 1.0
"""At most one gap record per stream and rule in this time, so that they cannot fill the outbox."""

_HEADER_BYTES = 300
# What the header adds to a body; measured 290-330 with ids of ordinary length.

Job = Callable[[Store], None]


def _disk_bytes(entry: Entry) -> int:
    """Room for a result: a large one fills whole overflow pages, and may leave half a page unused in the tree."""
    size = len(entry.body) + _HEADER_BYTES + 2 * ROW_OVERHEAD_BYTES
    return size if size < PAGE_BYTES // 4 else (size // PAGE_BYTES + 2) * PAGE_BYTES


class Consumer(Protocol):
    """Who forwards records; called on the writer thread, must not block."""

    def offer(self, records: Sequence[Record]) -> None:
        """These were just committed, in order."""


class _Flush:
    """Somebody who waits until what was queued before is committed."""

    __slots__ = ("committed", "done")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.committed = False

    def finish(self, *, committed: bool) -> None:
        self.committed = committed
        self.done.set()


class Outbox:
    """The disk queue of one app.

    Args:
        settings: Bounds and rules.
        path: The SQLite file; missing folders are made.
        topics: Names that go into every record.
    """

    def __init__(self, settings: OutboxSettings, path: Path, topics: Topics) -> None:
        self._settings = settings
        self.path = path
        self._writer = RecordWriter(topics)
        self._ring = Ring(settings.when_full)
        self._acks: deque[int] = deque()
        self._jobs: deque[Job] = deque()
        self._flushes: deque[_Flush] = deque()
        self._wake = threading.Event()
        self._idle = False
        self._urgent = False
        self._stopping = False
        self._ended = False
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._consumer: Consumer | None = None
        self._gap_due = 0.0
        self._linger_until = 0.0
        self._extra_bytes = 0
        self._untold = True
        self._held = False
        self._last_row = 0
        self._removed = 0
        self.accepted = 0
        self.delivered = 0
        self.problem: str | None = None
        self.started_anew: str | None = None
        """Why the epoch is new, when an earlier file had to be set aside."""

    # -- any thread ------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """Identity of this outbox's counting; empty before ``start``."""
        return self._store.epoch if self._store else ""

    @property
    def pending(self) -> int:
        """Committed and not delivered."""
        return self._store.pending if self._store else 0

    @property
    def dropped(self) -> int:
        """Results that a rule dropped, in memory or from the disk."""
        return self._ring.dropped + self._removed

    @property
    def queued(self) -> int:
        """In memory, not accepted yet."""
        return len(self._ring)

    def start(self) -> None:
        """Open the file and start the writer.

        Raises:
            TelemetryError: The folder cannot be made, the disk is full, or another process uses the file.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TelemetryError(
                f"outbox.path: the folder of {self.path} cannot be made: {error.strerror}. "
                f"Run: install -d -o $USER {self.path.parent}, or name another path."
            ) from error
        self._store = self._open()
        self._thread = threading.Thread(target=self._run, name="edgesdk-outbox", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, *, durable: bool = False) -> None:
        """Queue a result; with ``durable`` return only after it is on the disk.

        Raises:
            OutboxFullError: Durable, and the disk is full; or the outbox was closed.
            TelemetryError: Durable, and there is no writer yet to wait for.
        """
        if durable:
            if self._thread is None and not self._stopping:
                raise TelemetryError("outbox: a durable publish() came before start(). Call start() first.")
            entry.done = threading.Event()
            self._urgent = True
        self._ring.put(entry)
        if self._idle or durable:
            self._wake.set()
        if entry.done is not None:
            entry.done.wait()
            if entry.error is not None:
                raise entry.error

    def acknowledge(self, row: int) -> None:
        """The broker has this record; joins the next group commit."""
        self._acks.append(row)
        if self._idle:
            self._wake.set()

    def submit(self, job: Job) -> None:
        """Run ``job`` on the writer thread, soon."""
        self._jobs.append(job)
        self._urgent_wake()

    def attach(self, consumer: Consumer, ready: Callable[[int], None]) -> None:
        """From now on offer committed records to ``consumer``; ``ready`` gets the last row that is backlog."""

        def job(store: Store) -> None:
            self._consumer = consumer
            self._gap_due = 0.0
            ready(store.last_row)

        self.submit(job)

    def detach(self) -> None:
        """Offer nothing any more; what is committed from now on is backlog."""
        self._consumer = None

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued before this call is committed; False when time ran out, or nobody writes."""
        if self._thread is None:
            return not self._ring
        flush = _Flush()
        self._flushes.append(flush)
        self._urgent_wake()
        if self._ended:  # between the question above and the append: nobody may come any more
            return not self._ring
        return flush.done.wait(timeout_s) and flush.committed

    def close(self) -> None:
        """Commit what is queued, stop the writer, close the file. Idempotent."""
        self._ring.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            self._urgent_wake()
            thread.join()

    def _urgent_wake(self) -> None:
        self._urgent = True
        self._wake.set()

    # -- the writer thread -----------------------------------------------------------------------------------------

    def _open(self) -> Store:
        size = int(self._settings.max_size_bytes)
        try:
            store = Store(self.path, max_size_bytes=size, epoch=uuid7())
        except StoreCorruptError as error:
            aside = set_aside(self.path)
            self.started_anew = f"{error} It was set aside as {aside.name}; what was not delivered from it is lost."
            self._report(self.started_anew)
            store = Store(self.path, max_size_bytes=size, epoch=uuid7())
        # A late acknowledgement must never hit another record, so row numbers go on even in a new file.
        store.last_row = self._last_row = max(store.last_row, self._last_row)
        self._untold = True
        return store

    def _run(self) -> None:
        while True:
            self._sleep()
            stopping = self._stopping
            try:
                self._work()
            except StoreCorruptError as error:
                self._start_anew(error)
            except TelemetryError as error:
                self._report(str(error))
                self._ring.fail_durable(OutboxFullError(f"outbox: {error} The result is not accepted."))
                if not stopping:
                    time.sleep(RETRY_S)
                    if "full" not in str(error):  # after an I/O error the old connection may be unusable
                        self._reopen()
            except Exception as error:
                log.exception("outbox: unexpected error")
                self._report(f"outbox: unexpected {type(error).__name__}: {error}. Please report it.")
                self._ring.fail_durable(OutboxFullError(f"outbox: {error} The result is not accepted."))
                time.sleep(RETRY_S)
            if stopping:
                break
        left = len(self._ring)
        if left:
            self._removed += left
            self._report(f"outbox: {left} results were still in memory at the end and are lost. Free some disk space.")
        # Whoever still waits for the disk would wait for ever.
        self._ring.fail_durable(OutboxFullError(f"outbox: {self.path} was closed. The result is not accepted."))
        self._ended = True
        while self._flushes:
            self._flushes.popleft().finish(committed=not left)
        if self._store is not None:
            self._store.close()

    def _sleep(self) -> None:
        window_s = self._settings.commit_window_s
        if window_s > 0 and time.monotonic() < self._linger_until:
            # Results are flowing: look once per window, so that publishers need not wake this thread (30 us at 30 Hz).
            if not self._urgent:
                self._wake.wait(window_s)
        else:
            self._idle = True
            if not (self._acks or self._jobs or self._stopping) and (self._held or not self._ring):
                self._wake.wait(self._idle_s())
            self._idle = False
            self._wake.clear()
            if not (self._urgent or self._stopping):
                # The commit window: collect, unless somebody is in a hurry.
                self._wake.wait(window_s)
        self._wake.clear()
        self._urgent = False

    def _idle_s(self) -> float | None:
        if self._held:
            return RETRY_S
        return GAP_INTERVAL_S if self._consumer is not None and self._untold else None

    def _work(self) -> None:
        store = self._store
        if store is None:
            self._reopen()
            store = self._store
            if store is None:
                raise StoreUnavailableError(self.problem or "outbox: cannot be opened.")
        flushes, jobs = len(self._flushes), len(self._jobs)  # counted first: they must not overtake what came before
        upto, acks = self._ring.passed + len(self._ring), len(self._acks)
        # Only what is there now: results that keep coming while a slow card commits must not keep the jobs waiting.
        first = True
        while first or (self._ring and self._ring.passed < upto) or acks > 0:
            first = False
            acks -= BATCH_ENTRIES
            if not self._commit(store):
                break
        for _ in range(0 if self._held else flushes):
            self._flushes.popleft().finish(committed=True)
        for _ in range(jobs):
            job = self._jobs.popleft()
            try:
                job(store)
            except store.sqlite_error as error:
                self._jobs.appendleft(job)  # whoever asked for it waits for it
                raise store.translated(error) from error
        if self._jobs:
            self._urgent_wake()

    def _commit(self, store: Store) -> bool:
        # A batch has to fit into an empty outbox with room to spare, however small max_size is.
        batch_bytes = min(BATCH_BYTES, store.budget_bytes // 4)
        entries = self._ring.take(BATCH_ENTRIES, batch_bytes // 8 if self._extra_bytes else batch_bytes)
        acks = [self._acks.popleft() for _ in range(min(len(self._acks), BATCH_ENTRIES))]
        gaps = self._ring.take_dropped()
        if not (entries or acks or gaps or self._gap_is_due()):
            self._held = False
            return False
        try:
            self._held, records = self._transaction(store, entries, acks, gaps)
        except BaseException as error:
            store.rollback()
            self._ring.put_back(entries)
            self._ring.put_back_dropped(gaps)
            self._acks.extendleft(reversed(acks))
            if isinstance(error, store.sqlite_error):
                # Perhaps the estimate of the space was too low: next time a smaller batch, and more room.
                self._extra_bytes = min(max(64 << 10, 2 * self._extra_bytes), store.budget_bytes // 4)
                raise store.translated(error) from error
            raise
        consumer = self._consumer  # read once: the session thread may detach it at any time
        if consumer is not None and records:
            consumer.offer(records)
        return not self._held

    def _gap_is_due(self) -> bool:
        return self._untold and self._consumer is not None and time.monotonic() >= self._gap_due

    def _transaction(
        self, store: Store, entries: list[Entry], acks: list[int], gaps: list[GapCount]
    ) -> tuple[bool, list[Record]]:
        """One group commit; whether rule ``block`` held the entries back, and what is new on the disk."""
        last = dict(store.sequences)
        store.begin()
        delivered = store.mark_delivered(acks) if acks else 0
        store.expire(self._settings.keep_delivered_s)
        kept, dropped, refused, held = self._make_room(store, entries)
        records = self._writer.results(store.last_row, kept, last, store.epoch)
        if refused:
            gaps = gaps + [GapCount(stream, "drop_newest", count, None, None) for stream, count in refused.items()]
        if gaps:
            store.count_gaps(gaps)
        self._untold = self._untold or bool(gaps or dropped)
        told = self._gap_is_due()
        if told:
            found = store.take_gaps()
            records += self._writer.gaps(store.last_row + len(records), found, last, store.epoch)
        store.insert(records)
        store.commit()
        if entries:
            self._extra_bytes = 0
            self._linger_until = time.monotonic() + LINGER_S
        # Only now, after the commit, the counters move: a failed transaction leaves them as they were.
        store.sequences = last
        store.last_row += len(records)
        self._last_row = store.last_row
        store.pending += len(records) - delivered - dropped
        if told:
            self._untold = False
            self._gap_due = time.monotonic() + GAP_INTERVAL_S
        self.accepted += len(kept)
        self.delivered += delivered
        self._removed += dropped + sum(refused.values())
        if held:
            self._ring.put_back(entries)
            self._report(
                f"{self.path}: outbox.max_size is reached and when_full is block; publishers wait for deliveries. "
                "Raise outbox.max_size, or use when_full: drop_oldest."
            )
        else:
            if self.problem is not None and kept:
                self.problem = None
                log.info("outbox: %s takes results again", self.path)
            self._release(entries, kept)
        return held, records

    def _release(self, entries: list[Entry], kept: list[Entry]) -> None:
        accepted = {id(entry) for entry in kept}
        for entry in entries:
            if entry.done is not None:
                if id(entry) not in accepted:
                    entry.error = OutboxFullError(
                        f"outbox: {self.path} is full and rule {self._settings.when_full} refused this result. "
                        "Raise outbox.max_size, or use when_full: drop_oldest."
                    )
                entry.done.set()

    def _make_room(self, store: Store, entries: list[Entry]) -> tuple[list[Entry], int, dict[str, int], bool]:
        """Free space by the rules, delivered records first.

        Returns:
            Entries that fit, how many old results were dropped, how many new ones were refused by stream, and
            whether the entries have to wait (rule ``block``).
        """
        need = self._extra_bytes + sum(_disk_bytes(entry) for entry in entries)
        rule = self._settings.when_full
        dropped = 0
        while entries and store.used_bytes() + need > store.budget_bytes:
            if store.free_delivered(need):
                continue
            if rule == "block":
                return [], dropped, {}, True
            found = store.drop_oldest(need) if rule == "drop_oldest" else 0
            dropped += found
            if not found:
                refused: dict[str, int] = {}
                for entry in entries:
                    refused[entry.stream] = refused.get(entry.stream, 0) + 1
                return [], dropped, refused, False
        return entries, dropped, {}, False

    def read_pending(self, store: Store, after: int, upto: int, limit: int) -> tuple[list[Record], int]:
        """For jobs: undelivered records, without those whose acknowledgement is not committed yet.

        Returns:
            The records, and the row after which to go on; ``upto`` or later when there are no more.
        """
        acked = set(self._acks.copy())
        found = store.read_pending(after, upto, limit)
        return [record for record in found if record.row not in acked], found[-1].row if len(found) == limit else upto

    # -- trouble ---------------------------------------------------------------------------------------------------

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem

    def _reopen(self) -> None:
        """A new connection after a disk error: the old one may be unusable."""
        store, self._store = self._store, None
        if store is not None:
            store.close()
        try:
            self._store = self._open()
        except TelemetryError as error:
            self._report(str(error))

    def _start_anew(self, error: StoreCorruptError) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        self._acks.clear()
        try:
            aside = set_aside(self.path)
        except OSError as failure:
            self._report(f"{error} It cannot be set aside either: {failure.strerror}.")
            return
        self.started_anew = f"{error} It was set aside as {aside.name}; what was not delivered from it is lost."
        self._report(self.started_anew)
        self._reopen()
