"""The outbox's SQLite file: one connection, used by one thread only, WAL with synchronous=FULL.

One connection because SQLite before 3.51.3 can corrupt a WAL that two connections share (sqlite.org/wal.html,
"the WAL-reset bug"); boards ship 3.40 and 3.46. FULL because NORMAL loses committed rows on a power cut.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesdk.errors import TelemetryError
from edgesdk.telemetry.codecs.api import Kind, Record

if TYPE_CHECKING:
    import sqlite3

PAGE_BYTES = 4096
MIN_SIZE_BYTES = 1 << 20
"""Smallest ``max_size``: below it the WAL and one batch would not fit."""
ROW_OVERHEAD_BYTES = 200
"""Row header, id, stream and index entries of one record; measured 150-190 with 36-byte ids."""
_USER_VERSION = 1
_CHECK_BYTES = 64 << 20
# An outbox larger than this is not checked page by page at the start: a slow SD card would take seconds.

_SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams(stream TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rows(
  row INTEGER PRIMARY KEY, delivered_ns INTEGER, kind TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL,
  id TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX by_sequence ON rows(stream, sequence);
CREATE INDEX pending ON rows(row) WHERE delivered_ns IS NULL;
CREATE INDEX delivered ON rows(row) WHERE delivered_ns IS NOT NULL;
CREATE TABLE gaps(
  stream TEXT NOT NULL, rule TEXT NOT NULL, dropped INTEGER NOT NULL, first INTEGER, last INTEGER,
  PRIMARY KEY(stream, rule)) WITHOUT ROWID;
PRAGMA user_version={_USER_VERSION};
"""
_COLUMNS = "row, kind, stream, sequence, id, body"


class StoreCorruptError(TelemetryError):
    """The file is no outbox any more; it has to be set aside."""


class StoreUnavailableError(TelemetryError):
    """The disk is full, or refuses to write; trying again later may help."""


@dataclass(slots=True)
class GapCount:
    """Results of one stream that one rule dropped and no gap record has told yet."""

    stream: str
    rule: str
    dropped: int
    first: int | None
    last: int | None


