"""A transport without a network, for tests: a scripted broker in memory that passes the transports' contract suite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgesdk.telemetry.codecs.api import Message
from edgesdk.telemetry.transport import Acked, Arrived, Event, Limits, Lost, TransportError


class FakeBroker:
    """What a :class:`FakeTransport` talks to. Set its attributes to script it.

    Args:
        limits: What it tells clients.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.received: list[Message] = []
        """Every message that it took, in order."""
        self.reachable = True
        self.acknowledge = True
        """False: it takes messages and stays silent."""
        self.answer: Callable[[Message], int] = lambda _message: 0
        """Reason code for a message; 0x80 and above refuses it."""
        self.hangs_up: Callable[[Message], bool] = lambda _message: False
        """Whether a message makes it cut the connections, as brokers do with packets that are too large for them."""
        self.most_in_flight = 0
        """Most messages that ever waited for their acknowledgement."""
        self.wills: list[Message] = []
        """Wills that were due because a client vanished."""
        self._clients: list[FakeTransport] = []
        self._lock = threading.Lock()

    def transport(self) -> FakeTransport:
        """A fresh connection."""
        return FakeTransport(self)

    def drop_clients(self) -> None:
        """Cut every connection, as a broken network does; what was not acknowledged is forgotten."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            if client.will is not None:
                self.wills.append(client.will)
            client.deliver(Lost("the fake broker cut the connection"))

    def send(self, topic: str, payload: bytes, *, correlation: bytes | None = None) -> None:
        """Deliver a message to every client (there is no matching of topic filters)."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.deliver(Arrived(topic, payload, retain=False, correlation=correlation))

    def release(self) -> None:
        """Acknowledge again, and answer what waits."""
        self.acknowledge = True
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.answer_waiting()

    def enter(self, client: FakeTransport) -> None:
        """A client connects."""
        if not self.reachable:
            raise TransportError("fake broker: cannot be reached: it is switched off. Set reachable = True.")
        with self._lock:
            self._clients.append(client)

    def leave(self, client: FakeTransport, *, polite: bool) -> None:
        """A client disconnects; without a word its will is due."""
        with self._lock:
            known = client in self._clients
            if known:
                self._clients.remove(client)
        if known and not polite and client.will is not None:
            self.wills.append(client.will)


class FakeTransport:
    """One connection to a :class:`FakeBroker`."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._events: list[Event] = []
        self._waiting: dict[int, Message] = {}
        self._token = 0
        self._changed = threading.Condition()
        self._woken = False
        self._lost = False
        self.will: Message | None = None
        self.subscribed: str | None = None

    def connect(self, *, will: Message, subscribe: str) -> Limits:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        self.will, self.subscribed = will, subscribe
        self._broker.enter(self)
        return self._broker.limits

    def publish(self, message: Message) -> int:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        with self._changed:
            self._token += 1
            token = self._token
            if self._lost:
                return token
            if self._broker.hangs_up(message):
                self._broker.drop_clients()
                return token
            self._broker.received.append(message)
            self._waiting[token] = message
            self._broker.most_in_flight = max(self._broker.most_in_flight, len(self._waiting))
        if self._broker.acknowledge:
            self.answer_waiting()
        return token

    def answer_waiting(self) -> None:
        """Acknowledge or refuse everything that waits."""
        with self._changed:
            for token, message in self._waiting.items():
                code = self._broker.answer(message)
                self._events.append(Acked(token, code, "Success" if code < 0x80 else "refused by the script"))
            self._waiting.clear()
            self._changed.notify_all()

    def deliver(self, event: Event) -> None:
        """Something for ``poll``."""
        with self._changed:
            self._lost = self._lost or isinstance(event, Lost)
            self._events.append(event)
            self._changed.notify_all()

    def poll(self, timeout_s: float) -> list[Event]:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (self._events or self._woken):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._woken = False
            events, self._events = self._events, []
            return events

    def wake(self) -> None:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self, *, polite: bool) -> None:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        self._broker.leave(self, polite=polite)
