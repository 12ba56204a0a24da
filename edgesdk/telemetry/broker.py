"""An MQTT 5 broker without installing one: iotcore's rumqttd in a process of its own, on the loopback address."""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.errors import MissingExtraError, TelemetryError

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

START_TIMEOUT_S = 10.0
MAX_PAYLOAD_BYTES = 1 << 20

_CONFIG = """\
id = 0

[router]
id = 0
max_connections = 256
max_outgoing_packet_count = 200
max_segment_size = {segment_bytes}
max_segment_count = 8

[v5.1]
name = "edgesdk"
listen = "{host}:{port}"
next_connection_delay_ms = 1

    [v5.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = {max_payload_bytes}
    max_inflight_count = 200
    dynamic_filters = true
"""
_RUN = """\
import os, sys
import iotcore
iotcore.IotCoreBroker(config_path=sys.argv[1]).start()
sys.stdin.buffer.read()  # ends with the parent, however that one ends
os._exit(0)
"""


class EmbeddedBroker:
    """A broker for demos and tests: everything in memory, nobody is asked for a password, only this machine reaches it.

    Args:
        port: 0 takes a free one. A broker that is to come back after ``kill`` keeps its port.

    Raises:
        MissingExtraError: iotcore is not installed.
    """

    host = "127.0.0.1"

    def __init__(self, port: int = 0) -> None:
        if importlib.util.find_spec("iotcore") is None:
            raise MissingExtraError(
                "the embedded broker needs iotcore. Run: pip install 'edgesdk[broker]', or name your own broker."
            )
        self.port = port or _free_port(self.host)
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """For ``telemetry.mqtt.url``."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the broker's process; None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> EmbeddedBroker:
        """Start the process and wait until it accepts connections.

        Raises:
            TelemetryError: It ended, or did not listen in time.
        """
        if self._process is not None:
            return self
        self._check_port()  # otherwise somebody else's broker on this port would be taken for ours
        self._folder = tempfile.TemporaryDirectory(prefix="edgesdk-broker-")
        config = Path(self._folder.name) / "rumqttd.toml"
        config.write_text(
            _CONFIG.format(host=self.host, port=self.port, max_payload_bytes=MAX_PAYLOAD_BYTES, segment_bytes=4 << 20),
            encoding="ascii",
        )
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and script
            [sys.executable, "-c", _RUN, str(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # rumqttd logs every packet
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the app, which then still has a broker to flush to
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with socket.create_connection((self.host, self.port), timeout=1.0):
                    return self
            except OSError:
                code = self._process.poll()
                if code is not None or time.monotonic() > deadline:
                    self.kill()
                    why = (
                        f"ended with code {code}"
                        if code is not None
                        else f"does not listen after {START_TIMEOUT_S:g} s"
                    )
                    raise TelemetryError(
                        f"embedded broker on port {self.port}: {why}. Take another port, or name your own broker."
                    ) from None
                time.sleep(0.02)

    def _check_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run may linger
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise TelemetryError(
                    f"embedded broker on port {self.port}: {error.strerror}. Take another port (0 finds a free one), "
                    "or name your own broker."
                ) from error

    def kill(self) -> None:
        """End the process at once, as a crash would; ``start`` brings it back on the same port, empty."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process. Idempotent."""
        self._end(signal.SIGTERM)

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(with_signal)
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def _free_port(host: str) -> int:
    with socket.socket() as found:
        found.bind((host, 0))
        return int(found.getsockname()[1])
