"""One thread that keeps the app connected and empties the outbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from edgesdk.telemetry.backoff import FullJitter
from edgesdk.telemetry.codecs.api import Codec, Message
from edgesdk.telemetry.commands import Commands
from edgesdk.telemetry.lanes import Lanes
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.pump import Mail, Pump
from edgesdk.telemetry.suspects import Suspects
from edgesdk.telemetry.topics import Topics
from edgesdk.telemetry.transport import Transport, TransportError

log = logging.getLogger("edgesdk.telemetry")

STABLE_S = 10.0
"""A connection that held this long starts the back-off anew; a shorter one may be a fight over the client id."""

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
        self._mail = Mail()
        self._suspects = Suspects()
        self._commands = Commands(topics, outbox, self._mail.control.append)
        self._transport: Transport | None = None
        self._stopping = threading.Event()
        self.connected = False
        self.connections = 0
        self.refused = 0
        self.problem: str | None = None

    # -- any thread ------------------------------------------------------------------------------------------------

    def stop(self, flush_timeout_s: float) -> None:
        """Send what is pending for at most this long, say goodbye, end the thread."""
        self._mail.stop_at = time.monotonic() + flush_timeout_s
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Look at the lanes."""
        transport = self._transport
        if transport is not None:
            transport.wake()

    def health(self, message: Message) -> None:
        """Send this when connected; a newer one replaces it."""
        self._mail.health = message
        self.wake()

    # -- the session thread ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect again and again until stopped; at least once, so that a short run delivers too."""
        attempts = 0
        while attempts == 0 or not self._stopping.is_set():
            attempts += 1
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
            except Exception as error:
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
            will = self._status_message("offline")
            limits = transport.connect(will=will, subscribe=self._topics.commands)
            self.problem = None
            for warning in getattr(transport, "warnings", ()):
                self._report(warning)
            self._transport = transport
            self._mail.control.clear()
            self._mail.control.append(self._status_message("online"))
            self.connections += 1
            lanes = Lanes(self._outbox, transport.wake, self._suspects)
            pump = Pump(
                transport=transport,
                limits=limits,
                lanes=lanes,
                outbox=self._outbox,
                codec=self._codec,
                mail=self._mail,
                on_command=self._commands.handle,
                goodbye=lambda: self._status_message("offline"),
                on_refused=self._refused,
                suspects=self._suspects,
            )
            self.connected = True
            log.info("mqtt: connected")
            polite = pump.run()
        finally:
            if lanes is not None:
                lanes.close()
            self._outbox.detach()
            transport.close(polite=polite)

    def _status_message(self, state: State) -> Message:
        return Message(topic=self._topics.status, payload=self._status(state), retain=True)

    def _refused(self, problem: str) -> None:
        self.refused += 1
        self._report(problem)

    def _report(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem
