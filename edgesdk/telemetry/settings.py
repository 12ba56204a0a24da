"""The ``telemetry:`` part of app.yaml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from edgesdk.errors import ConfigError
from edgesdk.schema import ByteCount, Seconds
from edgesdk.telemetry.store import MIN_SIZE_BYTES

WhenFull = Literal["drop_oldest", "drop_newest", "block"]
Protocol = Literal["mqtt5", "mqtt311"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where results go."""

    url: str
    """``mqtt://host[:port]`` or ``mqtts://host[:port]`` (TLS)."""
    username: str | None = None
    password_file: str | None = None
    """File with the password; only its owner may read it (mode 0600)."""
    ca_file: str | None = None
    """CA that signed the broker's certificate; default: the system's CAs. Only with mqtts://."""
    client_id: str | None = None
    """Default ``{device}-{app}``."""
    keep_alive_s: Seconds = msgspec.field(name="keep_alive", default=30.0)
    """Longest silence before a ping; also how soon a broker notices that the board is gone (1.5 times this)."""
    protocol: Protocol = "mqtt5"
    """A broker that refuses MQTT 5 gets 3.1.1 by itself; ``mqtt311`` asks for it at once."""
    reconnect_max_s: Seconds = msgspec.field(name="reconnect_max", default=60.0)
    """Longest wait between two attempts to connect."""


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where results wait."""

    path: str | None = None
    """The SQLite file; default ``$XDG_STATE_HOME/edgesdk/{app}.outbox``."""
    max_size_bytes: ByteCount = msgspec.field(name="max_size", default=256 << 20)
    """Bound of the file and its write-ahead log together."""
    when_full: WhenFull = "drop_oldest"
    commit_window_s: Seconds = msgspec.field(name="commit_window", default=0.05)
    """How long results are collected before one fsync; what a power cut can take."""
    keep_delivered_s: Seconds = msgspec.field(name="keep_delivered", default=3600.0)
    """How long delivered records stay for a replay; they go first when space is needed."""


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``telemetry:`` part of app.yaml; without ``mqtt`` results only go into the outbox."""

    mqtt: MqttSettings | None = None
    outbox: OutboxSettings = OutboxSettings()
    codec: str = "json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker's address."""

    host: str
    port: int
    tls: bool


def parse_url(url: str) -> Endpoint:
    """Read ``mqtt://host[:port]`` or ``mqtts://host[:port]``.

    Raises:
        ConfigError: Another scheme, no host, a bad port, a path, or credentials in the address.
    """
    expected = "expected mqtt://host[:port] or mqtts://host[:port]"
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            ["telemetry.mqtt.url: holds a user name or password. Use telemetry.mqtt.username and password_file."]
        )
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(
            [f"telemetry.mqtt.url: got {url!r}, whose port is no number in 1..65535; {expected}."]
        ) from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or port == 0:
        fix = f" Did you mean 'mqtt://{url}'?" if "://" not in url and url else ""
        raise ConfigError([f"telemetry.mqtt.url: got {url!r}, {expected}.{fix}"])
    return Endpoint(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts")


def check(settings: TelemetrySettings) -> None:
    """Look at everything that can be known before connecting.

    Raises:
        ConfigError: All problems at once, each with its fix.
    """
    problems: list[str] = []
    mqtt, outbox = settings.mqtt, settings.outbox
    if mqtt is not None:
        problems += _mqtt_problems(mqtt)
    if outbox.max_size_bytes < MIN_SIZE_BYTES:
        problems.append(
            f"telemetry.outbox.max_size: got {int(outbox.max_size_bytes)} bytes, expected at least 1MiB. Write max_size: 1MiB."
        )
    if not 0 <= outbox.commit_window_s <= 10:
        problems.append(
            f"telemetry.outbox.commit_window: got {outbox.commit_window_s:g} s, expected 0s to 10s. The default is 50ms."
        )
    if outbox.keep_delivered_s < 0:
        problems.append("telemetry.outbox.keep_delivered: is negative. Write 0s to keep nothing for a replay.")
    if problems:
        raise ConfigError(problems)


def _mqtt_problems(mqtt: MqttSettings) -> list[str]:
    problems: list[str] = []
    try:
        endpoint = parse_url(mqtt.url)
    except ConfigError as error:
        problems += error.problems
    else:
        if mqtt.ca_file is not None and not endpoint.tls:
            problems.append(
                f"telemetry.mqtt.ca_file: is given, but {mqtt.url} is not encrypted. "
                f"Write url: mqtts://{endpoint.host}:8883, or leave ca_file out."
            )
    for name, path in (("ca_file", mqtt.ca_file), ("password_file", mqtt.password_file)):
        if path is not None and not (Path(path).is_file() and os.access(path, os.R_OK)):
            problems.append(
                f"telemetry.mqtt.{name}: {path} is not there or cannot be read. "
                + (
                    "Copy the broker's CA certificate (PEM) to it."
                    if name == "ca_file"
                    else f"Write the password into it: install -m 600 /dev/stdin {path}"
                )
            )
    if mqtt.password_file is not None and mqtt.username is None:
        problems.append("telemetry.mqtt.password_file: is given without a user name. Add username: NAME beside it.")
    if not 5 <= mqtt.keep_alive_s <= 65535:
        problems.append(
            f"telemetry.mqtt.keep_alive: got {mqtt.keep_alive_s:g} s, expected 5s to 65535s; it cannot be switched off. "
            "The default is 30s."
        )
    if mqtt.reconnect_max_s <= 0:
        problems.append("telemetry.mqtt.reconnect_max: must be longer than 0s. The default is 60s.")
    return problems


def outbox_path(settings: OutboxSettings, app: str) -> Path:
    """Where the outbox lies."""
    if settings.path is not None:
        return Path(settings.path).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "edgesdk" / f"{app}.outbox"


def read_password(path: str) -> tuple[str, str | None]:
    """The password, and a warning when others may read its file."""
    file = Path(path)
    text = file.read_text(encoding="utf-8").rstrip("\r\n")
    mode = file.stat().st_mode & 0o777
    warning = (
        f"{path}: mode {mode:04o} lets other users read the password. Run: chmod 600 {path}" if mode & 0o077 else None
    )
    return text, warning
