"""Topics, ids, clock, schemas, back-off, and the embedded broker and collector by themselves."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import MissingExtraError, TelemetryError
from edgesdk.telemetry import clock
from edgesdk.telemetry.backoff import FullJitter
from edgesdk.telemetry.broker import EmbeddedBroker
from edgesdk.telemetry.collector import Collector
from edgesdk.telemetry.ids import Uuid7
from edgesdk.telemetry.payloads import PAYLOADS, Time
from edgesdk.telemetry.schemas import schema_text
from edgesdk.telemetry.suspects import Suspects
from edgesdk.telemetry.topics import Topics, check_filter, check_id, check_topic

DOCS = Path(__file__).parents[3] / "docs" / "telemetry"


# -- topics


def test_topics__are_those_of_the_contract() -> None:
    topics = Topics("gate-7", "doorway")
    assert topics.status == "edgesdk/gate-7/doorway/status"
    assert topics.results("door") == "edgesdk/gate-7/doorway/door/results"
    assert topics.health == "edgesdk/gate-7/doorway/health"
    assert topics.command("replay") == "edgesdk/gate-7/doorway/command/replay"
    assert topics.response("replay") == "edgesdk/gate-7/doorway/response/replay"
    assert check_filter(topics.commands) == "edgesdk/gate-7/doorway/command/+"


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("a/+/b", "wildcards and only allowed when subscribing"),
        ("a/#", "wildcards"),
        ("", "at least one character"),
        ("/a", "Leave it out"),
        ("a\0", "no NUL"),
        ("/".join("abcdefghi"), "8 slashes, at most 7"),
        ("ä" * 200, "400 bytes, at most 256"),
    ],
)
def test_check_topic__names_what_is_wrong(topic: str, message: str) -> None:
    with pytest.raises(TelemetryError, match=message):
        check_topic(topic)


@pytest.mark.parametrize(
    ("topic_filter", "message"),
    [
        ("a/b+", "A wildcard fills a whole level"),
        ("a/#/b", "only allowed as the last level"),
        ("a#", "mixes a wildcard"),
    ],
)
def test_check_filter__names_what_is_wrong(topic_filter: str, message: str) -> None:
    with pytest.raises(TelemetryError, match=message):
        check_filter(topic_filter)


@given(st.text(max_size=40))
def test_check_id__takes_it_or_offers_one_that_it_takes(text: str) -> None:
    try:
        assert check_id(text, "stream") == text
        assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    except TelemetryError as error:
        offered = str(error).rpartition("Use '")[2].removesuffix("'.")
        assert check_id(offered, "stream") == offered


# -- ids and clock


def test_uuid7__is_valid_ordered_and_unique_over_threads() -> None:
    make = Uuid7()
    made: list[list[str]] = [[] for _ in range(4)]

    def work(own: list[str]) -> None:
        own.extend(make() for _ in range(5000))

    threads = [threading.Thread(target=work, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in made:
        assert own == sorted(own)
    everything = {id_ for own in made for id_ in own}
    assert len(everything) == 20_000
    parsed = uuid.UUID(made[0][0])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 60


def test_uuid7__clock_steps_back__still_ascends(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Uuid7()
    first = make()
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    later = [make() for _ in range(1000)]
    assert [first, *later] == sorted({first, *later})


@given(st.integers(0, clock.MAX_TIME_NS - 1))
def test_rfc3339__has_the_documented_form(time_ns: int) -> None:
    text = clock.rfc3339(time_ns)
    assert msgspec.convert(text, Time) == text


def test_clock_synced__is_honest_when_nothing_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "synchronized"
    monkeypatch.setattr(clock, "_kernel_status", lambda: None)
    assert clock.read_clock_synced(mark) is None
    monkeypatch.setattr(clock, "_kernel_status", lambda: 0x40)
    assert clock.read_clock_synced(mark) is False
    monkeypatch.setattr(clock, "_kernel_status", lambda: 0x2001)
    assert clock.read_clock_synced(mark) is True
    mark.touch()
    monkeypatch.setattr(clock, "_kernel_status", lambda: 0x40)
    assert clock.read_clock_synced(mark) is True


def test_clock_synced__on_this_machine__answers() -> None:
    assert clock.read_clock_synced() in (True, False, None)


def test_backoff__stays_below_the_doubling_ceiling_and_resets() -> None:
    backoff = FullJitter(8.0, first_s=1.0)
    ceilings = [1.0, 2.0, 4.0, 8.0, 8.0]
    assert all(0 <= backoff.next_s() <= ceiling for ceiling in ceilings)
    backoff.reset()
    assert backoff.next_s() <= 1.0
    waits = [FullJitter(60.0, first_s=60.0).next_s() for _ in range(200)]
    assert min(waits) < 15
    assert max(waits) > 45


# -- schemas


@pytest.mark.parametrize("name", PAYLOADS)
def test_schema__file_is_the_export(name: str) -> None:
    assert (DOCS / f"{name}.schema.json").read_text() == schema_text(name), (
        "run: python -c 'from pathlib import Path; from edgesdk.telemetry.schemas import export; export(Path(\"docs/telemetry\"))'"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(name)))


def test_schema__folder_has_nothing_else() -> None:
    assert {file.name for file in DOCS.glob("*.schema.json")} == {f"{name}.schema.json" for name in PAYLOADS}


# -- embedded broker and collector


def test_embedded_broker__without_iotcore__names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"Run: pip install 'edgesdk\[broker\]', or name your own broker"):
        EmbeddedBroker()


def test_embedded_broker__stop__frees_the_port_and_leaves_no_process() -> None:
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    broker = EmbeddedBroker()
    with broker:
        pid = broker.pid
        assert pid is not None
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
    broker.stop()
    assert not Path(f"/proc/{pid}").exists()
    with EmbeddedBroker(broker.port):
        pass


def test_embedded_broker__ends_with_its_parent_but_not_with_the_thread_that_started_it() -> None:
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    script = """
import os, socket, sys, threading
from edgesdk.telemetry.broker import EmbeddedBroker
broker = EmbeddedBroker()
thread = threading.Thread(target=broker.start)
thread.start()
thread.join()
socket.create_connection((broker.host, broker.port), 5).close()
print(broker.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and running(pid):
        time.sleep(0.02)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_embedded_broker__port_in_use__is_told() -> None:
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = EmbeddedBroker(server.getsockname()[1])
        with pytest.raises(TelemetryError, match="Take another port"):
            broker.start()
        assert broker.pid is None


def test_collector__broker_unreachable__is_told() -> None:
    collector = Collector("mqtt://127.0.0.1:9", "edgesdk/#")
    with pytest.raises(TelemetryError, match=r"cannot be reached: .* Is it running\?"):
        collector.start()


def test_collector__not_started__says_so() -> None:
    collector = Collector("mqtt://127.0.0.1:9", "edgesdk/#")
    with pytest.raises(TelemetryError, match=r"Call start\(\)"):
        collector.command(Topics("d", "a"), "replay", b"{}")


def test_collector__counts_holes_and_ignores_strangers() -> None:
    collector = Collector("mqtt://127.0.0.1:9", "#")

    def arrive(payload: bytes) -> None:
        message: Any = type("Message", (), {"topic": "edgesdk/d/a/s/results", "payload": payload, "retain": False})()
        message.properties = None
        collector._message(None, None, message)

    for sequence in (1, 2, 5):
        arrive(
            json.dumps(
                {"schema": "edgesdk.result/1", "stream": "s", "epoch": "e", "sequence": sequence, "id": str(sequence)}
            ).encode()
        )
    for stranger in (b"", b"[]", b"1", b"\xff", b'{"stream": []}'):
        arrive(stranger)
    assert collector.holes("s", "e") == [3, 4]
    assert collector.holes("s", "e", upto=7) == [3, 4, 6, 7]
    assert collector.holes("other") == []
    assert collector.ids == {"1", "2", "5"}
    assert len(collector.messages) == 8


def test_suspects__one_that_a_rule_dropped__slows_nothing_down_for_ever() -> None:
    suspects = Suspects()
    for _ in range(3):
        suspects.lost([5, 6, 40])
    assert suspects.careful
    suspects.forget(10, in_flight={6})
    assert suspects.careful  # 6 is on its way, 40 is no backlog
    suspects.answered(6)
    suspects.answered(40)
    assert not suspects.careful
