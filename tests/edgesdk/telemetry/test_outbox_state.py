"""Random lives of an outbox: whatever the order of publish, acknowledge, restart and filling up, nothing accepted vanishes."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgesdk.telemetry import OutboxSettings
from edgesdk.telemetry.ids import uuid7
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.ring import Entry
from edgesdk.telemetry.store import Store
from edgesdk.telemetry.topics import Topics


class OutboxMachine(RuleBasedStateMachine):
    """The model: what was accepted, delivered, and told as dropped, per stream."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="edgesdk-outbox-"))
        self.outbox: Outbox | None = None
        self.accepted: dict[str, str] = {}  # id -> stream
        self.acknowledged: set[str] = set()
        self.dropped_before = 0
        self.epoch: str | None = None

    @initialize(when_full=st.sampled_from(["drop_oldest", "drop_newest"]))
    def choose(self, when_full: Any) -> None:
        self.settings = OutboxSettings(max_size_bytes=1 << 20, when_full=when_full, commit_window_s=0.0)
        self.open()

    def open(self) -> None:
        self.outbox = Outbox(self.settings, self.folder / "q.outbox", Topics("d", "a"))
        self.outbox.start()
        if self.epoch is not None:
            assert self.outbox.epoch == self.epoch
        self.epoch = self.outbox.epoch

    def on_writer(self, job: Any) -> Any:
        found: list[Any] = []
        done = threading.Event()

        def run(store: Store) -> None:
            found.append(job(store))
            done.set()

        assert self.outbox is not None
        self.outbox.submit(run)
        assert done.wait(30)
        return found[0]

    def pending(self) -> list[Any]:
        outbox = self.outbox
        assert outbox is not None
        records: list[Any] = self.on_writer(lambda store: outbox.read_pending(store, 0, store.last_row, 10**6)[0])
        return records

    @rule(stream=st.sampled_from(["a", "b"]), count=st.integers(1, 30), size=st.sampled_from([10, 2_000, 30_000]))
    def publish(self, stream: str, count: int, size: int) -> None:
        assert self.outbox is not None
        body = json.dumps({"result": {"pad": "x" * size}}).encode()
        entries = [Entry(stream, uuid7(), time.time_ns(), 1, body) for _ in range(count)]
        for entry in entries:
            self.outbox.put(entry)
        assert self.outbox.flush(30)
        for entry in entries:
            self.accepted[entry.id] = stream

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        assert self.outbox is not None
        pending = self.pending()
        if not pending:
            return
        upto = data.draw(st.integers(0, len(pending) - 1))
        for record in pending[: upto + 1]:
            self.outbox.acknowledge(record.row)
            self.acknowledged.add(record.id)
        assert self.outbox.flush(30)

    @rule(late=st.integers(1, 10**6))
    def acknowledge_unknown_row(self, late: int) -> None:
        assert self.outbox is not None
        highest = self.on_writer(lambda store: store.last_row)
        self.outbox.acknowledge(highest + late)
        assert self.outbox.flush(30)

    @rule()
    def restart(self) -> None:
        assert self.outbox is not None
        self.outbox.close()
        self.dropped_before += self.outbox.dropped
        self.open()

    @rule()
    def crash(self) -> None:
        """The file as a killed process leaves it: the WAL not folded in."""
        assert self.outbox is not None
        assert self.outbox.flush(30)
        copy = self.folder / "copy"

        def snapshot(_store: Store) -> None:
            copy.mkdir()
            for file in self.folder.glob("q.outbox*"):
                shutil.copy(file, copy / file.name)

        self.on_writer(snapshot)
        self.outbox.close()
        self.dropped_before += self.outbox.dropped
        for file in self.folder.glob("q.outbox*"):
            file.unlink()
        for file in copy.iterdir():
            shutil.move(file, self.folder / file.name)
        copy.rmdir()
        self.open()

    @invariant()
    def accounts_balance(self) -> None:
        if self.outbox is None:
            return
        pending = self.pending()
        ids = {record.id for record in pending}
        assert len(ids) == len(pending)
        assert not ids & self.acknowledged
        dropped = self.dropped_before + self.outbox.dropped
        # Every result is pending, or acknowledged, or counted as dropped.
        assert len(self.accepted) == len(ids) + len(self.acknowledged) + dropped
        assert self.outbox.pending == len(pending)
        told = self.on_writer(lambda store: store.connection.execute("SELECT sum(dropped) FROM gaps").fetchone()[0])
        assert (told or 0) == dropped
        for stream in ("a", "b"):
            sequences = [record.sequence for record in pending if record.stream == stream]
            assert sequences == sorted(set(sequences))
        assert sum(file.stat().st_size for file in self.folder.glob("q.outbox*")) <= 1 << 20

    def teardown(self) -> None:
        if self.outbox is not None:
            self.outbox.close()
        shutil.rmtree(self.folder)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
