"""Timing that holds on a shared machine: pinned to one core, CPU time, the candidates in turn, ratios of medians.

Wall time of a busy machine says little; medians of single-thread CPU time repeat within some ten per cent, and taking
the candidates in turn lets a change of clock or load hit all of them alike.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BATCH_NS = 200_000
"""A clock read of a process's CPU time costs some 0.3 us: calls are batched until that is below a thousandth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times of one candidate, microseconds per call."""

    samples_us: tuple[float, ...]
    """One per round, each the mean of ``batch`` calls."""
    batch: int

    @property
    def p50_us(self) -> float:
        """The median."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """The value below which ``percent`` of the rounds lie."""
        return float(np.percentile(self.samples_us, percent))


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    budget_s: float = float("inf"),
    clock: Callable[[], int] = time.process_time_ns,
    batch_ns: int = BATCH_NS,
) -> dict[str, Timing]:
    """Time several calls in turn.

    Args:
        calls: What to time, by name. Each is called a few times before.
        rounds: How often each has its turn, at most.
        budget_s: Wall time after which no new round begins; three rounds are always run.
        clock: Nanoseconds; CPU time of the process, all threads, unless told otherwise.
        batch_ns: Calls are repeated within a round until they take this long; 0 times single calls.
    """
    batches = {name: _batch(call, batch_ns) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.monotonic() + budget_s
    with _no_collection():
        for turn in range(rounds):
            if turn >= 3 and time.monotonic() > end:
                break
            for name, call in calls.items():
                again = range(batches[name])
                start = clock()
                for _ in again:
                    call()
                samples[name].append((clock() - start) / batches[name] / 1000)
    return {name: Timing(samples_us=tuple(values), batch=batches[name]) for name, values in samples.items()}


def ratio(measured: Timing, reference: Timing) -> float:
    """Median over rounds of ``measured`` against ``reference``, round by round; below 1 is quicker."""
    pairs: Sequence[tuple[float, float]] = list(zip(measured.samples_us, reference.samples_us, strict=True))
    return float(np.median([ours / max(theirs, 1e-6) for ours, theirs in pairs]))


@contextlib.contextmanager
def pinned() -> Iterator[int | None]:
    """Keep this thread, and those it starts, on one of its cores; yields the core, or None where that is not possible."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    core = max(before)  # interrupts are mostly served by the first
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        yield None
        return
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def host_name(root: Path = Path("/")) -> str:
    """The machine in words, for every figure: board or CPU model, cores, system, Python."""
    board = _first_line(root / "proc/device-tree/model").rstrip("\0")
    cpu = ""
    with contextlib.suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in {"model name", "Hardware"}:
                cpu = value.strip()
                break
    what = board or cpu or platform.processor() or platform.machine()
    system = f"{platform.system()} {platform.machine()}"
    return f"{what}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def memory_bytes(status: Path = Path("/proc/self/status")) -> dict[str, int]:
    """Resident memory of this process, now (``rss``) and at most so far (``peak``); empty where the system hides it."""
    found = {}
    with contextlib.suppress(OSError):
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in {"VmRSS", "VmHWM"}:
                found["rss" if name == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    return found


def _batch(call: Callable[[], object], batch_ns: int) -> int:
    for _ in range(3):
        call()
    start = time.perf_counter_ns()
    call()
    return max(1, batch_ns // max(time.perf_counter_ns() - start, 1))


def _first_line(path: Path) -> str:
    try:
        return (path.read_text(errors="replace").splitlines() or [""])[0]
    except OSError:
        return ""


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """As `timeit` does: a collection that happens in one call would be charged to it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