class Store:
    """The open file. Every method runs on the writer thread.

    Args:
        path: The SQLite file; its folder exists.
        max_size_bytes: Bound of the file and its WAL together.
        epoch: Written when the file is new; read back from an old one.

    Raises:
        StoreCorruptError: The file is damaged or no outbox.
        StoreUnavailableError: It cannot be opened now.
        TelemetryError: Another process uses it, or it was written by a newer edgesdk.
    """

    def __init__(self, path: Path, *, max_size_bytes: int, epoch: str) -> None:
        import sqlite3

        self._sqlite = sqlite3
        self.sqlite_error = sqlite3.Error
        self.path = path
        wal_bytes = min(max(max_size_bytes // 4, 512 << 10), 8 << 20)
        self._max_pages = (max_size_bytes - wal_bytes) // PAGE_BYTES
        self.budget_bytes = int(self._max_pages * 0.9) * PAGE_BYTES
        """What rows may fill; the rest is room for indexes to split and for the delivered marks."""
        self._wal_bytes = wal_bytes
        self._connection: sqlite3.Connection | None = None
        try:
            self._open(epoch)
        except sqlite3.Error as error:
            self.close()
            raise self.translated(error) from error
        except BaseException:
            self.close()
            raise

    def _open(self, epoch: str) -> None:
        self._connection = connection = self._sqlite.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=1.0
        )
        execute = connection.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")  # no second process, and no shared-memory file
        version = int(execute("PRAGMA user_version").fetchone()[0])
        tables = int(execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if tables and version == 0:
            raise StoreCorruptError(f"{self.path}: is a SQLite file, but no outbox of edgesdk.")
        if version > _USER_VERSION:
            raise TelemetryError(
                f"{self.path}: written by a newer edgesdk (outbox version {version}, this one reads {_USER_VERSION}). "
                "Upgrade edgesdk, or name another outbox.path."
            )
        if not tables:
            execute(f"PRAGMA page_size={PAGE_BYTES}")
            execute("PRAGMA auto_vacuum=INCREMENTAL")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=FULL")
        execute(f"PRAGMA wal_autocheckpoint={self._wal_bytes // 4 // PAGE_BYTES}")
        execute(f"PRAGMA journal_size_limit={self._wal_bytes // 2}")
        execute("PRAGMA cache_size=-1024")
        execute("PRAGMA temp_store=MEMORY")
        if not tables:
            execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute("INSERT INTO meta VALUES('epoch', ?)", (epoch,))
            execute("COMMIT")
        elif self.used_bytes() <= _CHECK_BYTES:
            found = execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise StoreCorruptError(f"{self.path}: {found}")
        row = execute("SELECT value FROM meta WHERE key='epoch'").fetchone()
        if row is None:
            raise StoreCorruptError(f"{self.path}: has no epoch.")
        self.epoch: str = row[0]
        self.sequences: dict[str, int] = dict(execute("SELECT stream, last FROM streams"))
        last = execute("SELECT max(row) FROM rows").fetchone()[0] or 0
        kept = execute("SELECT value FROM meta WHERE key='last_row'").fetchone()
        self.last_row: int = max(last, int(kept[0]) if kept else 0)
        self.pending: int = execute(
            "SELECT count(*) FROM rows INDEXED BY pending WHERE delivered_ns IS NULL"
        ).fetchone()[0]
        execute(f"PRAGMA max_page_count={self._max_pages}")
        if int(execute("PRAGMA page_count").fetchone()[0]) > self._max_pages:
            connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page only

    @property
    def connection(self) -> sqlite3.Connection:
        """The one connection."""
        if self._connection is None:
            raise StoreUnavailableError(f"{self.path}: the outbox is closed.")
        return self._connection

    def translated(self, error: sqlite3.Error) -> TelemetryError:
        """SQLite's error as ours: damaged, in use by another process, or not available now."""
        text = str(error)
        if "malformed" in text or "not a database" in text or "file is encrypted" in text:
            return StoreCorruptError(f"{self.path}: {text}")
        if "locked" in text:
            return TelemetryError(
                f"{self.path}: another process uses this outbox. Stop it, or give each app its own outbox.path."
            )
        fix = (
            "Free some space, or lower outbox.max_size." if "full" in text else "Check the disk and its mount options."
        )
        return StoreUnavailableError(f"{self.path}: {text}. {fix}")

    def used_bytes(self) -> int:
        """Pages in use times their size; free pages inside the file do not count."""
        pages, free = (
            int(self.connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count")
        )
        return (pages - free) * PAGE_BYTES

    # -- one transaction -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the transaction of one group commit."""
        self.connection.execute("BEGIN IMMEDIATE")

    def rollback(self) -> None:
        """Undo the open transaction, if SQLite has not done so by itself."""
        with suppress(self._sqlite.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def commit(self) -> None:
        """End the transaction; when this returns the rows are on the disk."""
        self.connection.execute("COMMIT")

    def insert(self, records: Sequence[Record]) -> None:
        """Add records and remember their streams' last sequences."""
        execute = self.connection.executemany
        execute(
            "INSERT INTO rows VALUES(?, NULL, ?, ?, ?, ?, ?)",
            [(r.row, r.kind, r.stream, r.sequence, r.id, r.body) for r in records],
        )
        execute("INSERT OR REPLACE INTO streams VALUES(?, ?)", list({r.stream: r.sequence for r in records}.items()))

    def mark_delivered(self, rows: Iterable[int]) -> int:
        """Mark rows; how many were pending before."""
        now = time.time_ns()
        return self.connection.executemany(
            "UPDATE rows SET delivered_ns=? WHERE row=? AND delivered_ns IS NULL", [(now, row) for row in rows]
        ).rowcount

    def expire(self, keep_s: float) -> None:
        """Delete records that were delivered longer than ``keep_s`` ago, oldest first."""
        limit = time.time_ns() - int(keep_s * 1e9)
        found = self.connection.execute(
            "SELECT row, delivered_ns FROM rows INDEXED BY delivered WHERE delivered_ns IS NOT NULL ORDER BY row LIMIT 500"
        ).fetchall()
        old = []
        for row, delivered_ns in found:
            if delivered_ns >= limit:
                break
            old.append(row)
        self._delete(old)

    def free_delivered(self, need_bytes: int) -> bool:
        """Delete the oldest delivered records of about ``need_bytes``; False when there are none."""
        rows = self._oldest("delivered_ns IS NOT NULL", "delivered", need_bytes)
        self._delete([row for row, *_ in rows])
        return bool(rows)

    def drop_oldest(self, need_bytes: int) -> int:
        """Delete the oldest pending results of about ``need_bytes`` and count them in ``gaps``; how many."""
        rows = self._oldest("delivered_ns IS NULL AND kind='result'", "pending", need_bytes)
        self._delete([row for row, *_ in rows])
        by_stream: dict[str, list[int]] = {}
        for _, stream, sequence in rows:
            by_stream.setdefault(stream, []).append(sequence)
        self.count_gaps(
            GapCount(stream, "drop_oldest", len(found), min(found), max(found)) for stream, found in by_stream.items()
        )
        return len(rows)

    def _oldest(self, where: str, index: str, need_bytes: int) -> list[tuple[int, str, int]]:
        found: list[tuple[int, str, int]] = []
        for row, stream, sequence, size in self.connection.execute(
            f"SELECT row, stream, sequence, length(body) FROM rows INDEXED BY {index} WHERE {where} "  # noqa: S608 - constants
            "ORDER BY row LIMIT 5000"
        ):
            found.append((row, stream, sequence))
            need_bytes -= size + ROW_OVERHEAD_BYTES
            if need_bytes <= 0:
                break
        return found

    def _delete(self, rows: Sequence[int]) -> None:
        if not rows:
            return
        if rows[-1] >= self.last_row:  # a row number must not be used twice, so remember the highest
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES('last_row', ?)", (str(self.last_row),))
        self.connection.executemany("DELETE FROM rows WHERE row=?", [(row,) for row in rows])

    def count_gaps(self, gaps: Iterable[GapCount]) -> None:
        """Add to what a later gap record will tell."""
        self.connection.executemany(
            "INSERT INTO gaps VALUES(?, ?, ?, ?, ?) ON CONFLICT(stream, rule) DO UPDATE SET "
            "dropped=dropped+excluded.dropped, "
            "first=min(coalesce(first, excluded.first), coalesce(excluded.first, first)), "
            "last=max(coalesce(last, excluded.last), coalesce(excluded.last, last))",
            [(gap.stream, gap.rule, gap.dropped, gap.first, gap.last) for gap in gaps],
        )

    def take_gaps(self) -> list[GapCount]:
        """Remove and return what was counted."""
        gaps = [
            GapCount(*row) for row in self.connection.execute("SELECT stream, rule, dropped, first, last FROM gaps")
        ]
        if gaps:
            self.connection.execute("DELETE FROM gaps")
        return gaps

    # -- reading ---------------------------------------------------------------------------------------------------

    def read_pending(self, after: int, upto: int, limit: int) -> list[Record]:
        """Undelivered records with ``after < row <= upto``, oldest first."""
        return self._records(
            f"SELECT {_COLUMNS} FROM rows INDEXED BY pending "  # noqa: S608 - constants
            "WHERE delivered_ns IS NULL AND row > ? AND row <= ? ORDER BY row LIMIT ?",
            (after, upto, limit),
        )

    def read_stream(self, stream: str, first: int, last: int, limit: int) -> list[tuple[Record, bool]]:
        """Records of a stream by sequence, each with whether it was delivered."""
        found = self.connection.execute(
            f"SELECT delivered_ns IS NOT NULL, {_COLUMNS} FROM rows INDEXED BY by_sequence "  # noqa: S608 - constants
            "WHERE stream=? AND sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?",
            (stream, first, last, limit),
        )
        return [(_record(row[1:]), bool(row[0])) for row in found]

    def _records(self, query: str, values: tuple[Any, ...]) -> list[Record]:
        return [_record(row) for row in self.connection.execute(query, values)]

    def close(self) -> None:
        """Close the file; SQLite folds the WAL into it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(self._sqlite.Error):
                connection.close()


def _record(row: tuple[Any, ...]) -> Record:
    kind: Kind = "gap" if row[1] == "gap" else "result"
    return Record(row[0], kind, row[2], row[3], row[4], row[5])


def set_aside(path: Path) -> Path:
    """Rename a damaged outbox (and its WAL) so that somebody can look at it; the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    path.rename(target)
    for suffix in ("-wal", "-shm", "-journal"):
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.rename(target.with_name(target.name + suffix))
    return target
