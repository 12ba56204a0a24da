"""Which record goes next: live ones first, then replays and the backlog, each lane in order.

The writer thread fills the lanes, the session thread empties them; deques make that safe without a lock of ours.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgesdk.telemetry.codecs.api import Record
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.store import Store
from edgesdk.telemetry.suspects import Suspects

CHUNK = 64
"""Records read from the disk at once."""
LIVE_ENTRIES = 512
LIVE_BYTES = 4 << 20
"""Live records kept in memory; what comes beyond is read from the disk when its turn has come."""
RETRY_FIRST_S = 5.0
RETRY_MAX_S = 600.0
"""How long records that the broker refused wait for their next turn."""
MISSING_RANGES = 100


@dataclass(slots=True)
class Replay:
    """One replay on its way."""

    stream: str
    first: int
    last: int
    finished: Callable[[Replay], None]
    """Called on the session thread after the last record was handed over."""
    sent: int = 0
    pending: int = 0
    missing: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    next: int = 0
    complete: bool = False
    """Nothing more to read."""

    def lost(self, first: int, last: int) -> None:
        """The outbox has these sequences no longer."""
        if last < first:
            return
        self.missing += last - first + 1
        if len(self.ranges) < MISSING_RANGES:
            self.ranges.append((first, last))


class Lanes:
    """Live, backlog and replay lanes of one connection.

    Args:
        outbox: Where records come from.
        wake: Wakes the session thread; called on the writer thread.
        suspects: Which records must wait.
    """

    def __init__(self, outbox: Outbox, wake: Callable[[], None], suspects: Suspects) -> None:
        self._outbox = outbox
        self._wake = wake
        self._suspects = suspects
        self.ready = False
        """The writer has told where the backlog ends."""
        self._live: deque[Record] = deque()
        self._live_last = 0
        self._live_bytes = 0
        self._behind = False
        self._reading_live = False
        self._backlog: deque[Record] = deque()
        self._cursor = 0
        self._upto = 0
        self._reading_backlog = False
        self._refused_upto = 0
        self._retry_s = RETRY_FIRST_S
        self._retry_at: float | None = None
        self._replays: deque[Replay] = deque()
        self._replay_records: deque[Record] = deque()
        self._reading_replay = False
        self._turn = False
        self._closed = False
        self.in_flight: set[int] = set()
        """Rows that were handed over and not answered."""
        held = suspects.held()
        if held is not None:
            self._refused_upto, wait_s = held
            self._retry_at = time.monotonic() + wait_s
        outbox.attach(self, self._attached)

    # -- the writer thread -----------------------------------------------------------------------------------------

    def _attached(self, last_row: int) -> None:
        if not self._closed:
            self._upto = self._live_last = last_row
            self.ready = True
            self._wake()

    def offer(self, records: Sequence[Record]) -> None:
        """Committed just now."""
        if self._closed:
            return
        if not self._behind:
            for record in records:
                if len(self._live) >= LIVE_ENTRIES or self._live_bytes >= LIVE_BYTES:
                    self._behind = True
                    break
                self._live.append(record)
                self._live_bytes += len(record.body)
                self._live_last = record.row
        self._wake()

    def _fill_live(self, store: Store) -> None:
        records, self._live_last = self._outbox.read_pending(store, self._live_last, store.last_row, CHUNK)
        self._live.extend(records)
        self._live_bytes += sum(len(record.body) for record in records)
        self._behind = self._live_last < store.last_row
        self._reading_live = False
        self._wake()

    def _fill_backlog(self, store: Store) -> None:
        records, self._cursor = self._outbox.read_pending(store, self._cursor, self._upto, CHUNK)
        self._backlog.extend(records)
        self._reading_backlog = False
        self._wake()

    def _fill_replay(self, store: Store) -> None:
        replay = self._replays[0]
        last = min(replay.last, store.sequences.get(replay.stream, 0))
        found = store.read_stream(replay.stream, replay.next, last, CHUNK)
        for record, delivered in found:
            replay.lost(replay.next, record.sequence - 1)
            replay.next = record.sequence + 1
            if delivered:
                replay.sent += 1
                self._replay_records.append(record)
            else:
                replay.pending += 1
        if len(found) < CHUNK:
            replay.lost(replay.next, replay.last)
            replay.complete = True
        self._reading_replay = False
        self._wake()

    # -- the session thread ----------------------------------------------------------------------------------------

    def next_live(self) -> Record | None:
        """The next live record."""
        if self._live:
            record = self._live.popleft()
            self._live_bytes = self._live_bytes - len(record.body) if self._live else 0
            return record
        if self._behind and not self._reading_live:
            self._reading_live = True
            self._outbox.submit(self._fill_live)
        return None

    def next_old(self) -> Record | None:
        """The next record of the replay or backlog lane; they take turns, so that neither waits for the other."""
        self._turn = not self._turn
        for lane in (self._next_replay, self._next_backlog) if self._turn else (self._next_backlog, self._next_replay):
            record = lane()
            if record is not None:
                return record
        return None

    def _next_replay(self) -> Record | None:
        if self._replay_records:
            return self._replay_records.popleft()
        if self._replays and not self._reading_replay:
            if self._replays[0].complete:
                replay = self._replays.popleft()
                replay.finished(replay)
            else:
                self._reading_replay = True
                self._outbox.submit(self._fill_replay)
        return None

    def _next_backlog(self) -> Record | None:
        read_all = self._cursor >= self._upto and not self._backlog and not self._reading_backlog
        if read_all:
            self._suspects.forget(self._upto, self.in_flight)
        if read_all and self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
            self._upto, self._cursor, self._refused_upto = max(self._upto, self._refused_upto), 0, 0
        if self._cursor < self._upto and not self._reading_backlog and len(self._backlog) < CHUNK // 2:
            self._reading_backlog = True  # ahead of need, so that the broker does not wait for the disk
            self._outbox.submit(self._fill_backlog)
        while self._backlog:
            record = self._backlog.popleft()
            if record.row not in self.in_flight and not self._suspects.holds(record.row):
                return record
        return None

    def refused(self, row: int) -> None:
        """The broker said no to this row: try again later, from the backlog lane."""
        self._refused_upto = max(self._refused_upto, row)
        if self._retry_at is None:
            self._retry_at = time.monotonic() + self._retry_s
            self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def retry_in_s(self) -> float | None:
        """When the next refused record may go; None when there is none."""
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    def replay(self, replay: Replay) -> bool:
        """Queue a replay; False when four are waiting already."""
        if len(self._replays) >= 4:
            return False
        replay.next = replay.first
        self._replays.append(replay)
        return True

    def close(self) -> None:
        """The connection is gone: take nothing any more."""
        self._closed = True
