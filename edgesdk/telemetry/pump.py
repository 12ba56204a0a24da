"""The inner loop of a connection: at most so many unacknowledged messages, live records first."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from edgesdk.telemetry.codecs.api import Codec, Message, Record
from edgesdk.telemetry.lanes import Lanes
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.suspects import HOLD_S, Suspects
from edgesdk.telemetry.transport import Acked, Arrived, Limits, Lost, Transport, TransportError

MAX_IN_FLIGHT = 20
"""Most unacknowledged messages: what mosquitto and AWS grant at least, and paho is slower with more."""
PACKET_OVERHEAD_BYTES = 100
"""Fixed header, packet id and properties of a PUBLISH, at most."""
GOODBYE_S = 2.0
"""How long the broker may take to acknowledge the last message."""


class Mail:
    """What goes out besides records; shared by the session and its connections."""

    def __init__(self) -> None:
        self.control: deque[Message] = deque()
        """Birth and answers, in order."""
        self.health: Message | None = None
        """The newest report that was not sent."""
        self.stop_at: float | None = None
        """Monotonic time after which nothing but the goodbye is sent."""


class Pump:
    """Moves messages over one connection, on the session thread.

    Args:
        transport: Connected.
        limits: What the broker said when it let us in.
        lanes: Which record goes next.
        outbox: Learns what was delivered.
        codec: How records are written.
        mail: Everything that is no record.
        on_command: Called with each command.
        goodbye: The last message of a clean end.
        on_refused: Called with the text when the broker refuses a message.
        suspects: Learns what was in flight when the connection ended.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        limits: Limits,
        lanes: Lanes,
        outbox: Outbox,
        codec: Codec,
        mail: Mail,
        on_command: Callable[[Arrived, Lanes], None],
        goodbye: Callable[[], Message],
        on_refused: Callable[[str], None],
        suspects: Suspects,
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._lanes = lanes
        self._outbox = outbox
        self._codec = codec
        self._mail = mail
        self._on_command = on_command
        self._make_goodbye = goodbye
        self._on_refused = on_refused
        self._suspects = suspects
        self._limit = max(1, min(MAX_IN_FLIGHT, limits.receive_maximum))
        # Old records leave room, so that a live one goes out at once even while a backlog drains.
        self._old_limit = max(1, self._limit - self._limit // 4)
        self._waiting: dict[int, tuple[Record | None, bool]] = {}
        self._old_waiting = 0
        self._goodbye: int | None = None

    def run(self) -> bool:
        """Until the connection is lost (raises) or everything was said at the end (True)."""
        while True:
            for event in self._transport.poll(self._timeout_s()):
                if isinstance(event, Acked):
                    self._acked(event)
                    if event.token == self._goodbye:
                        return True
                elif isinstance(event, Arrived):
                    self._on_command(event, self._lanes)
                else:
                    raise TransportError(self._lost(event))
            stop_at = self._mail.stop_at
            if stop_at is not None and self._finished(stop_at):
                if self._goodbye is None:
                    self._goodbye = self._transport.publish(self._make_goodbye())
                elif time.monotonic() > stop_at + GOODBYE_S:
                    return True
                continue
            self._send()

    def _finished(self, stop_at: float) -> bool:
        done = not self._waiting and self._outbox.pending == 0 and not self._mail.control
        return self._goodbye is not None or done or time.monotonic() >= stop_at

    def _timeout_s(self) -> float:
        retry = self._lanes.retry_in_s()
        if self._mail.stop_at is not None:
            return 0.02
        return 1.0 if retry is None or retry <= 0 else min(1.0, retry)

    def _send(self) -> None:
        while len(self._waiting) < self._limit:
            message: Message | None
            if self._mail.control:
                self._publish(self._mail.control.popleft(), None, old=False)
                continue
            message, self._mail.health = self._mail.health, None
            if message is not None:
                self._publish(message, None, old=False)
                continue
            if not self._lanes.ready or (self._lanes.in_flight and self._suspects.careful):
                return
            record, old = self._lanes.next_live(), False
            if record is None and self._old_waiting < self._old_limit:
                record, old = self._lanes.next_old(), True
            if record is None:
                if self._mail.control:
                    continue
                return
            self._publish(self._codec.encode(record, backfill=old), record, old=old)

    def _publish(self, message: Message, record: Record | None, *, old: bool) -> None:
        limit = self._limits.maximum_packet_bytes
        size = len(message.payload) + len(message.topic) + PACKET_OVERHEAD_BYTES
        if limit is not None and size > limit:
            self._on_refused(
                f"broker: takes packets of at most {limit} bytes, and {message.topic} has one of about {size}. It stays "
                "in the outbox; raise the broker's limit, or publish smaller results."
            )
            if record is not None:
                self._lanes.refused(record.row)
            return
        token = self._transport.publish(message)
        self._waiting[token] = (record, old)
        if record is not None:
            self._lanes.in_flight.add(record.row)
            self._old_waiting += old

    def _acked(self, event: Acked) -> None:
        record, old = self._waiting.pop(event.token, (None, False))
        if event.reason_code >= 0x80:
            where = f"{record.stream} sequence {record.sequence}" if record else "a status, health or response message"
            self._on_refused(
                f"broker: refuses {where}: {event.reason} (0x{event.reason_code:02X}). It stays in the outbox and is "
                "tried again. Check the broker's access rules and quota for this client."
            )
        if record is None:
            return
        self._lanes.in_flight.discard(record.row)
        self._suspects.answered(record.row)
        self._old_waiting -= old
        if event.reason_code >= 0x80:
            self._lanes.refused(record.row)
        else:
            self._outbox.acknowledge(record.row)

    def _lost(self, event: Lost) -> str:
        records = {record.row: record for record, _ in self._waiting.values() if record is not None}
        guilty = self._suspects.lost(records)
        if guilty is None:
            return (
                f"broker: connection lost: {event.reason}. What was not acknowledged is sent again after the reconnect."
            )
        record = records[guilty]
        return (
            f"broker: ends the connection whenever it gets {record.stream} sequence {record.sequence} "
            f"({len(record.body)} bytes): {event.reason}. It stays in the outbox and is tried again in {HOLD_S:g} s. "
            "Does the broker limit the payload's size? Raise that limit, or publish smaller results."
        )
