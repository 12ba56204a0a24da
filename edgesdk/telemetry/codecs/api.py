"""The seam between the outbox and what goes over the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from edgesdk.telemetry.topics import Topics

Kind = Literal["result", "gap"]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the outbox."""

    row: int
    """Place in the outbox; grows, never used twice."""
    kind: Kind
    stream: str
    sequence: int
    id: str
    body: bytes
    """The payload as JSON, without ``backfill``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One MQTT message."""

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    retain: bool = False
    content_type: str = "application/json"
    correlation: bytes | None = None


@runtime_checkable
class Codec(Protocol):
    """Turns a record into a message, the same way every time. Constructed once per app."""

    name: ClassVar[str]
    reliable: ClassVar[bool]
    """True when it sends with QoS 1, so that an acknowledgement may mark the record delivered."""

    def __init__(self, topics: Topics) -> None: ...

    def encode(self, record: Record, *, backfill: bool) -> Message:
        """The message for ``record``; ``backfill`` says that it is not live."""
