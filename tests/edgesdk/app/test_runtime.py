from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.app import App
from edgesdk.app.capture import Backoff
from edgesdk.app.events import (
    HealthEvent,
    ModelFailing,
    ModelRecovered,
    PublishFailed,
    ResultEvent,
    SampleFailed,
    SourceEnded,
    SourceLost,
    SourceRecovered,
)
from edgesdk.errors import SourceError, SourceFormatError
from edgesdk.sources.fake import FakeSource

FAKE = "sources: {s: {kind: fake, samples: 20}}\nstreams: {door: {source: s, run: [m]}}\n"


def _labels(story: Any, stream: str = "door") -> list[str]:
    return [e.result.label for e in story.of(ResultEvent) if e.stream == stream and e.outcome == "published"]


def _until(condition: Any) -> None:
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s, "what the test waits for did not come"
        time.sleep(0.005)


def test_run__files__all_results_in_order_then_exit_code_0(story: Any) -> None:
    app = story.app(FAKE)
    assert app.run() == 0
    assert app.failure == ""
    assert _labels(story) == [f"fake:{n}" for n in range(20)]
    assert story.of(SourceEnded)[0].delivered == 20
    stats = app.stats()
    assert stats.published == stats.telemetry.accepted == 20
    assert stats.dropped == 0
    assert stats.streams["door"].policy == "block"
    assert story.models[0].closed
    assert len({e.id for e in story.of(ResultEvent)}) == 20


def test_run__results_are_in_the_outbox_after_the_end(story: Any, tmp_path: Path) -> None:
    assert story.app(FAKE).run() == 0
    with sqlite3.connect(tmp_path / "a.outbox") as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        found = b"".join(
            repr(row).encode() for table in tables for row in connection.execute(f'select * from "{table}"')
        )
    connection.close()
    assert found.count(b"fake:19") >= 1


def test_run__twice__is_refused(story: Any) -> None:
    app = story.app(FAKE)
    app.run()
    with pytest.raises(RuntimeError, match=r"make a new one with App\.from_yaml"):
        app.run()


