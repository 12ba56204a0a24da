from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from edgesdk.backends.threads import SMALL_MODEL_BYTES, choose_threads
from edgesdk.backends.timing import Timing, host_name, interleaved, memory_bytes, pinned, ratio


def test_interleaved__takes_turns_and_counts() -> None:
    turns: list[str] = []
    found = interleaved({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=3, batch_ns=0)
    assert [len(timing.samples_us) for timing in found.values()] == [3, 3]
    assert turns[-6:] == ["a", "b"] * 3
    assert gc.isenabled()


def test_interleaved__stops_at_the_budget_but_not_before_three_rounds() -> None:
    assert len(interleaved({"a": lambda: None}, rounds=100, budget_s=0)["a"].samples_us) == 3


def test_ratio__pairs_rounds() -> None:
    ours, theirs = Timing(samples_us=(2, 4, 6), batch=1), Timing(samples_us=(1, 2, 3), batch=1)
    assert ratio(ours, theirs) == 2
    assert ours.p50_us == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_pinned__restores() -> None:
    before = os.sched_getaffinity(0)
    with pinned() as core:
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_host_name__prefers_the_board(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\n")
    assert host_name(tmp_path).startswith("Some CPU, ")
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    assert host_name(tmp_path).startswith("Raspberry Pi 4 Model B Rev 1.4, ")


def test_memory_bytes__reads_the_kernels_text(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n")
    assert memory_bytes(tmp_path / "status") == {"peak": 2 << 20, "rss": 1 << 20}
    assert memory_bytes(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("size", "cores", "threads"),
    [(SMALL_MODEL_BYTES, 8, 1), (SMALL_MODEL_BYTES + 1, 1, 1), (10**8, 2, 2), (10**8, 4, 3), (10**8, 8, 4)],
)
def test_choose_threads__by_size_and_cores(
    size: int, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgesdk.backends.threads.usable_cores", lambda: 16)
    assert choose_threads(size, cores) == threads
