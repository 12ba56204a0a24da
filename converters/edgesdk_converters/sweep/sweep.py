"""The sweep as a whole: what is left to do, doing it, writing it down."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.sweep.cells import Cell, cells_of
from edgesdk_converters.sweep.file import read_sweep
from edgesdk_converters.sweep.local import run_local
from edgesdk_converters.sweep.results import CellResult, Outcome, Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep came to."""

    folder: Path
    results: tuple[CellResult, ...]
    """In the order of the file."""
    resumed: int
    """How many of them were there already."""

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """Cells that could not be converted."""
        return tuple(result for result in self.results if result.status == "failed")


def run_sweep(
    file: Path,
    *,
    output: Path | None = None,
    jobs: int = 0,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Convert every model with every recipe for every board.

    A cell that was finished with the same inputs is not done again. One that fails does not stop the others. Interrupted, the
    finished cells stay and nothing half-written does.

    Args:
        file: The sweep file.
        output: Folder of the results; by default the file's.
        jobs: Cells at once on this machine; 0 is one per core.
        cluster: Address of a Dask scheduler; its workers do it instead of this machine.
        progress: Where to say what is being done.

    Raises:
        ConfigError: The file, or one that it names, is wrong.
        ConversionError: The results folder or the cluster cannot be used.
    """
    progress = progress or Quiet()
    sweep = read_sweep(file)
    cells = cells_of(sweep, file.parent)
    with Results(output if output is not None else file.parent / sweep.output) as results:
        known = {cell.slug: result for cell in cells if (result := results.finished(cell)) is not None}
        resumed = len(known)
        left = [cell for cell in cells if cell.slug not in known]
        if resumed:
            progress.say(f"{resumed} of {len(cells)} cells are finished already, {len(left)} are left")
        bars = progress if left else Quiet()
        with bars.bar("sweep", len(left)) as bar, closing(_run(left, results.work, jobs, cluster, progress)) as running:
            try:
                for cell, outcome in running:
                    result = results.commit(cell, outcome)
                    known[cell.slug] = result
                    progress.say(
                        f"{cell.title}: {result.status}{f': {result.error.splitlines()[0]}' if result.error else ''}"
                    )
                    bar.advance()
            except KeyboardInterrupt:
                progress.say(
                    f"stopping: {len(known)} of {len(cells)} cells are done and kept in {results.folder}; "
                    f"the same command does the other {len(cells) - len(known)}"
                )
                raise
        return Sweep(folder=results.folder, results=tuple(known[cell.slug] for cell in cells), resumed=resumed)


def _run(
    cells: list[Cell], work: Path, jobs: int, cluster: str | None, progress: Progress
) -> Generator[tuple[Cell, Outcome], None, None]:
    if not cells:
        return
    if cluster is None:
        yield from run_local(cells, work, jobs=jobs)
    else:
        from edgesdk_converters.sweep.cluster import run_on_cluster

        yield from run_on_cluster(cells, cluster, progress=progress)
