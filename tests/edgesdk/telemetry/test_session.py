"""The session against the scripted broker; the real ones are in tests/system."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from edgesdk.samples import Stamp
from edgesdk.telemetry import Telemetry
from edgesdk.telemetry.codecs.api import Message
from edgesdk.telemetry.fake import FakeBroker
from edgesdk.telemetry.transport import Limits

MakeTelemetry = Callable[..., Telemetry]


def publish(telemetry: Telemetry, count: int, stream: str = "door") -> list[str]:
    return [telemetry.publish(stream, {"i": i}, captured=Stamp.now()) for i in range(count)]


def results(broker: FakeBroker) -> list[dict[str, Any]]:
    return [json.loads(m.payload) for m in list(broker.received) if m.topic.endswith("/results")]


def test_session__birth_comes_first_and_goodbye_last(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    publish(telemetry, 3)
    stats = telemetry.close()
    first, *_, last = fake_broker.received
    assert (first.topic, first.retain, first.qos) == ("edgesdk/gate-7/doorway/status", True, 1)
    birth = json.loads(first.payload)
    assert birth["state"] == "online"
    assert birth["capability"] == {"models": {}}
    assert birth["epoch"] == telemetry.stats().epoch
    assert (last.topic, last.retain, json.loads(last.payload)["state"]) == (first.topic, True, "offline")
    assert fake_broker.wills == []
    assert (stats.accepted, stats.delivered, stats.pending) == (3, 3, 0)
    assert all(not m.retain for m in fake_broker.received[1:-1])


def test_session__vanishing_leaves_the_will(make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any) -> None:
    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    fake_broker.reachable = False
    fake_broker.drop_clients()
    (will,) = fake_broker.wills
    assert will.retain
    assert json.loads(will.payload)["state"] == "offline"


def test_session__unreachable_at_start__fills_the_outbox_and_drains_later(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.reachable = False
    telemetry = make_telemetry()
    telemetry.start()
    ids = publish(telemetry, 200)
    assert kit.wait_until(lambda: telemetry.stats().accepted == 200 and telemetry.stats().problem is not None)
    assert "switched off" in (telemetry.stats().problem or "")
    fake_broker.reachable = True
    assert kit.wait_until(lambda: telemetry.stats().pending == 0)
    received = results(fake_broker)
    assert [r["id"] for r in received] == ids
    assert all(r["backfill"] for r in received)
    assert telemetry.stats().problem is None


@pytest.mark.parametrize("receive_maximum", [1, 2, 5, 65535])
def test_session__receive_maximum_is_honoured_in_order(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any, receive_maximum: int
) -> None:
    fake_broker.limits = Limits(receive_maximum=receive_maximum)
    fake_broker.acknowledge = False
    telemetry = make_telemetry()
    telemetry.start()
    ids = publish(telemetry, 60)
    expected = min(20, receive_maximum)
    assert kit.wait_until(lambda: fake_broker.most_in_flight >= max(1, expected - expected // 4))
    while telemetry.stats().delivered < 60:
        fake_broker.release()
        fake_broker.acknowledge = False
        time.sleep(0.002)
    assert fake_broker.most_in_flight <= expected
    assert [r["id"] for r in results(fake_broker)] == ids


def test_session__live_does_not_wait_for_the_backlog(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.reachable = False
    telemetry = make_telemetry()
    telemetry.start()
    publish(telemetry, 2000)
    assert kit.wait_until(lambda: telemetry.stats().accepted == 2000)
    fake_broker.acknowledge = False
    fake_broker.reachable = True
    assert kit.wait_until(lambda: len(results(fake_broker)) >= 14)  # the backlog has filled its share of the window
    live = telemetry.publish("door", {"i": "live"}, captured=Stamp.now())
    assert kit.wait_until(lambda: results(fake_broker)[-1]["id"] == live)
    assert "backfill" not in results(fake_broker)[-1]
    assert len(results(fake_broker)) < 25
    fake_broker.release()
    assert kit.wait_until(lambda: telemetry.stats().pending == 0)
    backlog = [r["sequence"] for r in results(fake_broker) if r.get("backfill")]
    assert backlog == list(range(1, 2001))


def test_session__unacknowledged_is_sent_again_after_a_reconnect(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.acknowledge = False
    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    ids = publish(telemetry, 10)
    assert kit.wait_until(lambda: len(results(fake_broker)) == 10)
    fake_broker.drop_clients()
    fake_broker.acknowledge = True
    assert kit.wait_until(lambda: telemetry.stats().pending == 0)
    assert [r["id"] for r in results(fake_broker)] == ids * 2
    assert telemetry.stats().delivered == 10


def test_session__refusing_puback__is_not_delivered_reported_and_retried(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgesdk.telemetry.lanes.RETRY_FIRST_S", 0.2)
    allowed = False

    def answer(message: Message) -> int:
        return 0x87 if message.topic.endswith("secret/results") and not allowed else 0

    fake_broker.answer = answer
    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    publish(telemetry, 3, "secret")
    publish(telemetry, 3, "door")
    assert kit.wait_until(lambda: telemetry.stats().refused >= 3 and telemetry.stats().delivered == 3)
    stats = telemetry.stats()
    assert stats.pending == 3
    assert "refuses secret sequence" in (stats.problem or "")
    assert "(0x87)" in (stats.problem or "")
    assert "Check the broker's access rules" in (stats.problem or "")
    allowed = True
    assert kit.wait_until(lambda: telemetry.stats().pending == 0)
    assert [r["sequence"] for r in results(fake_broker) if r["stream"] == "secret"][-3:] == [1, 2, 3]


def test_session__packet_larger_than_the_broker_takes__stays_and_is_reported(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.limits = Limits(maximum_packet_bytes=2000)
    telemetry = make_telemetry()
    telemetry.start()
    telemetry.publish("door", {"pad": "x" * 3000}, captured=Stamp.now())
    publish(telemetry, 5)
    assert kit.wait_until(lambda: telemetry.stats().delivered == 5)
    assert telemetry.stats().pending == 1
    assert "takes packets of at most 2000 bytes" in (telemetry.stats().problem or "")


def test_session__record_that_makes_the_broker_hang_up__does_not_hold_up_the_others(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.hangs_up = lambda message: len(message.payload) > 20_000
    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    publish(telemetry, 30)
    telemetry.publish("door", {"pad": "x" * 30_000}, captured=Stamp.now())
    publish(telemetry, 30)
    assert kit.wait_until(lambda: telemetry.stats().delivered == 60)
    assert telemetry.stats().pending == 1
    assert {r["sequence"] for r in results(fake_broker)} == set(range(1, 62)) - {31}
    publish(telemetry, 30)
    assert kit.wait_until(lambda: telemetry.stats().delivered == 90)


def test_session__connections_that_break_by_themselves__convict_nobody(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.acknowledge = False
    telemetry = make_telemetry()
    telemetry.start()
    publish(telemetry, 100)
    for _ in range(4):
        seen = len(results(fake_broker))
        assert kit.wait_until(lambda seen=seen: len(results(fake_broker)) > seen)
        fake_broker.drop_clients()
    fake_broker.acknowledge = True
    fake_broker.release()
    assert kit.wait_until(lambda: telemetry.stats().pending == 0)


def test_health__only_the_newest_waits_and_is_not_stored(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    fake_broker.reachable = False
    telemetry = make_telemetry()
    telemetry.start()
    for temperature in (50, 60, 70):
        telemetry.health({"temperature_c": temperature})
    fake_broker.reachable = True
    topic = "edgesdk/gate-7/doorway/health"
    assert kit.wait_until(lambda: any(m.topic == topic for m in list(fake_broker.received)))
    (message,) = [m for m in fake_broker.received if m.topic == topic]
    assert json.loads(message.payload)["health"] == {"temperature_c": 70}
    assert telemetry.stats().accepted == 0


def replay(broker: FakeBroker, kit: Any, payload: bytes, name: str = "replay") -> dict[str, Any]:
    before = len(broker.received)
    broker.send(f"edgesdk/gate-7/doorway/command/{name}", payload, correlation=b"c1")
    topic = f"edgesdk/gate-7/doorway/response/{name}"
    assert kit.wait_until(lambda: any(m.topic == topic for m in broker.received[before:]))
    (message,) = [m for m in broker.received[before:] if m.topic == topic]
    assert message.correlation == b"c1"
    answer: dict[str, Any] = json.loads(message.payload)
    return answer


def test_replay__sends_delivered_records_again_with_the_same_identity(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    telemetry = make_telemetry()
    telemetry.start()
    ids = publish(telemetry, 300)
    assert kit.wait_until(lambda: telemetry.stats().pending == 0 and telemetry.stats().accepted == 300)
    before = len(results(fake_broker))
    answer = replay(fake_broker, kit, b'{"stream": "door", "from": 101, "to": 310, "correlation": "mine"}')
    again = results(fake_broker)[before:]
    assert [r["id"] for r in again] == ids[100:]
    assert [r["sequence"] for r in again] == list(range(101, 301))
    assert all(r["backfill"] for r in again)
    assert answer["ok"]
    assert (answer["sent"], answer["missing"], answer["missing_ranges"]) == (200, 10, [[301, 310]])
    assert answer["correlation"] == "mine"
    assert telemetry.stats().delivered == 300


def test_replay__of_what_expired__is_told_missing(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    telemetry = make_telemetry(keep_delivered_s=0.0)
    telemetry.start()
    publish(telemetry, 10)
    assert kit.wait_until(lambda: telemetry.stats().delivered == 10)
    telemetry.publish("door", {"i": 10}, captured=Stamp.now(), durable=True)  # its commit removes the old ones
    answer = replay(fake_broker, kit, b'{"stream": "door", "from": 1, "to": 10}')
    assert (answer["ok"], answer["sent"], answer["missing_ranges"]) == (True, 0, [[1, 10]])


@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("replay", b"{", r"not a replay request: Input data was truncated\. Send for example"),
        ("replay", b"\xff", "not a replay request"),
        ("replay", b'{"stream": "door", "from": 0, "to": 3}', r"`int` >= 1 - at `\$\.from`"),
        ("replay", b'{"stream": "door", "from": 3, "to": 1}', r"'to' \(1\) lies before 'from' \(3\)\. Exchange them"),
        ("replay", b'{"stream": "door", "from": 1, "to": 1, "since": 1}', "unknown field `since`"),
        ("replay", b"x" * 20_000, "20000 bytes, at most 16384"),
        ("reboot", b"{}", "command 'reboot' is unknown. Known: replay."),
    ],
)
def test_command__malformed__is_answered(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any, name: str, payload: bytes, error: str
) -> None:
    import re

    telemetry = make_telemetry()
    telemetry.start()
    assert kit.wait_until(lambda: telemetry.stats().connected)
    answer = replay(fake_broker, kit, payload, name)
    assert not answer["ok"]
    assert re.search(error, answer["error"])


def test_replay__of_another_epoch__is_all_missing(
    make_telemetry: MakeTelemetry, fake_broker: FakeBroker, kit: Any
) -> None:
    telemetry = make_telemetry()
    telemetry.start()
    publish(telemetry, 3)
    assert kit.wait_until(lambda: telemetry.stats().delivered == 3)
    answer = replay(fake_broker, kit, b'{"stream": "door", "from": 1, "to": 3, "epoch": "older"}')
    assert (answer["sent"], answer["missing"]) == (0, 3)
