"""The default codec: the stored JSON as it is, QoS 1."""

from __future__ import annotations

from typing import ClassVar

from edgesdk.telemetry.codecs.api import Message, Record
from edgesdk.telemetry.topics import Topics

BACKFILL = b',"backfill":true}'


class JsonCodec:
    """`edgesdk.result/1` and `edgesdk.gap/1`, see docs/telemetry."""

    name: ClassVar[str] = "json"
    reliable: ClassVar[bool] = True

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._by_stream: dict[str, str] = {}

    def encode(self, record: Record, *, backfill: bool) -> Message:
        """The record's body; ``backfill`` is spliced in before the last brace, so nothing is decoded again."""
        topic = self._by_stream.get(record.stream)
        if topic is None:
            topic = self._by_stream[record.stream] = self._topics.results(record.stream)
        return Message(topic=topic, payload=record.body[:-1] + BACKFILL if backfill else record.body)
