from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgesdk.errors import OutboxFullError, TelemetryError
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.store import Store

MakeOutbox = Callable[..., Outbox]
MIB = 1 << 20


def sizes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_outbox__keeps_everything_over_a_restart(make_outbox: MakeOutbox, kit: Any) -> None:
    first = make_outbox()
    first.start()
    ids = []
    for i in range(20):
        entry = kit.entry(value=i)
        ids.append(entry.id)
        first.put(entry)
    first.close()
    assert first.accepted == 20
    second = make_outbox()
    second.start()
    records = kit.read(second)
    assert [record.id for record in records] == ids
    assert [record.sequence for record in records] == list(range(1, 21))
    assert second.epoch == first.epoch
    assert second.pending == 20


def test_outbox__sequences_go_on_after_everything_was_delivered_and_expired(make_outbox: MakeOutbox, kit: Any) -> None:
    first = make_outbox(keep_delivered_s=0.0)
    first.start()
    first.put(kit.entry(), durable=True)
    (record,) = kit.read(first)
    first.acknowledge(record.row)
    assert kit.wait_until(lambda: first.delivered == 1)
    first.put(kit.entry(), durable=True)  # this commit deletes the delivered one
    (later,) = kit.read(first)
    first.acknowledge(later.row)
    first.close()
    second = make_outbox(keep_delivered_s=0.0)
    second.start()
    second.put(kit.entry(), durable=True)
    (record,) = kit.read(second)
    assert record.sequence == 3
    assert record.row > later.row


def test_outbox__sequences_are_counted_per_stream(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()
    outbox.start()
    for stream in ("door", "speech", "door"):
        outbox.put(kit.entry(stream))
    assert outbox.flush(20)
    assert [(r.stream, r.sequence) for r in kit.read(outbox)] == [("door", 1), ("speech", 1), ("door", 2)]


def test_put__durable__is_on_the_disk_when_it_returns(make_outbox: MakeOutbox, kit: Any, tmp_path: Path) -> None:
    outbox = make_outbox(commit_window_s=10.0)
    outbox.start()
    outbox.put(kit.entry(), durable=True)
    assert outbox.accepted == 1


def test_drop_oldest__stays_within_the_bound_and_tells_the_gap(
    make_outbox: MakeOutbox, kit: Any, tmp_path: Path
) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="drop_oldest")
    outbox.start()
    largest = 0
    for i in range(300):
        outbox.put(kit.entry(value=i, size=10_000), durable=i % 20 == 0)
        largest = max(largest, sizes(tmp_path))
    assert outbox.flush(20)
    assert largest <= MIB
    assert outbox.accepted == 300
    assert outbox.dropped > 200
    keeper = kit.Keeper()
    outbox.attach(keeper, lambda _row: None)
    assert kit.wait_until(lambda: any(record.kind == "gap" for record in keeper.records))
    gap = json.loads(keeper.records[0].body)
    results = [json.loads(r.body) for r in kit.read(outbox) if r.kind == "result"]
    assert gap["rule"] == "drop_oldest"
    assert gap["dropped"] == outbox.dropped
    assert (gap["first_sequence"], gap["last_sequence"]) == (1, gap["dropped"])
    assert gap["sequence"] == 301
    assert [r["sequence"] for r in results] == list(range(gap["dropped"] + 1, 301))


