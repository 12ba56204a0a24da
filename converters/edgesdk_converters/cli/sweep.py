"""`edgesdk sweep`: many models, many recipes, many boards."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.cli.main import Command
from edgesdk.errors import ConversionError

if TYPE_CHECKING:
    from edgesdk_converters.sweep.results import CellResult

_HEAD = ("model", "recipe", "board", "variant", "size", "time", "worst branch", "took")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=Path, metavar="SWEEP.yaml", help="models, recipes, boards")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the results; by default the file's")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="cells at once; by default one per core")
    parser.add_argument("--cluster", metavar="ADDRESS", help="run on this Dask scheduler's workers: tcp://host:8786")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Run what is left of it, print the table; 1 where a cell failed."""
    from edgesdk_converters.progress import for_stream
    from edgesdk_converters.sweep.results import as_plain
    from edgesdk_converters.sweep.sweep import run_sweep

    if options.jobs < 0:
        raise ConversionError(f"--jobs {options.jobs}: expected 1 or more, or 0 for one per core. Say --jobs 1")
    sweep = run_sweep(
        options.file, output=options.output, jobs=options.jobs, cluster=options.cluster, progress=for_stream()
    )
    if options.json:
        cells = [as_plain(result) for result in sweep.results]
        print(json.dumps({"folder": str(sweep.folder), "resumed": sweep.resumed, "cells": cells}, indent=1))
    else:
        for line in table(sweep.results):
            print(line)
    for result in sweep.failed:
        print(f"failed: {result.model}, {result.recipe}, {result.board}:", file=sys.stderr)
        for line in result.error.splitlines():
            print(f"  {line}", file=sys.stderr)
    if sweep.failed:
        print(
            f"{len(sweep.failed)} of {len(sweep.results)} cells failed; run it again to try these again.",
            file=sys.stderr,
        )
    return 1 if sweep.failed else 0


def table(results: tuple[CellResult, ...]) -> Iterator[str]:
    """The results in columns."""
    rows = [_HEAD, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(result: CellResult) -> tuple[str, ...]:
    from edgesdk_converters.report.markup import NBSP
    from edgesdk_converters.report.trials import best, figure_in_words, worst

    names = (result.model, result.recipe, result.board)
    took = f"{result.seconds:.1f} s"
    trial = best(result.record) if result.record is not None else None
    if result.record is None or trial is None:
        return (*names, "FAILED" if result.status == "failed" else "float only", "-", "-", "-", took)
    it = trial.measurement
    figure = worst(it, result.record)
    return (
        *names,
        it.variant + (" (overruled)" if it.reasons else ""),
        f"{it.size_bytes / 1000:,.0f} kB, {it.size_bytes / max(it.source_size_bytes, 1):.2f}x",
        f"{it.latency.ratio:.2f}x" if it.latency is not None else "-",
        f"{figure.branch}: {figure_in_words(figure)}".replace(NBSP, " ") if figure is not None else "-",
        took,
    )


COMMAND = Command(
    help="Convert many models with many recipes for many boards; resumes where it stopped.",
    configure=configure,
    run=run,
)
