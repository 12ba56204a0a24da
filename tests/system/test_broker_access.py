"""Getting in: user name, password, TLS, refusals and limits; against mosquitto, as people have it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgesdk.samples import Stamp
from edgesdk.telemetry import MqttSettings, OutboxSettings, Telemetry, TelemetrySettings

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl: apt-get install openssl")
MakeTelemetry = Callable[..., Telemetry]


@pytest.fixture
def make_telemetry(tmp_path: Path) -> Iterator[MakeTelemetry]:
    made: list[Telemetry] = []

    def make(**mqtt: Any) -> Telemetry:
        mqtt.setdefault("reconnect_max_s", 0.2)
        settings = TelemetrySettings(
            mqtt=MqttSettings(**mqtt), outbox=OutboxSettings(path=str(tmp_path / f"{len(made)}.outbox"))
        )
        made.append(Telemetry(settings, device="gate-7", app="doorway", capability={}))
        made[-1].start()
        return made[-1]

    yield make
    for telemetry in made:
        telemetry.close(0.2)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def problem(telemetry: Telemetry) -> str:
    assert wait_until(lambda: telemetry.stats().problem is not None)
    return telemetry.stats().problem or ""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, other-ca.pem, and broker.pem / broker.key for localhost."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other-ca"):
        openssl(
            folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem",
        )  # fmt: skip
    openssl(
        folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
        "-keyout", "broker.key", "-out", "broker.csr",
    )  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        folder, "x509", "-req", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "broker.pem",
    )  # fmt: skip
    return folder


@pytest.fixture
def secured(make_mosquitto: Any, certificates: Path, tmp_path: Path) -> Any:
    """TLS and a password, as a remote mosquitto 2 has it."""
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(passwords), "gate-7", "s3cret"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return make_mosquitto(
        f"allow_anonymous false\npassword_file {passwords}\n",
        f"certfile {certificates}/broker.pem\nkeyfile {certificates}/broker.key\n",
    )


def password_file(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    file = tmp_path / "mqtt.pass"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


@needs_openssl
@pytest.mark.mosquitto
def test_tls_and_password__delivers(
    secured: Any, certificates: Path, tmp_path: Path, make_telemetry: MakeTelemetry
) -> None:
    telemetry = make_telemetry(
        url=f"mqtts://localhost:{secured.port}",
        username="gate-7",
        password_file=password_file(tmp_path, "s3cret\n"),
        ca_file=str(certificates / "ca.pem"),
    )
    for n in range(50):
        telemetry.publish("door", {"n": n, "pad": "x" * 30_000}, captured=Stamp.now())
    assert wait_until(lambda: telemetry.stats().delivered == 50)
    assert telemetry.stats().problem is None


@needs_openssl
@pytest.mark.mosquitto
def test_password__wrong__is_told_and_results_wait(
    secured: Any, certificates: Path, tmp_path: Path, make_telemetry: MakeTelemetry
) -> None:
    file = password_file(tmp_path, "wrong")
    telemetry = make_telemetry(
        url=f"mqtts://localhost:{secured.port}",
        username="gate-7",
        password_file=file,
        ca_file=str(certificates / "ca.pem"),
    )
    telemetry.publish("door", {}, captured=Stamp.now())
    text = problem(telemetry)
    assert "refuses the connection: Not authorized (0x87). Check mqtt.username and mqtt.password_file" in text
    assert "wrong" not in text
    Path(file).write_text("s3cret")  # the operator corrects it; nothing is restarted
    assert wait_until(lambda: telemetry.stats().delivered == 1)


@needs_openssl
@pytest.mark.mosquitto
def test_password_file__readable_by_others__is_told(
    secured: Any, certificates: Path, tmp_path: Path, make_telemetry: MakeTelemetry
) -> None:
    telemetry = make_telemetry(
        url=f"mqtts://localhost:{secured.port}",
        username="gate-7",
        password_file=password_file(tmp_path, "s3cret", 0o644),
        ca_file=str(certificates / "ca.pem"),
    )
    assert "mode 0644 lets other users read the password. Run: chmod 600" in problem(telemetry)
    assert wait_until(lambda: telemetry.stats().connected)


@needs_openssl
@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("host", "ca", "expected"),
    [
        ("localhost", "other-ca.pem", "certificate is not trusted"),
        ("localhost", None, "certificate is not trusted"),
        ("127.0.0.1", "ca.pem", "IP address mismatch"),
    ],
)
def test_tls__untrusted__is_refused_never_downgraded(
    secured: Any, certificates: Path, make_telemetry: MakeTelemetry, host: str, ca: str | None, expected: str
) -> None:
    telemetry = make_telemetry(
        url=f"mqtts://{host}:{secured.port}", ca_file=str(certificates / ca) if ca is not None else None
    )
    text = problem(telemetry)
    assert expected in text
    assert "Set mqtt.ca_file to the CA that signed it" in text
    assert telemetry.stats().connections == 0


@pytest.mark.mosquitto
def test_tls__port_speaks_plain_mqtt__is_told(make_mosquitto: Any, make_telemetry: MakeTelemetry) -> None:
    broker = make_mosquitto()
    telemetry = make_telemetry(url=f"mqtts://localhost:{broker.port}")
    assert "Is this the port for mqtts://?" in problem(telemetry)
    assert telemetry.stats().connections == 0


def test_ca_file__no_certificate__is_told(tmp_path: Path, make_telemetry: MakeTelemetry) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    telemetry = make_telemetry(url="mqtts://localhost:1", ca_file=str(file))
    assert "is no readable PEM certificate" in problem(telemetry)
    assert "Copy the broker's CA certificate to it." in problem(telemetry)


@pytest.mark.mosquitto
def test_access_rules__a_refused_topic_stays_in_the_outbox(
    make_mosquitto: Any, tmp_path: Path, make_telemetry: MakeTelemetry
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(
        "topic readwrite edgesdk/gate-7/doorway/status\ntopic readwrite edgesdk/gate-7/doorway/door/results\n"
    )
    broker = make_mosquitto(f"allow_anonymous true\nacl_file {rules}\n")
    telemetry = make_telemetry(url=broker.url)
    assert wait_until(lambda: telemetry.stats().connected)
    for stream in ("secret", "door"):
        telemetry.publish(stream, {}, captured=Stamp.now())
    assert wait_until(lambda: telemetry.stats().delivered == 1 and telemetry.stats().refused >= 1)
    assert telemetry.stats().pending == 1
    assert "refuses secret sequence 1: Not authorized (0x87)" in problem(telemetry)


@pytest.mark.mosquitto
def test_receive_maximum__of_mosquitto__is_honoured(make_mosquitto: Any, make_telemetry: MakeTelemetry) -> None:
    broker = make_mosquitto("allow_anonymous true\nmax_inflight_messages 3\n")
    telemetry = make_telemetry(url=broker.url)
    for n in range(500):
        telemetry.publish("door", {"n": n}, captured=Stamp.now())
    assert wait_until(lambda: telemetry.stats().delivered == 500)
    assert telemetry.stats().connections == 1


# -- a broker of a few lines, for what mosquitto cannot be told to do ------------------------------------------------


class TinyBroker(threading.Thread):
    """Speaks just enough MQTT to answer CONNECT and SUBSCRIBE, and counts PUBLISH without acknowledging."""

    def __init__(self, connack: Callable[[int], bytes]) -> None:
        super().__init__(daemon=True)
        self.connack = connack
        self.protocols: list[int] = []
        self.published = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                try:
                    self.serve(connection, stream)
                except (OSError, IndexError):
                    continue

    def serve(self, connection: socket.socket, stream: Any) -> None:
        while True:
            kind = stream.read(1)[0] >> 4
            length = shift = 0
            while True:
                byte = stream.read(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            packet = stream.read(length)
            if kind == 1:
                self.protocols.append(packet[6])
                connection.sendall(self.connack(packet[6]))
            elif kind == 8:
                five = b"\0" if self.protocols[-1] == 5 else b""
                body = packet[:2] + five + b"\1"
                connection.sendall(bytes([0x90, len(body)]) + body)
            elif kind == 3:
                self.published += 1


@pytest.fixture
def make_tiny_broker() -> Iterator[Callable[..., TinyBroker]]:
    made: list[TinyBroker] = []

    def make(connack: Callable[[int], bytes]) -> TinyBroker:
        made.append(TinyBroker(connack))
        return made[-1]

    yield make
    for broker in made:
        broker.listener.shutdown(socket.SHUT_RDWR)
        broker.listener.close()
        broker.join(10)


def test_receive_maximum__of_a_silent_broker__is_never_passed(
    make_tiny_broker: Any, make_telemetry: MakeTelemetry
) -> None:
    # CONNACK, success, properties: Receive Maximum (0x21) = 4
    broker = make_tiny_broker(lambda _protocol: b"\x20\x06\x00\x00\x03\x21\x00\x04")
    telemetry = make_telemetry(url=broker.url)
    for n in range(100):
        telemetry.publish("door", {"n": n}, captured=Stamp.now())
    assert wait_until(lambda: broker.published >= 4)
    time.sleep(0.3)
    assert broker.published == 4
    assert telemetry.stats().pending == 100


def test_protocol__refused__falls_back_to_311(make_tiny_broker: Any, make_telemetry: MakeTelemetry) -> None:
    # NATS answers an MQTT 5 CONNECT with reason 0x84, unsupported protocol version
    broker = make_tiny_broker(lambda protocol: b"\x20\x03\x00\x84\x00" if protocol == 5 else b"\x20\x02\x00\x00")
    telemetry = make_telemetry(url=broker.url)
    assert wait_until(lambda: telemetry.stats().connected)
    assert broker.protocols == [5, 4]


def test_connect__no_mqtt_at_all__is_told(make_telemetry: MakeTelemetry) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        telemetry = make_telemetry(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()
        assert "closed the connection before CONNACK" in problem(telemetry)
