"""Telemetry of one app: what an app publishes through, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.errors import PayloadTooLargeError, TelemetryError
from edgesdk.registry import CODECS, load_plugin
from edgesdk.samples import Stamp
from edgesdk.telemetry.backoff import FullJitter
from edgesdk.telemetry.clock import MAX_TIME_NS, ClockState, boot_id, rfc3339
from edgesdk.telemetry.codecs.api import Codec, Message
from edgesdk.telemetry.ids import uuid7
from edgesdk.telemetry.mqtt import PahoTransport, UnsupportedProtocolError
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.payloads import HEALTH, MAX_PAYLOAD_BYTES, STATUS, Health, ResultBody, ResultHeader, Status
from edgesdk.telemetry.ring import Entry
from edgesdk.telemetry.session import Session, State
from edgesdk.telemetry.settings import MqttSettings, Protocol, TelemetrySettings, check, outbox_path
from edgesdk.telemetry.topics import Topics
from edgesdk.telemetry.transport import Limits, Transport

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

_MAX_INT = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What telemetry did since ``start``; a snapshot."""

    accepted: int
    """Results that are on the disk."""
    delivered: int
    """Records that the broker acknowledged, also ones of earlier runs."""
    pending: int
    """Records on the disk that the broker has not acknowledged."""
    queued: int
    """Results in memory that are not accepted yet."""
    dropped: int
    """Results that a rule dropped; gap records tell which."""
    refused: int
    """Times the broker answered a record with an error."""
    connected: bool
    connections: int
    """How often the broker let us in."""
    epoch: str
    problem: str | None
    """The latest trouble of the connection or the disk, with its fix."""


