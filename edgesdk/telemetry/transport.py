"""The seam between the session and an MQTT client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edgesdk.errors import TelemetryError
from edgesdk.telemetry.codecs.api import Message


class TransportError(TelemetryError):
    """The broker cannot be reached or refuses us; the session tries again with back-off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the broker said when it let us in."""

    receive_maximum: int = 65535
    """Most messages with QoS 1 that may wait for their acknowledgement."""
    maximum_packet_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker answered a publish."""

    token: int
    reason_code: int
    """MQTT 5 reason code; 0x80 and above is a refusal. Always 0 over MQTT 3.1.1."""
    reason: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of a topic filter that we subscribed to."""

    topic: str
    payload: bytes
    retain: bool
    correlation: bytes | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone."""

    reason: str


Event = Acked | Arrived | Lost


@runtime_checkable
class Transport(Protocol):
    """One connection, used by one thread (``wake`` by any). Never reconnects and never queues by itself."""

    def connect(self, *, will: Message, subscribe: str) -> Limits:
        """Connect with a will, subscribe to the commands, wait for both answers.

        Raises:
            TransportError: Unreachable, refused, or no answer; the text says which, and the fix.
        """

    def publish(self, message: Message) -> int:
        """Hand over a message; a token that its ``Acked`` will carry. Failures show as ``Lost`` in ``poll``."""

    def poll(self, timeout_s: float) -> list[Event]:
        """Do the network's work until something happened, ``wake`` was called, or time ran out."""

    def wake(self) -> None:
        """Make ``poll`` return soon."""

    def close(self, *, polite: bool) -> None:
        """Disconnect; ``polite`` tells the broker, which then does not send the will."""
