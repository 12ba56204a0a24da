"""A subscriber that keeps what arrived: for the demo, for tests, and as an example of a consumer."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.errors import TelemetryError
from edgesdk.telemetry.payloads import ReplayRequest
from edgesdk.telemetry.settings import parse_url
from edgesdk.telemetry.topics import Topics, check_filter

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from typing_extensions import Self  # typing has it from Python 3.11 on


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message as it arrived."""

    topic: str
    payload: bytes
    retain: bool
    properties: dict[str, Any]
    """MQTT 5 properties by name."""
    arrived_ns: int
    """Monotonic clock."""

    def json(self) -> dict[str, Any]:
        """The payload, decoded."""
        decoded: dict[str, Any] = json.loads(self.payload)
        return decoded


@dataclass(slots=True)
class _Stream:
    sequences: set[int] = field(default_factory=set)
    gaps: int = 0


class Collector:
    """Subscribes to ``topic_filter`` and remembers every message; reconnects by itself.

    Args:
        url: ``mqtt://host[:port]``.
        topic_filter: For example ``edgesdk/#``.
        on_message: Called for each message, on the network thread.
        session: Client id of a session that the broker keeps for an hour: it queues what arrives while we are away
            (unless the broker loses it). Without one, messages that arrive while we are away are not seen.

    Raises:
        TelemetryError: The topic filter is wrong, or the broker does not let us subscribe in time (``start``).
    """

    def __init__(
        self,
        url: str,
        topic_filter: str,
        *,
        on_message: Callable[[Received], None] | None = None,
        session: str | None = None,
    ) -> None:
        self._endpoint = parse_url(url)
        if self._endpoint.tls:
            raise TelemetryError("collector: speaks plain mqtt:// only. Subscribe with mosquitto_sub --cafile instead.")
        self.url = url
        self.topic_filter = check_filter(topic_filter)
        self._on_received = on_message
        self._keeps_session = session is not None
        self._client_id = session or f"edgesdk-collector-{uuid.uuid4().hex[:12]}"
        self._arrived = threading.Condition()
        self._ready = threading.Event()
        self.messages: list[Received] = []
        """Everything, in order of arrival, duplicates included."""
        self.ids: set[str] = set()
        """Distinct ids of results (gap records not counted)."""
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._client: Client | None = None

    def start(self, timeout_s: float = 10.0) -> Collector:
        """Connect and wait until the subscription stands; again after ``close``, what arrived is kept."""
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=paho.MQTTv5)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = 3600 if self._keeps_session else 0
        self._ready.clear()
        try:
            client.connect(
                self._endpoint.host,
                self._endpoint.port,
                keepalive=15,
                clean_start=not self._keeps_session,
                properties=properties,
            )
        except OSError as error:
            raise TelemetryError(f"collector: broker {self.url} cannot be reached: {error}. Is it running?") from error
        self._client = client
        client.loop_start()
        if not self._ready.wait(timeout_s):
            self.close()
            raise TelemetryError(f"collector: broker {self.url} did not let us subscribe within {timeout_s:g} s.")
        return self

    def close(self) -> None:
        """Disconnect. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- what arrived ----------------------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[Collector], bool], timeout_s: float) -> bool:
        """Wait until ``condition(self)`` holds; it is asked after each message. False when time ran out."""
        with self._arrived:
            return self._arrived.wait_for(lambda: condition(self), timeout_s)

    def of(self, schema: str) -> list[dict[str, Any]]:
        """Payloads of one schema, for example ``edgesdk.result/1``."""
        with self._arrived:
            messages = list(self.messages)
        found = (message.json() for message in messages)
        return [payload for payload in found if payload.get("schema") == schema]

    def sequences(self, stream: str, epoch: str | None = None) -> set[int]:
        """Sequences of a stream that arrived, results and gap records; of all epochs unless one is named."""
        with self._arrived:
            found = [s.sequences for (name, of), s in self._streams.items() if name == stream and epoch in (None, of)]
        return set().union(*found)

    def holes(self, stream: str, epoch: str | None = None, upto: int = 0) -> list[int]:
        """Sequences between 1 and the highest seen (or ``upto``) that did not arrive."""
        seen = self.sequences(stream, epoch)
        return sorted(set(range(1, max(upto, *seen, 0) + 1)) - seen)

    # -- commands --------------------------------------------------------------------------------------------------

    def command(self, topics: Topics, name: str, payload: bytes, timeout_s: float = 10.0) -> dict[str, Any]:
        """Send a command and return the answer that carries its correlation data.

        Raises:
            TelemetryError: No answer in time; ``topic_filter`` must cover the app's response topic.
        """
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        correlation = uuid.uuid4().bytes
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.CorrelationData = correlation
        properties.ResponseTopic = topics.response(name)
        if self._client is None:
            raise TelemetryError("collector: is not started. Call start(), or use it in a with statement.")
        self._client.publish(topics.command(name), payload, qos=1, properties=properties)
        answers: list[Received] = []

        def answered(_: Collector) -> bool:
            answers[:] = [m for m in self.messages if m.properties.get("CorrelationData") == correlation]
            return any(m.topic == topics.response(name) for m in answers)

        if not self.wait_for(answered, timeout_s):
            raise TelemetryError(f"collector: no answer on {topics.response(name)} within {timeout_s:g} s.")
        return next(m for m in answers if m.topic == topics.response(name)).json()

    def request_replay(
        self, topics: Topics, stream: str, first: int, last: int, *, epoch: str | None = None, timeout_s: float = 10.0
    ) -> dict[str, Any]:
        """Ask for sequences ``first`` to ``last`` again; the answer (it comes after the records)."""
        request = ReplayRequest(stream=stream, from_=first, to=last, epoch=epoch)
        return self.command(topics, "replay", msgspec.json.encode(request), timeout_s)

    # -- paho's callbacks, on its thread -----------------------------------------------------------------------------

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not reason.is_failure:
            client.subscribe(self.topic_filter, qos=1)

    def _subscribed(self, *_: Any) -> None:
        self._ready.set()

    def _message(self, _client: Any, _data: Any, message: Any) -> None:
        received = Received(
            topic=message.topic,
            payload=bytes(message.payload),
            retain=bool(message.retain),
            properties={name: value for name, value in vars(message.properties).items() if name[0].isupper()}
            if message.properties is not None
            else {},
            arrived_ns=time.monotonic_ns(),
        )
        with self._arrived:
            self.messages.append(received)
            if message.topic.endswith("/results"):
                self._count(received)
            self._arrived.notify_all()
        if self._on_received is not None:
            self._on_received(received)

    def _count(self, received: Received) -> None:
        try:
            payload = received.json()
            stream = self._streams.setdefault((payload["stream"], payload["epoch"]), _Stream())
            stream.sequences.add(payload["sequence"])
            if payload["schema"].startswith("edgesdk.result/"):
                self.ids.add(payload["id"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # not one of ours; it is kept in ``messages`` all the same