class Telemetry:
    """Publishes results: onto the disk first, then to the broker, at least once.

    Args:
        settings: The ``telemetry:`` part of app.yaml.
        device: Topic level of the board.
        app: Topic level of the app.
        capability: What the app can do (models, sources, versions); part of the birth.
        transport: For tests: makes the transport instead of MQTT over paho.

    Raises:
        ConfigError: The settings are wrong; all problems at once.
        TelemetryError: An id does not fit a topic.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        *,
        device: str,
        app: str,
        capability: dict[str, Any],
        transport: Callable[[], Transport] | None = None,
    ) -> None:
        check(settings)
        self._settings = settings
        self.topics = Topics(device, app)
        self._capability = msgspec.to_builtins(capability)
        self._clock = ClockState()
        self._encode = msgspec.json.Encoder().encode
        self._outbox = Outbox(settings.outbox, outbox_path(settings.outbox, app), self.topics)
        codec: Codec = load_plugin(CODECS, settings.codec)(self.topics)
        if not codec.reliable:
            raise TelemetryError(
                f"telemetry.codec: {settings.codec!r} sends without acknowledgement and cannot empty the outbox. Use json."
            )
        self._codec = codec
        self._overheads: dict[str, int] = {}
        self._protocol: Protocol | None = None
        self._transport = transport or self._paho
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._closed: Stats | None = None
        if len(self._status("online")) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError(
                f"capability: the birth message would have {len(self._status('online'))} bytes, at most "
                f"{MAX_PAYLOAD_BYTES}. Put large tables (labels) elsewhere."
            )

    def start(self) -> None:
        """Open the outbox and start connecting; does not wait for the broker.

        Raises:
            TelemetryError: The outbox cannot be opened, or another process uses it.
        """
        self._outbox.start()
        if self._settings.mqtt is None:
            return
        self._session = Session(
            transport=self._transport,
            outbox=self._outbox,
            codec=self._codec,
            topics=self.topics,
            status=self._status,
            backoff=FullJitter(self._settings.mqtt.reconnect_max_s),
        )
        self._session.start()

    def publish(
        self,
        stream: str,
        result: Mapping[str, Any],
        *,
        captured: Stamp,
        model: Mapping[str, Any] | None = None,
        latency: Mapping[str, float] | None = None,
        durable: bool = False,
    ) -> str:
        """Queue a result. Thread-safe; never waits for the network.

        Args:
            stream: Topic level: letters, digits, ``_`` and ``-``.
            result: Plain JSON values, as ``Result.to_json()`` makes; not-a-number becomes null.
            captured: When the sample was captured.
            model: Name, version, bundle of the model that made it.
            latency: Milliseconds by part, for example ``pre_ms``.
            durable: Return only after the result is on the disk.

        Returns:
            The result's id (UUIDv7).

        Raises:
            PayloadTooLargeError: The payload would exceed 128 KB.
            OutboxFullError: ``durable``, and the disk does not take it; or telemetry was closed.
            TelemetryError: Another bad argument. Nothing that was accepted before is affected.
        """
        overhead = self._overheads.get(stream) or self._new_stream(stream)
        time_ns, monotonic_ns = captured.time_ns, captured.monotonic_ns
        if not (0 <= time_ns < MAX_TIME_NS and 0 <= monotonic_ns <= _MAX_INT):
            raise TelemetryError(
                f"publish: captured is {captured!r}; expected nanoseconds since 1970 and since boot. Use Stamp.now()."
            )
        try:
            # Here and not on the writer thread: the caller may change its dict, and has to hear of a bad one.
            body = self._encode(ResultBody(result=result, model=model, latency=latency))  # type: ignore[arg-type]  # any Mapping encodes
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TelemetryError(
                f"publish: stream {stream!r} got a result that is no plain JSON: {error}. Pass dict, list, str, int, "
                "float, bool, None; a result object has to_json(), a numpy array tolist()."
            ) from error
        if len(body) + overhead > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError(
                f"publish: stream {stream!r} got a result of {len(body)} bytes, at most {MAX_PAYLOAD_BYTES - overhead} "
                "fit into an MQTT payload of 128 KB. Publish fewer or coarser values; send pictures by reference."
            )
        id_ = uuid7()
        self._outbox.put(Entry(stream, id_, time_ns, monotonic_ns, body), durable=durable)
        return id_

    def health(self, body: Mapping[str, Any]) -> None:
        """Send a health report when connected; only the newest one is kept until then.

        Raises:
            TelemetryError: It is no plain JSON.
            PayloadTooLargeError: It exceeds 128 KB.
        """
        try:
            payload = self._encode(
                Health(
                    schema=HEALTH,
                    device=self.topics.device,
                    app=self.topics.app,
                    stream=None,
                    time=rfc3339(time.time_ns()),
                    clock_synced=self._clock.synced(),
                    boot_id=boot_id(),
                    health=dict(body),
                )
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise TelemetryError(
                f"health: is no plain JSON: {error}. Pass dict, list, str, int, float, bool."
            ) from error
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"health: {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}. Report less.")
        if self._session is not None:
            self._session.health(Message(topic=self.topics.health, payload=payload))

    def stats(self) -> Stats:
        """Counters; costs a few attribute reads."""
        if self._closed is not None:
            return self._closed
        outbox, session = self._outbox, self._session
        return Stats(
            accepted=outbox.accepted,
            delivered=outbox.delivered,
            pending=outbox.pending,
            queued=outbox.queued,
            dropped=outbox.dropped,
            refused=session.refused if session else 0,
            connected=session.connected if session else False,
            connections=session.connections if session else 0,
            epoch=outbox.epoch,
            problem=outbox.problem or (session.problem if session else None),
        )

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything published so far is on the disk; False when time ran out."""
        return self._outbox.flush(timeout_s)

    def close(self, flush_timeout_s: float = 5.0) -> Stats:
        """Commit everything, send it for at most ``flush_timeout_s`` if the broker is there, and stop. Idempotent.

        What was not delivered stays in the outbox and goes out in the next run.
        """
        with self._lock:
            if self._closed is None:
                self._outbox.flush(max(flush_timeout_s, 1.0))
                if self._session is not None:
                    self._session.stop(flush_timeout_s)
                    # A name server or a broker that does not answer must not hold up the end of the app.
                    self._session.join(flush_timeout_s + 3.0)
                self._outbox.close()
                self._closed = self.stats()
            return self._closed

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _new_stream(self, stream: str) -> int:
        """Check a stream's name; what its header and the backfill mark add to a body at most."""
        self.topics.results(stream)
        header = ResultHeader(
            device=self.topics.device,
            app=self.topics.app,
            stream=stream,
            time=rfc3339(0),
            clock_synced=False,
            id="0" * 36,
            epoch="0" * 36,
            sequence=_MAX_INT,
            boot_id=boot_id(),
            monotonic_ns=_MAX_INT,
        )
        self._overheads[stream] = size = len(self._encode(header)) + 20
        return size

    def _status(self, state: State) -> bytes:
        return self._encode(
            Status(
                schema=STATUS,
                device=self.topics.device,
                app=self.topics.app,
                stream=None,
                time=rfc3339(time.time_ns()),
                clock_synced=self._clock.synced(),
                state=state,
                boot_id=boot_id(),
                epoch=self._outbox.epoch,
                outbox=self._outbox.started_anew,
                capability=self._capability,
            )
        )

    def _paho(self) -> Transport:
        mqtt = self._settings.mqtt
        assert mqtt is not None
        client_id = mqtt.client_id or f"{self.topics.device}-{self.topics.app}"
        return _Negotiating(self, mqtt, client_id)


class _Negotiating(PahoTransport):
    """Remembers that a broker refused MQTT 5, so that the next attempt uses 3.1.1."""

    def __init__(self, owner: Telemetry, settings: MqttSettings, client_id: str) -> None:
        super().__init__(settings, client_id, owner._protocol)  # noqa: SLF001 - private helper of the same module
        self._owner = owner

    def connect(self, *, will: Message, subscribe: str) -> Limits:
        """As the parent's."""
        try:
            return super().connect(will=will, subscribe=subscribe)
        except UnsupportedProtocolError:
            self._owner._protocol = "mqtt311"  # noqa: SLF001 - as above
            raise