def test_run__one_source_two_streams__is_opened_once(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real_open = FakeSource.open

    def counted_open(self: FakeSource) -> None:
        opened.append(self)
        real_open(self)

    monkeypatch.setattr(FakeSource, "open", counted_open)
    text = (
        "models: {m: {bundle: a.edge}, n: {bundle: b.edge}}\nsources: {s: {kind: fake}}\n"
        "streams: {one: {source: s, run: [m, n]}, two: {source: s, run: [m]}}\n"
    )
    assert story.app(text).run() == 0
    assert len(opened) == 1
    assert len(_labels(story, "one")) == 20
    assert len(_labels(story, "two")) == 10
    assert len(story.models) == 3  # one per stream and model: a stream's state is its own


def test_run__latest__drops_are_counted_and_the_newest_wins(story: Any) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow_first(index: int, sample: Any) -> Any:
        if index == 0:
            entered.set()
            assert go.wait(20)
        return story.Seen(label=sample.uri)

    story.scripts["m"] = slow_first
    app = story.app(FAKE.replace("run: [m]", "run: [m], policy: latest"))
    codes: list[int] = []
    runner = threading.Thread(target=lambda: codes.append(app.run()))
    runner.start()
    assert entered.wait(20)
    _until(lambda: bool(story.of(SourceEnded)))
    go.set()
    runner.join()
    assert codes == [0]
    labels = _labels(story)
    assert labels[-1] == "fake:19"
    assert app.stats().streams["door"].dropped == 20 - len(labels) > 0


def test_run__deadline_missed__is_counted_and_published(story: Any) -> None:
    def slow(index: int, sample: Any) -> Any:
        time.sleep(0.005)
        return story.Seen(label=sample.uri)

    story.scripts["m"] = slow
    app = story.app(FAKE.replace("run: [m]", "run: [m], deadline: 1ms"))
    assert app.run() == 0
    assert app.stats().streams["door"].models["m"].deadline_missed == 20
    assert len(_labels(story)) == 20


def test_run__source_lost_and_back__is_told_and_nothing_is_skipped(story: Any) -> None:
    app = story.app(FAKE.replace("samples: 20", "samples: 20, fails_at: [5, 11], absent_opens: 2"))
    assert app.run() == 0
    assert _labels(story) == [f"fake:{n}" for n in range(20)]
    lost, recovered = story.of(SourceLost), story.of(SourceRecovered)
    assert len(lost) == 6
    assert len(recovered) == 2
    assert "lost at sample 5" in lost[0].reason
    assert all(event.retry_in_s > 0 for event in lost)
    assert app.stats().sources["s"].losses == 6


def test_run__source_given_up_in_the_middle__exit_code_1_with_the_reason(
    story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read = FakeSource.read

    def read(self: Any) -> Any:
        if self._next == 3:
            raise SourceFormatError("the file is cut off. Copy it again.")
        return real_read(self)

    monkeypatch.setattr(FakeSource, "read", read)
    app = story.app(FAKE)
    assert app.run() == 1
    assert app.failure == "source 's' was given up: the file is cut off. Copy it again."
    assert len(_labels(story)) == 3
    assert story.of(SourceLost)[0].retry_in_s is None


def test_run__file_not_there__exit_code_1_before_anything_starts(story: Any) -> None:
    app = story.app(FAKE.replace("samples: 20", "unreadable: true"))
    assert app.run() == 1
    assert "unreadable, as scripted" in app.failure
    assert story.events == []


def test_run__live_source_not_there__is_retried_until_it_comes(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeSource, "live", True)
    real_init = FakeSource.__init__

    def away_at_first(self: Any, options: Any) -> None:
        real_init(self, options)
        self._absent = 3

    monkeypatch.setattr(FakeSource, "__init__", away_at_first)
    app = story.app(FAKE.replace("run: [m]", "run: [m], policy: block"))
    assert app.run() == 0
    assert len(story.of(SourceLost)) == 3
    assert [event.attempts for event in story.of(SourceLost)] == [1, 2, 3]
    assert len(_labels(story)) == 20


def test_run__model_does_not_load__exit_code_1_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "m.edge").write_bytes(b"no bundle")
    config = tmp_path / "app.yaml"
    config.write_text(f"schema: edgesdk.app/1\nname: test\nmodels: {{m: {{bundle: m.edge}}}}\n{FAKE}")
    events: list[Any] = []
    app = App.from_yaml(config, on_event=events.append)
    assert app.run() == 1
    assert "model 'm'" in app.failure
    assert "m.edge" in app.failure
    assert events == []


def test_run__one_bad_sample__is_counted_and_the_app_goes_on(story: Any) -> None:
    story.scripts["m"] = lambda i, s: story.fail(i, s) if i == 4 else story.Seen(label=s.uri)
    app = story.app(FAKE)
    assert app.run() == 0
    assert len(_labels(story)) == 19
    assert app.stats().streams["door"].models["m"].failed == 1
    (failed,) = story.of(SampleFailed)
    assert failed.reason == "TaskError: this model fails. Convert it again."


def test_run__model_keeps_failing__is_reported_once_and_its_recovery_too(story: Any) -> None:
    story.scripts["m"] = lambda i, s: story.fail(i, s) if i < 12 else story.Seen(label=s.uri)
    assert story.app(FAKE).run() == 0
    assert [event.consecutive for event in story.of(ModelFailing)] == [10]
    assert [event.failures for event in story.of(ModelRecovered)] == [12]


def test_run__nan__is_counted_and_never_published(story: Any) -> None:
    bad = np.array([np.nan], dtype=np.float32)
    story.scripts["m"] = lambda i, s: story.Seen(label=s.uri, **({"scores": bad} if i % 2 else {}))
    app = story.app(FAKE)
    assert app.run() == 0
    assert app.stats().streams["door"].models["m"].not_finite == 10
    assert _labels(story) == [f"fake:{n}" for n in range(0, 20, 2)]


def test_run__when_change__publishes_changes_only(story: Any) -> None:
    story.scripts["m"] = lambda i, s: story.Seen(label="cat" if i < 15 else "dog")
    app = story.app(FAKE.replace("run: [m]", "run: [m], publish: {when: change}"))
    assert app.run() == 0
    assert _labels(story) == ["cat", "dog"]
    assert app.stats().streams["door"].models["m"].unchanged == 18


def test_run__result_that_cannot_be_published__is_told_and_the_app_goes_on(story: Any) -> None:
    story.scripts["m"] = lambda i, s: story.Seen(label="x" * (200_000 if i == 2 else 1))
    app = story.app(FAKE)
    assert app.run() == 0
    (failed,) = story.of(PublishFailed)
    assert "128" in failed.reason
    assert app.stats().streams["door"].models["m"].publish_failed == 1
    assert app.stats().published == 19


def test_run__on_event_raises__is_ignored(story: Any) -> None:
    def broken(event: Any) -> None:
        raise ValueError("from the outside")

    assert story.app(FAKE, on_event=broken).run() == 0


def test_run__health__says_what_is_counted(story: Any) -> None:
    assert story.app(FAKE).run() == 0
    health = story.of(HealthEvent)[-1].health
    assert health["streams"]["door"]["models"]["m"]["published"] == 20
    assert health["sources"]["s"]["state"] == "ended"
    assert "accepted" in health["outbox"]


def test_stop__endless_source__flushes_what_was_captured(story: Any) -> None:
    app = story.app(FAKE.replace("samples: 20", "samples: null, pace: real-time, rate: 200Hz"))
    codes: list[int] = []
    runner = threading.Thread(target=lambda: codes.append(app.run()))
    runner.start()
    _until(lambda: len(_labels(story)) >= 5)
    app.stop()
    runner.join()
    assert codes == [0]
    stats = app.stats()
    assert stats.sources["s"].state == "stopped"
    assert stats.streams["door"].accepted == stats.published == stats.telemetry.accepted


def test_stop__before_run__starts_nothing(story: Any) -> None:
    app = story.app(FAKE)
    app.stop()
    assert app.run() == 0
    assert story.events == []


def test_stop__while_a_source_waits_for_its_retry__ends_at_once(story: Any) -> None:
    text = FAKE.replace("samples: 20", "samples: 20, fails_at: [0], absent_opens: 1000")
    app = story.app(text, backoff=Backoff(base_s=500, cap_s=1000, floor_s=400))
    runner = threading.Thread(target=app.run)
    runner.start()
    _until(lambda: bool(story.of(SourceLost)))
    app.stop()
    runner.join(timeout=30)
    assert not runner.is_alive()


def test_stop__twice__throws_away_what_waits(story: Any) -> None:
    entered, go = threading.Event(), threading.Event()

    def stuck(index: int, sample: Any) -> Any:
        entered.set()
        assert go.wait(20)
        return story.Seen(label=sample.uri)

    story.scripts["m"] = stuck
    app = story.app(FAKE)
    runner = threading.Thread(target=app.run)
    runner.start()
    assert entered.wait(20)
    _until(lambda: app.stats().streams["door"].waiting > 0)
    app.stop()
    app.stop()
    _until(lambda: app.stats().streams["door"].dropped > 0)
    go.set()
    runner.join()
    assert len(_labels(story)) <= 1


PROGRAM = """
import sys
from pathlib import Path
from edgesdk.app import App
from edgesdk.app.loading import parse_config
from edgesdk.app.events import ResultEvent
sys.path.insert(0, sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location("helpers", sys.argv[2])
helpers = importlib.util.module_from_spec(spec); sys.modules["helpers"] = helpers; spec.loader.exec_module(helpers)
App._load = lambda app, name: helpers.ScriptedModel(name, helpers.say_uri)
text = '''schema: edgesdk.app/1
name: test
models: {m: {bundle: m.edge}}
telemetry: {outbox: {path: a.outbox}}
sources: {s: {kind: fake, samples: null, pace: real-time, rate: 100Hz}}
streams: {door: {source: s, run: [m]}}
'''
app = App(parse_config(text, base=Path(sys.argv[1])), on_event=lambda e: print(type(e).__name__, flush=True))
code = app.run()
stats = app.stats()
print("END", code, stats.streams["door"].accepted == stats.published == stats.telemetry.accepted, flush=True)
sys.exit(code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run__signal__ends_cleanly_with_everything_flushed(tmp_path: Path, number: signal.Signals) -> None:
    helpers = Path(__file__).with_name("conftest.py")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path), str(helpers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EDGESDK_DEVICE": "board"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ResultEvent":
            break
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert rest.splitlines()[-1] == "END 0 True", errors


def test_source_error_of_open_first__is_the_reason(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Any) -> None:
        raise SourceError("/x/clip.mp4: no such video file. Check `path:`.")

    monkeypatch.setattr(FakeSource, "open", missing)
    app = story.app(FAKE)
    assert app.run() == 1
    assert app.failure == "/x/clip.mp4: no such video file. Check `path:`."


def test_stop__listener_that_never_returns__does_not_hold_up_the_end(
    story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgesdk.app.runtime.STOP_TIMEOUT_S", 0.5)
    entered, go = threading.Event(), threading.Event()

    def stuck(event: Any) -> None:
        if isinstance(event, ResultEvent):
            entered.set()
            go.wait(60)

    app = story.app(FAKE, on_event=stuck)
    runner = threading.Thread(target=app.run)
    runner.start()
    try:
        assert entered.wait(20)
        app.stop()
        runner.join(30)
        assert not runner.is_alive()
        assert story.models[0].closed
        assert app.stats().telemetry.accepted >= 1
    finally:
        go.set()
        runner.join()


def test_stop__source_whose_interrupt_fails__closes_the_rest(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> None:
        raise OSError("interrupt failed")

    monkeypatch.setattr(FakeSource, "interrupt", broken, raising=False)
    app = story.app(FAKE)
    assert app.run() == 0
    assert story.models[0].closed
    assert app.stats().telemetry.accepted == 20


def test_run__sigterm_with_a_broker__everything_published_was_received(tmp_path: Path) -> None:
    pytest.importorskip("iotcore", reason="pip install 'edgesdk[broker]'")
    from edgesdk.telemetry.broker import EmbeddedBroker
    from edgesdk.telemetry.collector import Collector

    helpers = Path(__file__).with_name("conftest.py")
    with EmbeddedBroker() as broker, Collector(broker.url, "edgesdk/#") as collector:
        program = PROGRAM.replace(
            "{outbox: {path: a.outbox}}", f"{{mqtt: {{url: '{broker.url}'}}, outbox: {{path: a.outbox}}}}"
        )
        program = program.replace("text = '''", 'text = """').replace("[m]}}\n'''", '[m]}}\n"""')
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                program.replace(
                    'print("END", code,', 'print("END", stats.telemetry.accepted, stats.telemetry.pending,'
                ),
                str(tmp_path),
                str(helpers),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "EDGESDK_DEVICE": "board"},
        )
        _until(lambda: len(collector.ids) >= 30)
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        _, accepted, pending, same = rest.splitlines()[-1].split()
        assert (pending, same) == ("0", "True"), errors
        _until(lambda: len(collector.ids) >= int(accepted))
        assert len(collector.ids) == int(accepted)
