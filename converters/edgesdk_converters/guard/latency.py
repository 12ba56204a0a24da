"""Time of a variant against its float variant: CPU time, one thread, one core, in turn.

Wall time on a shared machine says nothing: the same model measured 20 and 94 ms. CPU time of one pinned thread, in turn
and as the median of the ratios of neighbouring pairs, repeats within about 5 %.
"""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgesdk.bundle.manifest import Latency
from edgesdk_converters.guard.turns import turn

ALLOWANCE = 1.05
"""A ratio up to this counts as "not slower": it is what two measurements of one and the same model differ by."""
MIN_PAIRS, MAX_PAIRS = 9, 41
_ENOUGH_NS = 1_500_000_000
_MIN_BURST_NS = 1_000_000
"""Shorter runs are repeated, or the clock's resolution and the interpreter decide."""


def measure(variant: Callable[[], object], reference: Callable[[], object]) -> Latency:
    """Compare two ways of one inference.

    Args:
        variant: Runs the variant once.
        reference: Runs the float variant once, on the same input.
    """
    with turn(), _one_core():
        for _ in range(2):
            variant()
            reference()
        repeat_v, repeat_r = _repeats(variant), _repeats(reference)
        mine: list[float] = []
        theirs: list[float] = []
        begin = time.process_time_ns()
        while len(mine) < MIN_PAIRS or (len(mine) < MAX_PAIRS and time.process_time_ns() - begin < _ENOUGH_NS):
            # Whoever comes second finds a warm cache of the other's: take turns.
            if len(mine) % 2:
                mine.append(_burst(variant, repeat_v))
                theirs.append(_burst(reference, repeat_r))
            else:
                theirs.append(_burst(reference, repeat_r))
                mine.append(_burst(variant, repeat_v))
    return Latency(
        cpu_ms=round(statistics.median(mine), 4),
        source_cpu_ms=round(statistics.median(theirs), 4),
        ratio=round(statistics.median(a / max(b, 1e-9) for a, b in zip(mine, theirs, strict=True)), 3),
        runs=len(mine),
        host=host(),
    )


def host() -> str:
    """CPU model of this machine."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _repeats(run: Callable[[], object]) -> int:
    begin = time.process_time_ns()
    run()
    return max(1, min(200, _MIN_BURST_NS // max(time.process_time_ns() - begin, 1_000)))


def _burst(run: Callable[[], object], times: int) -> float:
    begin = time.process_time_ns()
    for _ in range(times):
        run()
    return (time.process_time_ns() - begin) / times / 1e6


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        yield
    finally:
        os.sched_setaffinity(0, before)
