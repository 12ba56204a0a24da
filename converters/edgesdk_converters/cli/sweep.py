"""`edgesdk sweep`: many models, many recipes, many boards."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command

if TYPE_CHECKING:
    from edgesdk_converters.sweep.results import CellResult

_HEAD = ("model", "recipe", "board", "variant", "size", "time", "worst branch", "took")


_EPILOG = """\
Run the same command again to do what is missing: cells whose inputs have not changed are kept, failed ones are tried again.

exit codes: 0 every cell was converted; 1 a cell failed, or the sweep could not run; 2 the command line is wrong; 130 stopped by Ctrl-C
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "file", type=Path, metavar="SWEEP.yaml", help="models, recipes and boards; every combination is a cell"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the results; default: what the file says, else sweep-results",
    )
    parser.add_argument(
        "--jobs", type=whole(0), metavar="N", help="cells at once on this machine; default: one per core"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run the cells on the workers of this Dask scheduler instead, for example tcp://host:8786",
    )
    parser.add_argument("--json", action="store_true", help="print all results as one JSON object instead of the table")


def run(options: argparse.Namespace) -> int:
    """Run what is left of it, print the table; 1 where a cell failed."""
    from edgesdk_converters.cli.usage import usage
    from edgesdk_converters.progress import for_stream
    from edgesdk_converters.sweep.results import as_plain
    from edgesdk_converters.sweep.sweep import run_sweep

    if problems := _problems(options):
        return usage("sweep", problems)
    with for_stream() as progress:
        sweep = run_sweep(
            options.file, output=options.output, jobs=options.jobs or 0, cluster=options.cluster, progress=progress
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


def _problems(options: argparse.Namespace) -> list[str]:
    problems = []
    if options.cluster is not None and options.jobs is not None:
        problems.append(
            f"--jobs {options.jobs}: counts cells on this machine, and with --cluster none run here. "
            "Leave it out; --nthreads of `dask worker` says how many a worker runs at once."
        )
    if options.cluster is not None and "://" not in options.cluster:
        problems.append(
            f"--cluster {options.cluster}: expected PROTOCOL://HOST:PORT. Say --cluster tcp://{options.cluster}"
        )
    return problems


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
