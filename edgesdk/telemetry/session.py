"""One thread that keeps the app connected and empties the outbox."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from edgesdk.telemetry.backoff import FullJitter
from edgesdk.telemetry.codecs.api import Codec, Message, Record
from edgesdk.telemetry.commands import Commands
from edgesdk.telemetry.lanes import Lanes
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.topics import Topics
from edgesdk.telemetry.transport import Acked, Arrived, Limits, Lost, Transport, TransportError

log = logging.getLogger("edgesdk.telemetry")

MAX_IN_FLIGHT = 20
"""Most unacknowledged messages: what mosquitto and AWS grant at least, and paho is slower with more."""
STABLE_S = 10.0
"""A connection that held this long starts the back-off anew; a shorter one may be a fight over the client id."""
PACKET_OVERHEAD_BYTES = 100
"""Fixed header, packet id and properties of a PUBLISH, at most."""

State = Literal["online", "offline"]


class Session(threading.Thread):
    """Connects, publishes the birth, forwards records, answers commands, reconnects.

    Args:
        transport: Makes a fresh transport for each connection.
        outbox: Where records come from.
        codec: How they are written.
        topics: Status and command topics.
        status: Payload of birth and will.
        backoff: Waits between attempts.
    """

    def __init__(
        self,
        *,
        transport: Callable[[], Transport],
        outbox: Outbox,
        codec: Codec,
        topics: Topics,
        status: Callable[[State], bytes],
        backoff: FullJitter,
    ) -> None:
        super().__init__(name="edgesdk-mqtt", daemon=True)
        self._make_transport = transport
        self._outbox = outbox
        self._codec = codec
        self._topics = topics
        self._status = status
        self._backoff = backoff
        self._commands = Commands(topics, outbox, self._enqueue)
        self._control: deque[Message] = deque()
        self._health: Message | None = None
        self._transport: Transport | None = None
        self._stop_at: float | None = None
        self._stopping = threading.Event()
        self.connected = False
        self.connections = 0
        self.refused = 0
        self.replayed = 0
        self.problem: str | None = None

    # -- any thread ------------------------------------------------------------------------------------------------

    def stop(self, flush_timeout_s: float) -> None:
        """Send what is pending for at most this long, say goodbye, end the thread."""
        self._stop_at = time.monotonic() + flush_timeout_s
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Look at the lanes."""
        transport = self._transport
        if transport is not None:
            transport.wake()

    def health(self, message: Message) -> None:
        """Send this when connected; a newer one replaces it."""
        self._health = message
        self.wake()

    # -- the session thread ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect again and again until stopped."""
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                transport = self._make_transport()
                try:
                    self._connection(transport)
                finally:
                    self.connected = False
                    self._transport = None
            except TransportError as error:
                self._report(str(error))
            except Exception as error:  # noqa: BLE001 - the session must survive its bugs, or results stop for good
                log.exception("mqtt: unexpected error")
                self._report(f"mqtt: unexpected {type(error).__name__}: {error}. Please report it.")
            if time.monotonic() - started >= STABLE_S:
                self._backoff.reset()
            if not self._stopping.is_set():
                self._stopping.wait(self._backoff.next_s())

    def _connection(self, transport: Transport) -> None:
        polite = False
        lanes: Lanes | None = None
        try:
            will = Message(topic=self._topics.status, payload=self._status("offline"), retain=True)
            limits = transport.connect(will=will, subscribe=self._topics.commands)
            self.problem = None
            for warning in getattr(transport, "warnings", ()):
                self._report(warning)
            self._transport = transport
            self._control.clear()
            self._enqueue(Message(topic=self._topics.status, payload=self._status("online"), retain=True))
            self.connections += 1
            lanes = Lanes(self._outbox, transport.wake)
            pump = _Pump(self, transport, lanes, limits)
            self.connected = True
            log.info("mqtt: connected")
            polite = pump.run()
        finally:
            if lanes is not None:
                lanes.close()
            self._outbox.detach()
            transport.close(polite=polite)

    def _enqueue(self, message: Message) -> None:
        self._control.append(message)

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem


