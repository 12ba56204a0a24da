from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk_converters.guard.turns import LOCK_FILE, turn
from edgesdk_converters.sweep.process import Interrupted, Runner
from edgesdk_converters.sweep.work import work


def test_runner__a_process_that_dies_is_a_failed_cell(tmp_path: Path) -> None:
    # What a segmentation fault or the kernel's out-of-memory killer looks like: the module ends the process that imports it.
    (tmp_path / "dying.py").write_text(
        "import os, signal\nprint('about to go')\nimport sys; sys.stdout.flush()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "site").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        outcome = Runner().run({"source": "dying:make", "device": "raspberry-pi-4", "name": "a"}, tmp_path / "site")
    assert outcome.status == "failed"
    if "torch" not in outcome.error:  # without PyTorch the factory is never imported
        assert "ended by SIGKILL (out of memory? try --jobs 1)" in outcome.error
        assert "about to go" in outcome.error


def test_runner__stopped__interrupts_and_starts_nothing_more(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    runner, raised = Runner(), []
    source = str(sweep_file().parent / "m0.onnx")

    def run() -> None:
        try:
            runner.run({"source": source, "device": "raspberry-pi-4", "name": "a"}, tmp_path)
        except Interrupted as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not list(tmp_path.glob("*/log.txt")):
        time.sleep(0.01)
    runner.stop()
    thread.join(30)
    assert raised
    with pytest.raises(Interrupted):
        runner.run({"source": source, "device": "raspberry-pi-4"}, tmp_path)
    assert list(tmp_path.glob("tmp*")) == []


def test_work__every_error_is_an_outcome(tmp_path: Path) -> None:
    missing = work({"source": str(tmp_path / "no.onnx"), "device": "raspberry-pi-4", "name": "a"}, tmp_path)
    assert missing.status == "failed"
    assert "no.onnx" in missing.error
    ours = work({"source": 3, "device": "raspberry-pi-4", "name": "a"}, tmp_path)  # a mistake of our own
    assert ours.status == "failed"
    assert "Error at " in ours.error


def _hold(path: str, spans: multiprocessing.Queue[tuple[float, float]]) -> None:
    os.environ[LOCK_FILE] = path
    for _ in range(5):
        with turn():
            begin = time.monotonic()
            time.sleep(0.01)
            spans.put((begin, time.monotonic()))


def test_turn__processes_never_measure_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    spans: multiprocessing.Queue[tuple[float, float]] = context.Queue()
    processes = [context.Process(target=_hold, args=(str(tmp_path / "lock"), spans)) for _ in range(3)]
    for process in processes:
        process.start()
    found = sorted(spans.get(timeout=60) for _ in range(15))
    for process in processes:
        process.join()
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(found))


def test_turn__without_a_lock_file_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOCK_FILE, raising=False)
    with turn(), turn():
        pass
