from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConfigError, EdgeSdkError, OutboxFullError, PayloadTooLargeError, PluginError, TelemetryError
from edgesdk.samples import Stamp
from edgesdk.schema import parse_yaml
from edgesdk.telemetry import MqttSettings, OutboxSettings, Telemetry, TelemetrySettings
from edgesdk.telemetry.settings import check, parse_url, read_password

MakeTelemetry = Callable[..., Telemetry]


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    settings = TelemetrySettings(outbox=OutboxSettings(path=str(tmp_path / "a.outbox"), commit_window_s=0.0))
    return Telemetry(settings, device="d", app="a", capability={})


def test_publish__without_mqtt__fills_the_outbox(telemetry: Telemetry) -> None:
    with telemetry:
        ids = [telemetry.publish("s", {"i": i}, captured=Stamp.now()) for i in range(10)]
        assert telemetry.flush()
        stats = telemetry.stats()
    assert ids == sorted(set(ids))
    assert (stats.accepted, stats.pending, stats.connected) == (10, 10, False)
    assert telemetry.close().accepted == 10  # idempotent


def test_publish__too_large__names_the_limit_and_loses_nothing(telemetry: Telemetry) -> None:
    with telemetry:
        telemetry.publish("s", {"i": 1}, captured=Stamp.now())
        with pytest.raises(
            PayloadTooLargeError, match=r"got a result of 130\d{3} bytes, at most .* send pictures by reference"
        ):
            telemetry.publish("s", {"pad": "x" * 130_000}, captured=Stamp.now())
        telemetry.publish("s", {"i": 2}, captured=Stamp.now(), durable=True)
        assert telemetry.stats().accepted == 2


def test_publish__largest_that_is_let_in__fits_the_limit(
    make_telemetry: MakeTelemetry, fake_broker: Any, kit: Any
) -> None:
    fake_broker.reachable = False
    telemetry = make_telemetry()
    telemetry.start()
    size = 128_000
    while True:
        try:
            telemetry.publish("s", {"pad": "x" * size}, captured=Stamp.now())
            break
        except PayloadTooLargeError:
            size -= 1
    fake_broker.reachable = True
    assert kit.wait_until(lambda: telemetry.stats().delivered == 1)
    (message,) = [m for m in fake_broker.received if m.topic.endswith("/results")]
    assert 127_800 < len(message.payload) <= 128_000


@pytest.mark.parametrize("bad", [np.zeros(3), {1, 2}.__iter__(), object()])
def test_publish__no_json__says_what_to_pass(telemetry: Telemetry, bad: Any) -> None:
    with telemetry, pytest.raises(TelemetryError, match=r"no plain JSON: .* Pass dict, list.*numpy array tolist\(\)"):
        telemetry.publish("s", {"value": bad}, captured=Stamp.now())


def test_publish__recursive__is_refused(telemetry: Telemetry) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with telemetry, pytest.raises(TelemetryError, match="no plain JSON"):
        telemetry.publish("s", loop, captured=Stamp.now())


@pytest.mark.parametrize("stream", ["", "a/b", "über", "a+", "#", "x" * 300, "a\n"])
def test_publish__bad_stream__offers_a_good_one(telemetry: Telemetry, stream: str) -> None:
    with telemetry, pytest.raises(TelemetryError, match=r"Use '|Shorten the names"):
        telemetry.publish(stream, {}, captured=Stamp.now())


def test_publish__impossible_time__is_refused(telemetry: Telemetry) -> None:
    with telemetry, pytest.raises(TelemetryError, match=r"expected nanoseconds since 1970 .* Use Stamp.now"):
        telemetry.publish("s", {}, captured=Stamp(time_ns=-1, monotonic_ns=0))


def test_publish__after_close__is_refused(telemetry: Telemetry) -> None:
    with telemetry:
        pass
    with pytest.raises(OutboxFullError, match="closed"):
        telemetry.publish("s", {}, captured=Stamp.now())


def test_publish__caller_changes_its_dict_afterwards(make_telemetry: MakeTelemetry, fake_broker: Any, kit: Any) -> None:
    telemetry = make_telemetry(commit_window_s=0.2)
    telemetry.start()
    result = {"value": 1}
    telemetry.publish("s", result, captured=Stamp.now())
    result["value"] = 2
    assert kit.wait_until(lambda: telemetry.stats().delivered == 1)
    (message,) = [m for m in fake_broker.received if m.topic.endswith("/results")]
    assert b'"result":{"value":1}' in message.payload


def test_capability__too_large__is_refused(tmp_path: Path) -> None:
    settings = TelemetrySettings(outbox=OutboxSettings(path=str(tmp_path / "a.outbox")))
    with pytest.raises(PayloadTooLargeError, match=r"capability: the birth message would have 1\d{5} bytes"):
        Telemetry(settings, device="d", app="a", capability={"labels": ["x" * 100] * 1500})


