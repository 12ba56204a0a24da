"""Writes what the outbox stores: the header around a result's body, and gap records."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from edgesdk.telemetry.clock import ClockState, boot_id, rfc3339
from edgesdk.telemetry.codecs.api import Record
from edgesdk.telemetry.ids import uuid7
from edgesdk.telemetry.payloads import GAP, Gap, ResultHeader
from edgesdk.telemetry.ring import Entry
from edgesdk.telemetry.store import GapCount
from edgesdk.telemetry.topics import Topics


class RecordWriter:
    """Gives records their place, sequence and payload. Used by the writer thread only.

    Args:
        topics: Device and app of every record.
    """

    def __init__(self, topics: Topics) -> None:
        self._device = topics.device
        self._app = topics.app
        self._clock = ClockState()
        self._encode = msgspec.json.Encoder().encode

    def results(self, row: int, entries: Sequence[Entry], last: dict[str, int], epoch: str) -> list[Record]:
        """Records of ``entries``, in rows from ``row + 1``; ``last`` holds the streams' last sequences and moves on."""
        records: list[Record] = []
        synced = self._clock.synced()
        for entry in entries:
            row += 1
            sequence = last[entry.stream] = last.get(entry.stream, 0) + 1
            header = self._encode(
                ResultHeader(
                    device=self._device,
                    app=self._app,
                    stream=entry.stream,
                    time=rfc3339(entry.time_ns),
                    clock_synced=synced,
                    id=entry.id,
                    epoch=epoch,
                    sequence=sequence,
                    boot_id=boot_id(),
                    monotonic_ns=entry.monotonic_ns,
                )
            )
            # The publisher encoded the body; the two JSON objects become one.
            body = header[:-1] + b"," + entry.body[1:]
            records.append(Record(row, "result", entry.stream, sequence, entry.id, body))
        return records

    def gaps(self, row: int, gaps: Sequence[GapCount], last: dict[str, int], epoch: str) -> list[Record]:
        """As :meth:`results`, for gap records."""
        records: list[Record] = []
        for gap in gaps:
            row += 1
            sequence = last[gap.stream] = last.get(gap.stream, 0) + 1
            id_ = uuid7()
            body = Gap(
                schema=GAP,
                device=self._device,
                app=self._app,
                stream=gap.stream,
                time=rfc3339(time.time_ns()),
                clock_synced=self._clock.synced(),
                id=id_,
                epoch=epoch,
                sequence=sequence,
                boot_id=boot_id(),
                rule="drop_newest" if gap.rule == "drop_newest" else "drop_oldest",
                dropped=gap.dropped,
                first_sequence=gap.first,
                last_sequence=gap.last,
            )
            records.append(Record(row, "gap", gap.stream, sequence, id_, self._encode(body)))
        return records
