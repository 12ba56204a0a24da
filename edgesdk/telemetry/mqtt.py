"""MQTT over paho-mqtt: a fresh client per connection, driven from the session's own thread.

paho is the transport and never the queue: it would resend without regard to Receive Maximum, keeps everything in
memory, and takes a refusing PUBACK for a delivery. Without its network thread its callbacks run inside our ``poll``.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgesdk.telemetry.codecs.api import Message
from edgesdk.telemetry.settings import MqttSettings, Protocol, parse_url, read_password
from edgesdk.telemetry.transport import Acked, Arrived, Event, Limits, Lost, TransportError

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties

CONNECT_TIMEOUT_S = 10.0
UNSUPPORTED_PROTOCOL = 0x84
_FIXES = {
    0x84: "Set protocol: mqtt311.",
    0x85: "Set mqtt.client_id to what the broker expects.",
    0x86: "Check mqtt.username and the password in mqtt.password_file against the broker's password file.",
    0x87: "Check mqtt.username and mqtt.password_file, and the broker's access rules for this client.",
    0x8A: "The broker has banned this client; ask its operator.",
}


class UnsupportedProtocolError(TransportError):
    """The broker does not speak MQTT 5."""


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails: paho forgets the socket then."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class PahoTransport:
    """One MQTT connection.

    Args:
        settings: Address, credentials, keep alive.
        client_id: Must be unique at the broker.
        protocol: Overrides the settings' one, after a broker refused MQTT 5.
    """

    def __init__(self, settings: MqttSettings, client_id: str, protocol: Protocol | None = None) -> None:
        self._settings = settings
        self._endpoint = parse_url(settings.url)
        self._client_id = client_id
        self._v5 = (protocol or settings.protocol) == "mqtt5"
        self._client: Client | None = None
        self._events: list[Event] = []
        self._limits: Limits | None = None
        self._refused: TransportError | None = None
        self._subscribed: str | None = None
        self._properties: dict[str, Properties] = {}
        self._waker, self._waked = socket.socketpair()
        self._waker.setblocking(False)
        self._waked.setblocking(False)
        self.warnings: list[str] = []
        """What the operator should know and nobody has reported yet."""

    @property
    def _where(self) -> str:
        return f"broker {self._settings.url}"

    # -- connecting ------------------------------------------------------------------------------------------------

    def connect(self, *, will: Message, subscribe: str) -> Limits:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        client = self._client = self._make(will)
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        keep_alive = int(self._settings.keep_alive_s)
        try:
            if self._v5:
                # Our session lives in the outbox, so the broker keeps none: clean start, expiry 0 (the default).
                client.connect(self._endpoint.host, self._endpoint.port, keep_alive, clean_start=True)
            else:
                client.connect(self._endpoint.host, self._endpoint.port, keep_alive)
        except ssl.SSLCertVerificationError as error:
            raise TransportError(
                f"{self._where}: its certificate is not trusted: {error.verify_message}. Set mqtt.ca_file to the CA "
                "that signed it, and use the host name that the certificate names."
            ) from error
        except ssl.SSLError as error:
            raise TransportError(
                f"{self._where}: TLS failed: {error.reason}. Is this the port for mqtts://?"
            ) from error
        except ConnectionResetError as error:
            hint = "Is this the port for mqtts://?" if self._endpoint.tls else "Is it an MQTT broker?"
            raise TransportError(
                f"{self._where}: cannot be reached: it ended the connection at once. {hint}"
            ) from error
        except (OSError, ValueError) as error:
            raise TransportError(
                f"{self._where}: cannot be reached: {error}. Results wait in the outbox; check address and network."
            ) from error
        sock: Any = client.socket()
        if sock is not None:
            # Small packets must not wait for the acknowledgement of the packet before (Nagle): 40 ms each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await(lambda: self._limits is not None, deadline, "CONNACK")
        client.subscribe(subscribe, qos=1)
        self._await(lambda: self._subscribed is not None, deadline, "SUBACK")
        if self._subscribed:
            self.warnings.append(
                f"{self._where}: refuses the subscription to {subscribe}: {self._subscribed}. No replays."
            )
        assert self._limits is not None
        return self._limits

    def _make(self, will: Message) -> Client:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=None if self._v5 else True,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S / 2
        client.max_inflight_messages_set(0)  # the session counts; paho must send at once and never queue
        client.will_set(will.topic, will.payload, will.qos, will.retain, self._publish_properties(will))
        self._set_credentials(client)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def _set_credentials(self, client: Client) -> None:
        settings = self._settings
        if settings.username is not None:
            password = None
            if settings.password_file is not None:
                try:
                    password, warning = read_password(settings.password_file)
                except (OSError, UnicodeDecodeError) as error:
                    raise TransportError(
                        f"mqtt.password_file: {settings.password_file} cannot be read: {error}."
                    ) from error
                if warning:
                    self.warnings.append(f"mqtt.password_file: {warning}")
            client.username_pw_set(settings.username, password)
            if not self._endpoint.tls and self._endpoint.host not in ("localhost", "127.0.0.1", "::1"):
                self.warnings.append(
                    f"{self._where}: user name and password go over the network unencrypted. Use mqtts:// and mqtt.ca_file."
                )
        if self._endpoint.tls:
            try:
                context = ssl.create_default_context(cafile=settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise TransportError(
                    f"mqtt.ca_file: {settings.ca_file} is no readable PEM certificate: {error}. "
                    "Copy the broker's CA certificate to it."
                ) from error
            # Python 3.13 asks CAs for RFC 5280's key usage extension, earlier ones do not, and most home-made CAs lack it:
            # a CA that works on one board shall work on the next.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.sslsocket_class = _TlsSocket
            client.tls_set_context(context)

    def _await(self, done: Any, deadline: float, what: str) -> None:
        while not done():
            if self._refused is not None:
                raise self._refused
            lost = [event for event in self._events if isinstance(event, Lost)]
            if lost:
                raise TransportError(f"{self._where}: closed the connection before {what}: {lost[0].reason}.")
            left = deadline - time.monotonic()
            if left <= 0:
                raise TransportError(f"{self._where}: no {what} within {CONNECT_TIMEOUT_S:g} s. Is it an MQTT broker?")
            self._turn(left)

    # -- while connected -------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> int:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        assert self._client is not None
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, self._publish_properties(message)
        )
        return info.mid

    def _publish_properties(self, message: Message) -> Properties | None:
        if not self._v5:
            return None
        found = self._properties.get(message.content_type)
        if found is None or message.correlation is not None:
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties

            found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
            found.ContentType = message.content_type
            if message.correlation is not None:
                found.CorrelationData = message.correlation
                return found
            self._properties[message.content_type] = found
        return found

    def poll(self, timeout_s: float) -> list[Event]:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        if not self._events:
            self._turn(timeout_s)
        events, self._events = self._events, []
        return events

    def _turn(self, timeout_s: float) -> None:
        client = self._client
        sock = client.socket() if client is not None else None
        if client is None or sock is None:
            if not any(isinstance(event, Lost) for event in self._events):
                self._events.append(Lost("the connection was closed"))
            return
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        readers, writers, _ = select.select(
            [sock, self._waked], [sock] if client.want_write() else [], [], 0 if pending else min(timeout_s, 1.0)
        )
        if self._waked in readers:
            with suppress(BlockingIOError):
                self._waked.recv(4096)
        if sock in readers or pending:
            client.loop_read()
        if sock in writers:
            client.loop_write()
        client.loop_misc()  # keep alive

    def wake(self) -> None:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        with suppress(OSError):  # full: poll will return anyway; closed: nobody waits
            self._waker.send(b"\0")

    def close(self, *, polite: bool) -> None:
        """See :class:`edgesdk.telemetry.transport.Transport`."""
        client, self._client = self._client, None
        if client is not None:
            sock: Any = client.socket()
            client.on_disconnect = None
            if polite and sock is not None:
                client.disconnect()
                for _ in range(20):
                    if not client.want_write():
                        break
                    client.loop_write()
            if sock is not None:
                with suppress(OSError):
                    sock.close()
            client._reset_sockets()  # noqa: SLF001 - its wake-up pair; otherwise closed only by the garbage collector
        self._waker.close()
        self._waked.close()

    # -- paho's callbacks, on our thread -----------------------------------------------------------------------------

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        code = int(reason.value)
        if code >= 0x80:
            text = f"{self._where}: refuses the connection: {reason} (0x{code:02X}). {_FIXES.get(code, '')}".rstrip()
            kind = UnsupportedProtocolError if code == UNSUPPORTED_PROTOCOL and self._v5 else TransportError
            self._refused = kind(text)
            return
        self._limits = Limits(
            receive_maximum=int(getattr(properties, "ReceiveMaximum", 65535)),
            maximum_packet_bytes=getattr(properties, "MaximumPacketSize", None),
        )

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            why = f"the broker ended it: {reason}"
        elif str(reason) == "Unspecified error":  # paho's word for a socket that was closed without one
            why = "the broker or the network closed it"
        else:
            why = str(reason)
        self._events.append(Lost(why))

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        self._events.append(Acked(mid, int(reason.value), str(reason)))

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        self._events.append(Arrived(message.topic, bytes(message.payload), bool(message.retain), correlation))

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if int(reason.value) >= 0x80]
        self._subscribed = ", ".join(refused)