class _Pump:
    """Moves messages over one connection."""

    def __init__(self, session: Session, transport: Transport, lanes: Lanes, limits: Limits) -> None:
        self._session = session
        self._transport = transport
        self._lanes = lanes
        self._limits = limits
        self._limit = max(1, min(MAX_IN_FLIGHT, limits.receive_maximum))
        # Old records leave room, so that a live one goes out at once even while a backlog drains.
        self._old_limit = max(1, self._limit - self._limit // 4)
        self._waiting: dict[int, tuple[Record | None, bool]] = {}
        self._old_waiting = 0
        self._goodbye: int | None = None

    def run(self) -> bool:
        """Until the connection is lost (raises) or everything was said at the end (True)."""
        session = self._session
        while True:
            for event in self._transport.poll(self._timeout_s()):
                if isinstance(event, Acked):
                    self._acked(event)
                    if event.token == self._goodbye:
                        return True
                elif isinstance(event, Arrived):
                    session._commands.handle(event, self._lanes)  # noqa: SLF001 - the pump is the session's own half
                else:
                    raise TransportError(_lost(event))
            if session._stop_at is not None and self._finished(session._stop_at):  # noqa: SLF001 - as above
                if self._goodbye is None:
                    self._goodbye = self._transport.publish(
                        Message(topic=session._topics.status, payload=session._status("offline"), retain=True)  # noqa: SLF001 - as above
                    )
                elif time.monotonic() > session._stop_at + 2.0:  # noqa: SLF001 - as above
                    return True
                continue
            self._send()

    def _finished(self, stop_at: float) -> bool:
        done = not self._waiting and self._session._outbox.pending == 0 and not self._session._control  # noqa: SLF001 - as above
        return self._goodbye is not None or done or time.monotonic() >= stop_at

    def _timeout_s(self) -> float:
        retry = self._lanes.retry_in_s()
        if self._session._stop_at is not None:  # noqa: SLF001 - as above
            return 0.02
        return 1.0 if retry is None or retry <= 0 else min(1.0, retry)

    def _send(self) -> None:
        session = self._session
        while len(self._waiting) < self._limit:
            message: Message | None
            if session._control:  # noqa: SLF001 - as above
                self._publish(session._control.popleft(), None, old=False)  # noqa: SLF001 - as above
                continue
            message, session._health = session._health, None  # noqa: SLF001 - as above
            if message is not None:
                self._publish(message, None, old=False)
                continue
            if not self._lanes.ready:
                return
            record, old = self._lanes.next_live(), False
            if record is None and self._old_waiting < self._old_limit:
                record, old = self._lanes.next_old(), True
            if record is None:
                if session._control:  # noqa: SLF001 - a replay that just ended has queued its answer
                    continue
                return
            self._publish(session._codec.encode(record, backfill=old), record, old=old)  # noqa: SLF001 - as above

    def _publish(self, message: Message, record: Record | None, *, old: bool) -> None:
        limit = self._limits.maximum_packet_bytes
        size = len(message.payload) + len(message.topic) + PACKET_OVERHEAD_BYTES
        if limit is not None and size > limit:
            self._session._report(  # noqa: SLF001 - as above
                f"broker: takes packets of at most {limit} bytes, and {message.topic} has one of about {size}. It stays "
                "in the outbox; raise the broker's limit, or publish smaller results."
            )
            if record is not None:
                self._refused(record)
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
            self._session._report(  # noqa: SLF001 - as above
                f"broker: refuses {where}: {event.reason} (0x{event.reason_code:02X}). It stays in the outbox and is "
                "tried again. Check the broker's access rules and quota for this client."
            )
        if record is None:
            return
        self._lanes.in_flight.discard(record.row)
        self._old_waiting -= old
        if event.reason_code >= 0x80:
            self._refused(record)
        else:
            self._session._outbox.acknowledge(record.row)  # noqa: SLF001 - as above

    def _refused(self, record: Record) -> None:
        self._session.refused += 1
        self._lanes.refused(record.row)


def _lost(event: Lost) -> str:
    return f"broker: connection lost: {event.reason}. What was not acknowledged is sent again after the reconnect."