def test_drop_newest__keeps_what_was_accepted_and_refuses_a_durable_one(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="drop_newest")
    outbox.start()

    def fill() -> None:
        for i in range(300):
            outbox.put(kit.entry(value=i, size=10_000), durable=True)

    with pytest.raises(OutboxFullError, match=r"full and rule drop_newest refused this result. Raise outbox.max_size"):
        fill()
    kept = outbox.accepted
    for i in range(10):
        outbox.put(kit.entry(value=i, size=10_000))
    assert outbox.flush(20)
    assert outbox.accepted == kept
    assert outbox.dropped == 11
    keeper = kit.Keeper()
    outbox.attach(keeper, lambda _row: None)
    assert kit.wait_until(lambda: any(record.kind == "gap" for record in keeper.records))
    gap = json.loads(keeper.records[0].body)
    assert gap["rule"] == "drop_newest"
    assert gap["dropped"] == 11
    assert gap["first_sequence"] is None
    assert [r.sequence for r in kit.read(outbox)] == list(range(1, kept + 2))


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("size", [700, 3_000, 4_000, 9_000, 30_000, 100_000])
def test_smallest_outbox__full_batches_of_any_size__never_stick(
    make_outbox: MakeOutbox, kit: Any, tmp_path: Path, when_full: str, size: int
) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full=when_full)
    for i in range(3_000_000 // size):
        outbox.put(kit.entry(value=i, size=size))
    outbox.start()
    assert outbox.flush(20)
    assert outbox.queued == 0
    assert outbox.problem is None
    assert sizes(tmp_path) <= MIB


def test_block__publishers_wait_and_nothing_is_dropped(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="block", keep_delivered_s=0.0)
    outbox.start()
    finished = threading.Event()

    def publish() -> None:
        for i in range(1500):
            outbox.put(kit.entry(value=i, size=10_000))
        finished.set()

    thread = threading.Thread(target=publish)
    thread.start()
    assert kit.wait_until(lambda: outbox.problem is not None)
    assert outbox.problem is not None
    assert "publishers wait for deliveries" in outbox.problem
    seen: list[int] = []
    while not (finished.is_set() and outbox.pending == 0 and outbox.queued == 0):
        for record in kit.read(outbox):
            seen.append(record.sequence)
            outbox.acknowledge(record.row)
    thread.join()
    assert sorted(set(seen)) == list(range(1, 1501))
    assert outbox.dropped == 0
    assert outbox.problem is None


def test_delivered__goes_first_when_space_is_needed(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="drop_oldest")
    outbox.start()
    for i in range(300):
        outbox.put(kit.entry(value=i, size=10_000), durable=True)
        for record in kit.read(outbox):
            outbox.acknowledge(record.row)
    outbox.flush(20)
    assert outbox.dropped == 0
    assert outbox.delivered == 300


def test_disk_full__keeps_running_reports_and_recovers(make_outbox: MakeOutbox, kit: Any) -> None:
    """A real SQLITE_FULL: the connection may not grow the file by a page."""
    outbox = make_outbox()
    outbox.start()
    for i in range(50):
        outbox.put(kit.entry(value=i), durable=True)

    def limit(pages: str) -> None:
        done = threading.Event()

        def job(store: Store) -> None:
            store.connection.execute(f"PRAGMA max_page_count={pages}").fetchone()
            done.set()

        outbox.submit(job)
        assert done.wait(20)

    limit("1")  # SQLite takes the present size instead
    with pytest.raises(OutboxFullError, match=r"database or disk is full. Free some space, or lower outbox.max_size"):
        outbox.put(kit.entry(value="durable", size=50_000), durable=True)
    for i in range(50, 60):
        outbox.put(kit.entry(value=i, size=50_000))
    assert kit.wait_until(lambda: outbox.problem is not None)
    assert outbox.accepted == 50
    # The writer holds the results in memory; space returns:
    store = outbox._store
    assert store is not None
    store.connection.execute("PRAGMA max_page_count=100000").fetchone()
    assert kit.wait_until(lambda: outbox.accepted == 60)
    values = [json.loads(r.body)["result"]["value"] for r in kit.read(outbox)]
    assert values == list(range(60))
    assert outbox.problem is None
    assert outbox.dropped == 0


def test_disk_full__real_file_size_limit__loses_nothing_accepted(tmp_path: Path) -> None:
    """A process whose files may not grow beyond 1 MiB (RLIMIT_FSIZE): writes fail with EFBIG, as on a full quota."""
    script = f"""
import resource, signal, json, sys, time
from pathlib import Path
from edgesdk.telemetry import OutboxSettings
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.ring import Entry
from edgesdk.telemetry.topics import Topics
from edgesdk.telemetry.ids import uuid7
outbox = Outbox(OutboxSettings(commit_window_s=0.0), Path({str(tmp_path / "q.outbox")!r}), Topics("d", "a"))
outbox.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
def put(i):
    e = Entry("s", uuid7(), time.time_ns(), time.monotonic_ns(), json.dumps({{"result": {{"v": i, "p": "x" * 20000}}}}).encode())
    outbox.put(e)
for i in range(120):
    put(i)
    time.sleep(0.002)
deadline = time.monotonic() + 20
while outbox.problem is None and time.monotonic() < deadline:
    time.sleep(0.01)
problem, before = outbox.problem, outbox.accepted
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while outbox.accepted < 120 and time.monotonic() < deadline:
    time.sleep(0.01)
outbox.close()
print(json.dumps([problem, before, outbox.accepted, outbox.dropped]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    problem, before, accepted, dropped = json.loads(done.stdout)
    assert problem is not None
    assert "Free some space" in problem or "Check the disk" in problem
    assert before < 120
    assert (accepted, dropped) == (120, 0)
    with sqlite3.connect(tmp_path / "q.outbox") as connection:
        found = [row[0] for row in connection.execute("SELECT sequence FROM rows ORDER BY row")]
    connection.close()
    assert found == list(range(1, 121))


def test_memory_ring__overflow__is_told_in_a_gap_record(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()  # not started: nothing empties the ring, as with a full disk
    for i in range(4096 + 100):
        outbox.put(kit.entry(value=i))
    assert outbox.dropped == 100
    outbox.start()
    keeper = kit.Keeper()
    outbox.attach(keeper, lambda _row: None)
    assert kit.wait_until(
        lambda: any(r.kind == "gap" for r in keeper.records) or any(r.kind == "gap" for r in kit.read(outbox))
    )
    (gap,) = [json.loads(r.body) for r in kit.read(outbox) if r.kind == "gap"]
    assert (gap["dropped"], gap["rule"], gap["first_sequence"]) == (100, "drop_oldest", None)
    assert outbox.accepted == 4096


@pytest.mark.parametrize("damage", ["text", "page", "empty_tail", "other_database"])
def test_corrupt__is_set_aside_and_a_new_epoch_begins(
    make_outbox: MakeOutbox, kit: Any, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "queue.outbox"
    old_epoch = ""
    if damage == "text":
        path.write_text("this is no database, it is a text of some length" * 100)
    elif damage == "other_database":
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE somebody(x)")
        other.close()
    else:
        first = make_outbox()
        first.start()
        for i in range(200):
            first.put(kit.entry(value=i, size=500))
        first.close()
        old_epoch = first.epoch
        content = bytearray(path.read_bytes())
        if damage == "page":
            content[4096 * 3 : 4096 * 8] = os.urandom(4096 * 5)
        else:
            del content[len(content) // 2 :]
        path.write_bytes(content)
    before = path.read_bytes()
    outbox = make_outbox()
    outbox.start()
    (aside,) = [file for file in tmp_path.iterdir() if ".corrupt-" in file.name]
    assert aside.read_bytes() == before
    assert outbox.epoch != old_epoch
    assert outbox.started_anew is not None
    assert f"set aside as {aside.name}" in outbox.started_anew
    outbox.put(kit.entry(), durable=True)
    assert [r.sequence for r in kit.read(outbox)] == [1]


def test_corrupt__while_running__goes_on_with_a_new_epoch(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()
    outbox.start()
    outbox.put(kit.entry(), durable=True)
    epoch, row = outbox.epoch, kit.read(outbox)[0].row

    def ruin(store: Store) -> None:
        store.connection.execute("PRAGMA writable_schema=1")
        store.connection.execute("UPDATE sqlite_master SET rootpage=2 WHERE name='rows'")
        store.close()
        Store(store.path, max_size_bytes=1 << 20, epoch="x")

    outbox.submit(ruin)
    assert kit.wait_until(lambda: outbox.epoch not in ("", epoch))
    outbox.put(kit.entry(value="after"), durable=True)
    (record,) = kit.read(outbox)
    assert record.row > row  # a late acknowledgement must not hit it


def test_start__second_process__is_refused(make_outbox: MakeOutbox, kit: Any) -> None:
    first = make_outbox()
    first.start()
    first.put(kit.entry(), durable=True)
    with pytest.raises(TelemetryError, match=r"another process uses this outbox. Stop it, or give each app its own"):
        make_outbox().start()
    first.put(kit.entry(), durable=True)
    assert first.accepted == 2


def test_start__newer_file__is_refused_and_kept(make_outbox: MakeOutbox, tmp_path: Path) -> None:
    first = make_outbox()
    first.start()
    first.close()
    with sqlite3.connect(tmp_path / "queue.outbox") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(TelemetryError, match=r"written by a newer edgesdk .* Upgrade edgesdk, or name another"):
        make_outbox().start()
    assert [file.name for file in tmp_path.iterdir()] == ["queue.outbox"]


def test_start__folder_cannot_be_made(tmp_path: Path, kit: Any) -> None:
    from edgesdk.telemetry import OutboxSettings

    (tmp_path / "file").write_text("")
    outbox = Outbox(OutboxSettings(), tmp_path / "file" / "deep" / "q.outbox", kit.topics)
    with pytest.raises(TelemetryError, match=r"outbox.path: the folder of .* cannot be made: .* Run: install -d"):
        outbox.start()


def test_put__after_close__is_refused(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()
    outbox.start()
    outbox.close()
    with pytest.raises(OutboxFullError, match="publish\\(\\) came after close"):
        outbox.put(kit.entry())


def test_smaller_max_size__is_kept_after_a_restart(make_outbox: MakeOutbox, kit: Any, tmp_path: Path) -> None:
    first = make_outbox(max_size_bytes=8 * MIB)
    first.start()
    for i in range(400):
        first.put(kit.entry(value=i, size=10_000))
    first.close()
    assert sizes(tmp_path) > 3 * MIB
    second = make_outbox(max_size_bytes=MIB)
    second.start()
    for i in range(10):
        second.put(kit.entry(value=i, size=10_000), durable=True)
    second.close()
    third = make_outbox(max_size_bytes=MIB)
    third.start()
    third.close()
    assert sizes(tmp_path) <= MIB


def test_busy__slow_disk__jobs_still_get_their_turn(
    make_outbox: MakeOutbox, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Store.commit

    def slow_commit(store: Store) -> None:
        time.sleep(0.02)  # an SD card
        commit(store)

    monkeypatch.setattr(Store, "commit", slow_commit)
    outbox = make_outbox()
    outbox.start()
    enough = threading.Event()

    def publish() -> None:
        while not enough.wait(0.002):
            outbox.put(kit.entry())

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert kit.wait_until(lambda: outbox.accepted > 10)
        # The connection asks the writer in the same way for the backlog: without a turn nothing would ever be sent.
        assert outbox.flush(10)
    finally:
        enough.set()
        thread.join()


def test_flush__held_back_by_rule_block__is_no_success(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="block")
    outbox.start()
    for i in range(200):
        outbox.put(kit.entry(value=i, size=10_000))
    assert kit.wait_until(lambda: outbox.problem is not None)
    assert outbox.queued > 0
    assert not outbox.flush(0.3)


def test_close__durable_publisher_waits_for_room__is_released(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox(max_size_bytes=MIB, when_full="block")
    outbox.start()
    for i in range(200):
        outbox.put(kit.entry(value=i, size=10_000))
    assert kit.wait_until(lambda: outbox.problem is not None)
    errors: list[OutboxFullError] = []

    def publish() -> None:
        try:
            outbox.put(kit.entry(), durable=True)
        except OutboxFullError as error:
            errors.append(error)

    queued = outbox.queued
    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    assert kit.wait_until(lambda: outbox.queued > queued)
    outbox.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "not accepted" in str(errors[0])


def test_before_start__durable_is_refused_and_flush_does_not_wait(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()
    with pytest.raises(TelemetryError, match=r"before start\(\)"):
        outbox.put(kit.entry(), durable=True)
    outbox.put(kit.entry())
    assert not outbox.flush(1e6)
    outbox.start()
    outbox.close()
    assert outbox.accepted == 1
    assert outbox.flush(1e6)


def test_consumer__fails_or_leaves_after_the_commit__nothing_is_written_twice(
    make_outbox: MakeOutbox, kit: Any
) -> None:
    class Leaver:
        def offer(self, records: Any) -> None:
            outbox.detach()
            raise RuntimeError("the connection has just gone")

    outbox = make_outbox()
    outbox.start()
    outbox.attach(Leaver(), lambda _row: None)
    assert outbox.flush(20)
    outbox.put(kit.entry(value=1))
    assert kit.wait_until(lambda: outbox.accepted == 1)
    outbox.put(kit.entry(value=2))
    assert kit.wait_until(lambda: outbox.accepted >= 2)
    assert outbox.flush(20)
    assert [record.sequence for record in kit.read(outbox)] == [1, 2]
    assert outbox.accepted == 2


def test_job__disk_fails_while_it_reads__runs_again(make_outbox: MakeOutbox, kit: Any) -> None:
    outbox = make_outbox()
    outbox.start()
    outbox.put(kit.entry(), durable=True)
    runs: list[int] = []
    done = threading.Event()

    def job(store: Store) -> None:
        runs.append(len(store.read_pending(0, store.last_row, 10)))
        if len(runs) == 1:
            raise sqlite3.OperationalError("disk I/O error")
        done.set()

    outbox.submit(job)
    assert done.wait(20)
    assert runs == [1, 1]
    assert outbox.accepted == 1
