"""Against a real scheduler and real workers, all of them processes on 127.0.0.1."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgesdk.errors import ConversionError, MissingExtraError
from edgesdk_converters.sweep import run_sweep
from edgesdk_converters.sweep.cells import cells_of
from edgesdk_converters.sweep.cluster import pack, run_on_cluster, run_remote
from edgesdk_converters.sweep.file import read_sweep

Write = Callable[..., Path]
HAS_DASK = importlib.util.find_spec("distributed") is not None
needs_dask = pytest.mark.skipif(not HAS_DASK, reason="needs distributed: pip install 'edgesdk-converters[cluster]'")


class Cluster:
    """A scheduler and two workers of one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--scheduler-file", str(found), "--port", "0", "--no-dashboard")
        self.address = str(self.wait(lambda: _address(found)))
        self.workers = [
            self._start(
                "worker", self.address, "--no-nanny", "--nthreads", "1", "--name", f"w{index}", "--no-dashboard"
            )
            for index in range(2)
        ]

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        local = ["--local-directory", str(self._folder)] if arguments[0] == "worker" else []
        log = (self._folder / f"{arguments[0]}.log").open("ab")
        with log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "distributed.cli.dask_" + arguments[0],
                    *arguments[1:],
                    "--host",
                    "127.0.0.1",
                    *local,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )

    def wait(self, there: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while not (found := there()):
            assert time.monotonic() < deadline, (self._folder / "scheduler.log").read_text()
            time.sleep(0.05)
        return found

    def ready(self) -> None:
        """Wait for both workers."""
        distributed = importlib.import_module("distributed")
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def _address(file: Path) -> str | None:
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError, KeyError):
        return None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


@needs_dask
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # distributed's own
def test_sweep__on_a_cluster_of_which_one_worker_is_killed(sweep_file: Write, cluster: Cluster) -> None:
    file = sweep_file(models=3, boards=2)
    ended: list[str] = []

    class Watching:
        """Kills the first worker as soon as the first cell has come back, while it works on another."""

        def __init__(self) -> None:
            self.killed = False

        def say(self, text: str) -> None:
            if not text.startswith("m"):  # no cell
                return
            ended.append(text)
            if not self.killed:
                cluster.workers[0].kill()
                self.killed = True

        def bar(self, text: str, total: int) -> Any:
            from edgesdk_converters.progress import Quiet

            return Quiet().bar(text, total)

    cluster.ready()
    watching = Watching()
    sweep = run_sweep(file, cluster=cluster.address, progress=watching)
    assert watching.killed
    assert cluster.workers[0].wait(10) != 0
    assert [(result.status, result.error) for result in sweep.results] == [("float-only", "")] * 6
    assert len(ended) == len(set(ended)) == 6
    cells = sorted(path.name for path in (sweep.folder / "cells").iterdir())
    assert cells == sorted(f"m{m}.default.raspberry-pi-{b}.json" for m in range(3) for b in (4, 5))
    assert all((sweep.folder / result.bundle).is_file() for result in sweep.results)
    assert run_sweep(file, cluster=cluster.address).resumed == 6


def _conversions(worker: subprocess.Popen[bytes]) -> list[int]:
    """Processes of conversions that a worker has begun."""
    tasks = Path(f"/proc/{worker.pid}/task").iterdir()
    children = [int(child) for task in tasks for child in _text(task / "children").split()]
    return [child for child in children if "edgesdk_converters.sweep.work" in _text(Path(f"/proc/{child}/cmdline"))]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it has ended
        return ""


@needs_dask
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_sweep__interrupted_on_a_cluster__the_workers_stop_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sweep = {"models": {"m": {"source": "endless:factory"}}, "boards": ["raspberry-pi-4", "raspberry-pi-5", "rock-5b"]}
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    cluster = Cluster(tmp_path)
    try:
        cluster.ready()
        main = "import sys; from edgesdk.cli import main; sys.exit(main())"
        client = subprocess.Popen(
            [sys.executable, "-c", main, "sweep", str(tmp_path / "sweep.yaml"), "--cluster", cluster.address],
            stderr=subprocess.PIPE,
            text=True,
        )
        cluster.wait(lambda: all(_conversions(worker) for worker in cluster.workers))
        client.send_signal(how)
        _, errors = client.communicate(timeout=60)
        cluster.wait(lambda: not any(_conversions(worker) for worker in cluster.workers))
        if how == signal.SIGINT:
            assert client.returncode == 130, errors
            assert "stopping: 0 of 3 cells are done and kept in " in errors
            assert "the same command does the other 3" in errors
    finally:
        cluster.close()


@needs_dask
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_sweep__no_scheduler_there__says_how_to_start_one(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesdk_converters.sweep.cluster._CONNECT_S", 1)
    with pytest.raises(ConversionError, match=r"no Dask scheduler answers there .*Start one: dask scheduler"):
        run_sweep(sweep_file(), cluster="tcp://127.0.0.1:9")


@pytest.mark.skipif(HAS_DASK, reason="distributed is installed: what is said without it cannot be seen")
def test_sweep__without_distributed__names_the_pip_line(sweep_file: Write) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'edgesdk-converters\[cluster\]'"):
        run_sweep(sweep_file(), cluster="tcp://127.0.0.1:9")


def test_run_remote__another_version_on_the_worker__is_refused() -> None:
    import msgspec

    from edgesdk_converters.sweep.results import Outcome

    outcome = msgspec.msgpack.decode(run_remote("m", {}, {}, b"", "99.0"), type=Outcome)
    assert outcome.status == "failed"
    assert "expected 99.0 as here. Install it there: pip install edgesdk-converters==99.0" in outcome.error


def test_pack__equal_files_make_equal_bytes_for_every_board(sweep_file: Write) -> None:
    file = sweep_file(calibrated=True)
    one, two = cells_of(read_sweep(file), file.parent)
    assert pack(one) == pack(two)
    assert sorted(one.files) == ["calibration/samples/x.npy", "source/m0.onnx"]
    assert one.moved == {"source": "source/m0.onnx", "calibration": "calibration/samples"}


def test_pack__too_large_to_travel(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesdk_converters.sweep.cluster.MAX_PARCEL_BYTES", 10)
    file = sweep_file(boards=1)
    with pytest.raises(
        ConversionError, match=r"m0, default, raspberry-pi-4: its files have .*Use fewer calibration samples"
    ):
        pack(cells_of(read_sweep(file), file.parent)[0])


def test_run_on_cluster__is_lazy() -> None:
    run_on_cluster([], "tcp://127.0.0.1:9").close()
