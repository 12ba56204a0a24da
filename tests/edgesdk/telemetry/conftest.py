from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgesdk.telemetry import MqttSettings, OutboxSettings, Telemetry, TelemetrySettings
from edgesdk.telemetry.codecs.api import Record
from edgesdk.telemetry.fake import FakeBroker
from edgesdk.telemetry.ids import uuid7
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.ring import Entry
from edgesdk.telemetry.store import Store
from edgesdk.telemetry.topics import Topics

TOPICS = Topics("gate-7", "doorway")


class Keeper:
    """A consumer that keeps what it is offered."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def offer(self, records: Sequence[Record]) -> None:
        self.records.extend(records)


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def entry(stream: str = "door", value: Any = 1, size: int = 0) -> Entry:
    body: dict[str, Any] = {"result": {"value": value}}
    if size:
        body["result"]["pad"] = "x" * size
    return Entry(stream, uuid7(), time.time_ns(), time.monotonic_ns(), msgspec.json.encode(body))


def read(outbox: Outbox) -> list[Record]:
    """Everything pending, read by the writer."""
    found: list[Record] = []
    done = threading.Event()

    def job(store: Store) -> None:
        found.extend(outbox.read_pending(store, 0, store.last_row, 10**6)[0])
        done.set()

    outbox.submit(job)
    assert done.wait(20)
    return found


class Kit:
    """Helpers that tests of this folder share (there are no importable test modules)."""

    Keeper = Keeper
    topics = TOPICS
    wait_until = staticmethod(wait_until)
    entry = staticmethod(entry)
    read = staticmethod(read)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture
def make_outbox(tmp_path: Path) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def make(name: str = "queue.outbox", **settings: Any) -> Outbox:
        settings.setdefault("commit_window_s", 0.0)
        outbox = Outbox(OutboxSettings(**settings), tmp_path / name, TOPICS)
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        outbox.close()


@pytest.fixture
def fake_broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def make_telemetry(tmp_path: Path, fake_broker: FakeBroker) -> Iterator[Callable[..., Telemetry]]:
    made: list[Telemetry] = []

    def make(**outbox: Any) -> Telemetry:
        outbox.setdefault("commit_window_s", 0.0)
        settings = TelemetrySettings(
            mqtt=MqttSettings(url="mqtt://localhost", reconnect_max_s=0.05),
            outbox=OutboxSettings(path=str(tmp_path / "app.outbox"), **outbox),
        )
        telemetry = Telemetry(
            settings, device="gate-7", app="doorway", capability={"models": {}}, transport=fake_broker.transport
        )
        made.append(telemetry)
        return telemetry

    yield make
    for telemetry in made:
        telemetry.close(0.1)
