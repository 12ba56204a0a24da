"""Runs cells on the cores of this machine."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from edgesdk_converters.sweep.cells import Cell
from edgesdk_converters.sweep.process import Interrupted, Runner
from edgesdk_converters.sweep.results import Outcome


def run_local(cells: Sequence[Cell], work: Path, *, jobs: int = 0) -> Generator[tuple[Cell, Outcome], None, None]:
    """Run cells side by side, each on cores of its own; yields each as it ends. Timings take turns.

    Closing the iterator (or Ctrl-C) stops all processes.

    Args:
        cells: What to do.
        work: Folder for half-done files.
        jobs: How many at once; 0 is one per core.
    """
    shares = core_shares(jobs, len(cells))
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    done: queue.SimpleQueue[tuple[Cell, Outcome]] = queue.SimpleQueue()
    runner = Runner()

    def serve(cores: Sequence[int]) -> None:
        while True:
            try:
                cell = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((cell, runner.run(cell.arguments, work, title=cell.slug, cores=cores)))
            except Interrupted:
                return
            except Exception as error:  # noqa: BLE001 - whoever waits for this cell must hear of it
                done.put((cell, Outcome(status="failed", error=f"its process cannot be started: {error}")))

    threads = [threading.Thread(target=serve, args=(cores,), name=f"slot-{at}") for at, cores in enumerate(shares)]
    for thread in threads:
        thread.start()
    try:
        for _ in cells:
            yield done.get()
    finally:
        runner.stop()
        for thread in threads:
            thread.join()


def core_shares(jobs: int, cells: int) -> list[tuple[int, ...]]:
    """The cores of each of the processes that run at once: nobody computes on the core that another one measures on."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    slots = max(1, min(jobs or len(cores), cells))
    return [tuple(cores[at % len(cores) :: slots]) or (cores[at % len(cores)],) for at in range(slots)]
