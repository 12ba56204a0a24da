"""Runs cells on a Dask cluster. Workers need the converters, but no shared folder: files go there and results come back."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import tempfile
import threading
import uuid
import warnings
import zipfile
from collections.abc import Generator, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.errors import ConversionError, MissingExtraError
from edgesdk_converters.progress import Progress
from edgesdk_converters.sweep.cells import Cell
from edgesdk_converters.sweep.results import Outcome

if TYPE_CHECKING:
    from edgesdk_converters.sweep.process import Runner

MAX_PARCEL_BYTES = 1 << 30
_CONNECT_S = 10
_LOOK_S = 0.5
_WANTED = frozenset({"executing", "long-running", "resumed"})
"""States of a task, as distributed's worker names them, whose result somebody waits for."""


def run_on_cluster(
    cells: Sequence[Cell], address: str, *, progress: Progress | None = None
) -> Generator[tuple[Cell, Outcome], None, None]:
    """Run cells on the workers of a scheduler; yields each as it ends.

    A cell whose worker dies is given to another one. What is read by a cell travels once per model, through the scheduler. Closing the
    iterator (or Ctrl-C, or the death of this process) also stops the conversions that run.

    Args:
        cells: What to do.
        address: Of the scheduler, ``tcp://host:8786``.
        progress: Hears when there are no workers yet.

    Raises:
        MissingExtraError: distributed is not installed here.
        ConversionError: Nobody answers at the address, or a model's files are too large to travel.
    """
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise MissingExtraError(
            f"--cluster needs distributed, which does not import here ({error}). "
            "Install it: pip install 'edgesdk-converters[cluster]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise ConversionError(
            f"--cluster {address}: no Dask scheduler answers there ({error}). Start one: dask scheduler; "
            f"and workers: dask worker {address}"
        ) from error
    futures: dict[Any, Cell] = {}
    try:
        if progress is not None and not client.nthreads():
            progress.say(f"the cluster has no workers yet; start some: dask worker {address}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")  # once per model, not per cell
            parcels: dict[str, Any] = {}
            packed: dict[tuple[tuple[str, str], ...], str] = {}  # the cells of one model have the same files
            run = uuid.uuid4().hex[:8]  # keys of this run: results of an earlier one are not ours
            for cell in cells:
                files = tuple(sorted(cell.files.items()))
                if files not in packed:
                    content = pack(cell)
                    packed[files] = digest = hashlib.sha256(content).hexdigest()
                    if digest not in parcels:
                        parcels[digest] = client.submit(
                            _parcel, content, key=f"edgesdk-parcel-{digest[:16]}-{run}", pure=False
                        )
                future = client.submit(
                    run_remote,
                    cell.slug,
                    cell.arguments,
                    cell.moved,
                    parcels[packed[files]],
                    version("edgesdk-converters"),
                    key=f"edgesdk-cell-{cell.slug}-{cell.key[:16]}-{run}",
                    pure=False,
                )
                futures[future] = cell
        for future in distributed.as_completed(list(futures), loop=client.loop):
            yield futures[future], _brought(future)
            future.release()
    finally:
        client.cancel(list(futures))
        client.close()


def _brought(future: Any) -> Outcome:
    if future.status != "finished":
        error = future.exception() if future.status == "error" else future.status
        return Outcome(status="failed", error=f"the cluster could not run it: {type(error).__name__}: {error}")
    return msgspec.msgpack.decode(future.result(), type=Outcome)


def pack(cell: Cell) -> bytes:
    """The files of a cell as a zip; equal files make equal bytes.

    Raises:
        ConversionError: They are larger than what a scheduler should carry.
    """
    total = sum(Path(file).stat().st_size for file in cell.files.values())
    if total > MAX_PARCEL_BYTES:
        raise ConversionError(
            f"{cell.title}: its files have {total:,} bytes, at most {MAX_PARCEL_BYTES:,} go to a cluster. "
            "Use fewer calibration samples; a few hundred are enough."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for inside, file in sorted(cell.files.items()):
            archive.writestr(zipfile.ZipInfo(inside), Path(file).read_bytes())
    return buffer.getvalue()


def _parcel(content: bytes) -> bytes:
    """A task of its own, so that a worker's death costs no more than sending it again."""
    return content


def run_remote(title: str, arguments: dict[str, str], moved: dict[str, str], parcel: bytes, expected: str) -> bytes:
    """What a worker does: unpack, convert in a process of its own, send everything back."""
    from edgesdk_converters.sweep.process import Interrupted, Runner

    if version("edgesdk-converters") != expected:
        return msgspec.msgpack.encode(
            Outcome(
                status="failed",
                error=f"the worker has edgesdk-converters {version('edgesdk-converters')}, expected {expected} as here. "
                f"Install it there: pip install edgesdk-converters=={expected}",
            )
        )
    with tempfile.TemporaryDirectory(prefix="edgesdk-sweep-", ignore_cleanup_errors=True) as folder:
        with zipfile.ZipFile(io.BytesIO(parcel)) as archive:
            archive.extractall(folder)
        there = {**arguments, **{role: str(Path(folder) / inside) for role, inside in moved.items()}}
        runner = Runner()
        with _stopped_when_forgotten(runner):
            try:
                outcome = runner.run(there, Path(folder), title=title)
            except Interrupted:
                outcome = Outcome(status="failed", error="stopped: whoever asked for it does not wait any more")
        return msgspec.msgpack.encode(outcome)


@contextlib.contextmanager
def _stopped_when_forgotten(runner: Runner) -> Iterator[None]:
    """Stop the conversion when nobody wants it any more: a scheduler can take a task from its worker, but not end it.

    Cancelled by its client, or left by one that died: in both cases the worker's state machine moves the task out of the states in
    which it runs.
    """
    try:
        worker = importlib.import_module("distributed").get_worker()
    except (ImportError, ValueError):  # not on a worker
        yield
        return
    key = worker.get_current_task()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            task = worker.state.tasks.get(key)
            if task is None or task.state not in _WANTED:
                runner.stop()
                return

    watcher = threading.Thread(target=watch, name="edgesdk-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
