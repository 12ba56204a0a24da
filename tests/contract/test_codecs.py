"""What every codec and every transport promises, run against the real ones and the fakes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.registry import CODECS, load_plugin, plugins
from edgesdk.telemetry.broker import EmbeddedBroker
from edgesdk.telemetry.codecs.api import Codec, Message, Record
from edgesdk.telemetry.codecs.fake import FakeCodec
from edgesdk.telemetry.fake import FakeBroker
from edgesdk.telemetry.mqtt import PahoTransport
from edgesdk.telemetry.settings import MqttSettings
from edgesdk.telemetry.topics import Topics, check_topic
from edgesdk.telemetry.transport import Acked, Arrived, Event, Lost, Transport, TransportError

TOPICS = Topics("gate-7", "doorway")
WILL = Message(topic=TOPICS.status, payload=b'{"state":"offline"}', retain=True)

# -- codecs --------------------------------------------------------------------------------------------------------

NAMES = sorted({*plugins(CODECS), "fake"})


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    made: Codec = FakeCodec(TOPICS) if request.param == "fake" else load_plugin(CODECS, request.param)(TOPICS)
    return made


def record(body: dict[str, Any], kind: Any = "result", stream: str = "door") -> Record:
    return Record(1, kind, stream, 7, "id-1", json.dumps({"schema": "edgesdk.result/1", **body}).encode())


def test_codec__keeps_the_protocol(codec: Codec) -> None:
    assert isinstance(codec, Codec)
    assert codec.name in NAMES


@pytest.mark.parametrize("kind", ["result", "gap"])
@pytest.mark.parametrize("backfill", [False, True])
def test_codec__publishes_where_one_may_and_never_retained(codec: Codec, kind: str, *, backfill: bool) -> None:
    message = codec.encode(record({"result": {}}, kind), backfill=backfill)
    assert check_topic(message.topic) == "edgesdk/gate-7/doorway/door/results"
    assert not message.retain
    assert message.qos == (1 if codec.reliable else 0)


def test_codec__is_deterministic_and_tells_backfill(codec: Codec) -> None:
    live, again, old = (codec.encode(record({"result": {"n": 1}}), backfill=b) for b in (False, False, True))
    assert live == again
    assert live.payload != old.payload


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", ["fake", "json"])
@given(result=st.dictionaries(st.text(), JSON, max_size=3))
def test_json_codec__backfill_is_the_only_difference(name: str, result: dict[str, Any]) -> None:
    codec = FakeCodec(TOPICS) if name == "fake" else load_plugin(CODECS, name)(TOPICS)
    live, old = (json.loads(codec.encode(record({"result": result}), backfill=b).payload) for b in (False, True))
    assert live["result"] == result
    assert old == {**live, "backfill": True}


# -- transports ----------------------------------------------------------------------------------------------------


class FakeRig:
    def __init__(self) -> None:
        self.broker = FakeBroker()

    def transport(self) -> Transport:
        return self.broker.transport()

    def cut(self) -> None:
        self.broker.reachable = False
        self.broker.drop_clients()

    def send(self, topic: str, payload: bytes) -> None:
        self.broker.send(topic, payload)


class RealRig:
    def __init__(self, broker: EmbeddedBroker, protocol: Any) -> None:
        self.broker = broker
        self.protocol = protocol

    def transport(self) -> Transport:
        return PahoTransport(MqttSettings(url=self.broker.url, protocol=self.protocol), "gate-7-doorway")

    def cut(self) -> None:
        self.broker.kill()

    def send(self, topic: str, payload: bytes) -> None:
        sender = PahoTransport(MqttSettings(url=self.broker.url), "sender")
        sender.connect(will=Message(topic="edgesdk/x/y/status", payload=b""), subscribe="edgesdk/x/#")
        sender.publish(Message(topic=topic, payload=payload))
        collect(sender, lambda events: any(isinstance(e, Acked) for e in events))
        sender.close(polite=True)


@pytest.fixture(params=["fake", "paho"])
def rig(request: pytest.FixtureRequest) -> Iterator[FakeRig | RealRig]:
    if request.param == "fake":
        yield FakeRig()
        return
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    with EmbeddedBroker() as broker:
        yield RealRig(broker, "mqtt5")


def collect(transport: Transport, enough: Callable[[list[Event]], bool], timeout_s: float = 10.0) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + timeout_s
    while not enough(events) and time.monotonic() < deadline:
        events += transport.poll(0.5)
    return events


def test_transport__acknowledges_what_it_took_by_token(rig: FakeRig | RealRig) -> None:
    transport = rig.transport()
    assert isinstance(transport, Transport)
    limits = transport.connect(will=WILL, subscribe=TOPICS.commands)
    assert limits.receive_maximum >= 1
    tokens = [transport.publish(Message(topic=TOPICS.results("s"), payload=b"{}")) for _ in range(10)]
    assert len(set(tokens)) == 10
    events = collect(transport, lambda e: len(e) >= 10)
    assert sorted(e.token for e in events if isinstance(e, Acked)) == sorted(tokens)
    assert all(e.reason_code < 0x80 for e in events if isinstance(e, Acked))
    transport.close(polite=True)


def test_transport__delivers_commands(rig: FakeRig | RealRig) -> None:
    transport = rig.transport()
    transport.connect(will=WILL, subscribe=TOPICS.commands)
    rig.send(TOPICS.command("replay"), b"hello")
    events = collect(transport, lambda e: any(isinstance(x, Arrived) for x in e))
    (arrived,) = [e for e in events if isinstance(e, Arrived)]
    assert (arrived.topic, arrived.payload, arrived.retain) == (TOPICS.command("replay"), b"hello", False)
    transport.close(polite=True)


def test_transport__cut__tells_it_once_and_a_fresh_one_is_refused(rig: FakeRig | RealRig) -> None:
    transport = rig.transport()
    transport.connect(will=WILL, subscribe=TOPICS.commands)
    rig.cut()
    events = collect(transport, lambda e: any(isinstance(x, Lost) for x in e))
    assert len([e for e in events if isinstance(e, Lost)]) == 1
    transport.publish(Message(topic=TOPICS.results("s"), payload=b"{}"))  # does not raise
    transport.close(polite=False)
    other = rig.transport()
    with pytest.raises(TransportError, match="cannot be reached"):
        other.connect(will=WILL, subscribe=TOPICS.commands)
    other.close(polite=False)


def test_transport__wake__ends_the_poll(rig: FakeRig | RealRig) -> None:
    transport = rig.transport()
    transport.connect(will=WILL, subscribe=TOPICS.commands)
    transport.wake()
    started = time.monotonic()
    assert transport.poll(30.0) == []
    assert time.monotonic() - started < 20.0
    transport.close(polite=True)
