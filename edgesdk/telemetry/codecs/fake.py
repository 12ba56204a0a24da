"""A codec for tests of other people's sinks: remembers every record it encoded."""

from __future__ import annotations

from typing import ClassVar

from edgesdk.telemetry.codecs.api import Message, Record
from edgesdk.telemetry.codecs.json import JsonCodec
from edgesdk.telemetry.topics import Topics


class FakeCodec:
    """Encodes like the `json` codec and keeps ``(record, backfill)`` of each call in ``encoded``."""

    name: ClassVar[str] = "fake"
    reliable: ClassVar[bool] = True

    def __init__(self, topics: Topics) -> None:
        self._json = JsonCodec(topics)
        self.encoded: list[tuple[Record, bool]] = []

    def encode(self, record: Record, *, backfill: bool) -> Message:
        """The same message as the `json` codec's."""
        self.encoded.append((record, backfill))
        return self._json.encode(record, backfill=backfill)