def test_codec__unknown__names_the_known(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"'jason' is unknown. Did you mean 'json'"):
        Telemetry(TelemetrySettings(codec="jason"), device="d", app="a", capability={})


def test_settings__as_written_in_app_yaml() -> None:
    settings = parse_yaml(
        "mqtt: {url: 'mqtts://broker.example:8883', username: gate-7, keep_alive: 1min}\n"
        "outbox: {path: /var/lib/q.outbox, max_size: 64MiB, when_full: block, commit_window: 100ms, keep_delivered: 2h}\n",
        TelemetrySettings,
    )
    assert settings.mqtt is not None
    assert settings.mqtt.keep_alive_s == 60.0
    assert settings.outbox == OutboxSettings(
        path="/var/lib/q.outbox",
        max_size_bytes=64 << 20,
        when_full="block",
        commit_window_s=0.1,
        keep_delivered_s=7200.0,
    )


@pytest.mark.parametrize(
    ("mqtt", "message"),
    [
        ({"url": "broker:1883"}, r"got 'broker:1883', expected mqtt://host"),
        ({"url": "broker"}, r"Did you mean 'mqtt://broker'\?"),
        ({"url": "http://broker"}, r"expected mqtt://host\[:port\] or mqtts://"),
        ({"url": "mqtt://broker:99999"}, r"whose port is no number in 1..65535"),
        ({"url": "mqtt://me:secret@broker"}, r"Use telemetry.mqtt.username and password_file"),
        (
            {"url": "mqtts://b", "ca_file": "/nowhere/ca.pem"},
            r"ca_file: /nowhere/ca.pem is not there .* Copy the broker's CA",
        ),
        ({"url": "mqtt://b", "ca_file": "/etc/hostname"}, r"is not encrypted. Write url: mqtts://b:8883"),
        (
            {"url": "mqtt://b", "username": "u", "password_file": "/nowhere/p"},
            r"password_file: /nowhere/p .*install -m 600",
        ),
        ({"url": "mqtt://b", "password_file": "/etc/hostname"}, r"without a user name. Add username: NAME"),
        ({"url": "mqtt://b", "keep_alive_s": 0.0}, r"keep_alive: got 0 s, .* cannot be switched off"),
    ],
)
def test_settings__mqtt_problem__names_the_fix(mqtt: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(TelemetrySettings(mqtt=MqttSettings(**mqtt)))


def test_settings__all_problems_at_once() -> None:
    settings = TelemetrySettings(
        mqtt=MqttSettings(url="nonsense"), outbox=OutboxSettings(max_size_bytes=10, commit_window_s=60.0)
    )
    with pytest.raises(ConfigError) as caught:
        check(settings)
    assert len(caught.value.problems) == 3
    assert "Write max_size: 1MiB." in str(caught.value)


def test_settings__of_the_page__are_the_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    block = page.split("```yaml\ntelemetry:\n")[1].split("```")[0]
    settings = parse_yaml(block, TelemetrySettings)
    assert settings.mqtt is not None
    given = MqttSettings(
        url=settings.mqtt.url,
        username=settings.mqtt.username,
        password_file=settings.mqtt.password_file,
        ca_file=settings.mqtt.ca_file,
    )
    assert settings == TelemetrySettings(mqtt=given, outbox=OutboxSettings(path=settings.outbox.path))


def test_close__right_after_publishing__still_delivers(make_telemetry: MakeTelemetry, fake_broker: Any) -> None:
    telemetry = make_telemetry()
    telemetry.start()
    telemetry.publish("s", {}, captured=Stamp.now())
    assert telemetry.close().delivered == 1


def test_parse_url__defaults() -> None:
    assert parse_url("mqtts://b").port == 8883
    assert parse_url("mqtt://b").port == 1883
    assert parse_url("mqtt://[::1]:77").host == "::1"


def test_password_file__readable_by_others__warns(tmp_path: Path) -> None:
    file = tmp_path / "mqtt.pass"
    file.write_text("s3cret \n")
    file.chmod(0o644)
    password, warning = read_password(str(file))
    assert password == "s3cret "
    assert warning is not None
    assert f"Run: chmod 600 {file}" in warning
    assert "s3cret" not in warning
    file.chmod(0o600)
    assert read_password(str(file))[1] is None


def test_import__pulls_in_no_client_and_no_database() -> None:
    code = "import edgesdk.telemetry, sys; print([m for m in ('paho', 'paho.mqtt.client', 'sqlite3', 'iotcore') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_errors__are_ours() -> None:
    assert issubclass(PayloadTooLargeError, EdgeSdkError)
