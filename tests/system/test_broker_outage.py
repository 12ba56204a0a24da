"""The promise of contract 3 against real brokers: killed in the middle of a run, with a ledger of what became of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgesdk.samples import Stamp
from edgesdk.telemetry import MqttSettings, OutboxSettings, Telemetry, TelemetrySettings
from edgesdk.telemetry.broker import EmbeddedBroker
from edgesdk.telemetry.collector import Collector

SCHEMAS = Path(__file__).parents[2] / "docs" / "telemetry"


@pytest.fixture(params=["rumqttd", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "mosquitto":
        yield request.getfixturevalue("make_mosquitto")()
        return
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    with EmbeddedBroker() as embedded:
        yield embedded


class Publisher(threading.Thread):
    """Publishes at a steady rate, as a camera does."""

    def __init__(self, telemetry: Telemetry, rate_hz: float) -> None:
        super().__init__()
        self.telemetry = telemetry
        self.period_s = 1 / rate_hz
        self.ids: list[str] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(self.period_s):
            stats = {"boxes_xyxy": [[0.1, 0.2, 0.3, 0.4]], "n": len(self.ids)}
            self.ids.append(self.telemetry.publish("door", stats, captured=Stamp.now(), latency={"pre_ms": 0.3}))


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def telemetry_for(url: str, tmp_path: Path, protocol: Any = "mqtt5") -> Telemetry:
    settings = TelemetrySettings(
        mqtt=MqttSettings(url=url, reconnect_max_s=0.5, protocol=protocol),
        outbox=OutboxSettings(path=str(tmp_path / "run.outbox")),
    )
    return Telemetry(settings, device="gate-7", app="doorway", capability={"models": {"faces": {"version": 3}}})


@pytest.mark.parametrize("outage_s", [1.5, pytest.param(10.0, marks=pytest.mark.slow)])
def test_outage__nothing_is_lost_and_the_ledger_shows_it(
    broker: Any, tmp_path: Path, outage_s: float, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry = telemetry_for(broker.url, tmp_path)
    collector = Collector(broker.url, "edgesdk/#", session="backend-1").start()
    telemetry.start()
    publisher = Publisher(telemetry, rate_hz=100)
    publisher.start()
    assert collector.wait_for(lambda c: len(c.ids) >= 50, 30)

    # The backend goes away; its session stays in the broker, which acknowledges and queues for it ...
    collector.close()
    acknowledged = telemetry.stats().delivered
    # More than the 50 that the ledger has to show: the counter trails the acknowledgements by a commit window.
    assert wait_until(lambda: telemetry.stats().delivered >= acknowledged + 100)
    # ... and then dies with everything that it acknowledged.
    broker.kill()
    killed = time.monotonic()
    assert wait_until(lambda: not telemetry.stats().connected)
    time.sleep(max(0.0, outage_s - (time.monotonic() - killed)))
    waiting = telemetry.stats().pending
    broker.start()
    collector.start()
    assert wait_until(lambda: telemetry.stats().connected)
    n = len(publisher.ids)
    assert wait_until(lambda: len(publisher.ids) >= n + 50)
    publisher.done.set()
    publisher.join()
    assert telemetry.flush()
    assert wait_until(lambda: telemetry.stats().pending == 0)
    stats = telemetry.stats()
    assert (stats.accepted, stats.delivered, stats.dropped) == (len(publisher.ids), len(publisher.ids), 0)

    # Before the replay: what is missing, the broker had acknowledged and lost.
    last = len(publisher.ids)
    collector.wait_for(lambda c: publisher.ids[-1] in c.ids, 10)
    before = len(collector.ids)
    holes = collector.holes("door", stats.epoch, upto=last)
    assert len(holes) == last - before
    assert len(holes) >= 50
    answers = [
        collector.request_replay(telemetry.topics, "door", first, last_, epoch=stats.epoch)
        for first, last_ in ranges(holes)
    ]
    assert collector.wait_for(lambda c: len(c.ids) == last, 30)
    telemetry.health({"temperature_c": 61.5})
    assert collector.wait_for(lambda c: any(m.topic.endswith("/health") for m in c.messages), 10)
    final = telemetry.close()
    assert collector.wait_for(lambda c: any(b'"state":"offline"' in m.payload for m in c.messages), 10)
    collector.close()

    assert collector.ids == set(publisher.ids)
    assert collector.holes("door", stats.epoch, upto=last) == []
    assert sum(answer["sent"] for answer in answers) >= len(holes)
    assert all(answer["ok"] and answer["missing"] == 0 for answer in answers)
    assert final.pending == 0
    copies = len(collector.of("edgesdk.result/1"))
    with capsys.disabled():
        print(  # noqa: T201 - the ledger is what this test is for
            f"\nledger, broker {type(broker).__name__}, outage {outage_s:g} s\n"
            f"  accepted (on the disk)                 {last:6d}\n"
            f"  waiting when the broker came back      {waiting:6d}\n"
            f"  acknowledged by the broker (PUBACK)    {stats.delivered:6d}   lost before its PUBACK: {last - stats.delivered}\n"
            f"  received before the replay             {before:6d}   lost by the broker after its PUBACK: {len(holes)}\n"
            f"  received after the replay              {len(collector.ids):6d}   missing: {last - len(collector.ids)}\n"
            f"  copies received, told apart by id      {copies:6d}   duplicates: {copies - len(collector.ids)}"
        )
    validate_all(collector)


def ranges(numbers: list[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def validate_all(collector: Collector) -> None:
    """Every message that really went over the wire keeps its JSON Schema."""
    seen = set()
    for message in collector.messages:
        if not message.topic.startswith("edgesdk/"):
            continue
        payload = message.json() if message.topic.count("/command/") == 0 else None
        if payload is None:
            name = "replay-request"
            payload = json.loads(message.payload)
        else:
            name = payload["schema"].removeprefix("edgesdk.").removesuffix("/1")
        schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(payload)
        assert len(message.payload) <= 128_000
        # Only status is ever published as retained; the flag arrives only where it was stored before we subscribed.
        assert not message.retain or name == "status"
        seen.add(name)
    assert {"result", "status", "health", "response", "replay-request"} <= seen


def test_result__arrives_as_published(broker: Any, tmp_path: Path) -> None:
    collector = Collector(broker.url, "edgesdk/#").start()
    telemetry = telemetry_for(broker.url, tmp_path)
    telemetry.start()
    assert wait_until(lambda: telemetry.stats().connected)
    captured = Stamp(time_ns=1_790_000_000_123_456_789, monotonic_ns=77)
    telemetry.publish(
        "door",
        {"faces": [], "text": "Ä\u2603\0"},
        captured=captured,
        model={"faces": {"version": 3, "bundle": "ab12"}},
        latency={"pre_ms": 0.5, "inference_ms": 4.0, "post_ms": 0.25},
    )
    assert collector.wait_for(lambda c: len(c.ids) == 1, 10)
    collector.close()
    telemetry.close()
    (message,) = [m for m in collector.messages if m.topic.endswith("/results")]
    payload = message.json()
    assert message.topic == "edgesdk/gate-7/doorway/door/results"
    assert not message.retain
    assert message.properties["ContentType"] == "application/json"
    assert payload["result"] == {"faces": [], "text": "Ä\u2603\0"}
    assert payload["time"] == "2026-09-21T14:13:20.123456Z"
    assert payload["monotonic_ns"] == 77
    assert payload["latency"] == {"pre_ms": 0.5, "inference_ms": 4.0, "post_ms": 0.25}
    assert payload["model"] == {"faces": {"version": 3, "bundle": "ab12"}}
    assert (payload["stream"], payload["sequence"]) == ("door", 1)


def test_late_subscriber__sees_the_retained_status_and_no_result(broker: Any, tmp_path: Path) -> None:
    telemetry = telemetry_for(broker.url, tmp_path)
    telemetry.start()
    telemetry.publish("door", {}, captured=Stamp.now())
    assert wait_until(lambda: telemetry.stats().delivered == 1)
    with Collector(broker.url, "edgesdk/#") as collector:
        assert collector.wait_for(lambda c: bool(c.messages), 10)
        telemetry.close()
        assert collector.wait_for(lambda c: len(c.messages) == 2, 10)
    birth, goodbye = (message.json() for message in collector.messages)
    assert collector.messages[0].retain
    assert (birth["state"], goodbye["state"]) == ("online", "offline")
    assert birth["capability"] == {"models": {"faces": {"version": 3}}}


def test_large_result__passes_both_brokers(broker: Any, tmp_path: Path) -> None:
    with Collector(broker.url, "edgesdk/#") as collector:
        telemetry = telemetry_for(broker.url, tmp_path)
        telemetry.start()
        telemetry.publish("door", {"pad": "x" * 127_000}, captured=Stamp.now())
        assert collector.wait_for(lambda c: len(c.ids) == 1, 10)
        telemetry.close()


@pytest.mark.mosquitto
def test_mqtt311__on_request(make_mosquitto: Any, tmp_path: Path) -> None:
    broker = make_mosquitto()
    with Collector(broker.url, "edgesdk/#") as collector:
        telemetry = telemetry_for(broker.url, tmp_path, "mqtt311")
        telemetry.start()
        ids = {telemetry.publish("door", {"n": n}, captured=Stamp.now()) for n in range(100)}
        assert collector.wait_for(lambda c: c.ids == ids, 10)
        telemetry.close()
    log = (broker.folder / "mosquitto.log").read_text()
    assert "as gate-7-doorway (p2, c1, k30)" in log  # mosquitto counts: p2 is 3.1.1, p5 is 5.0
