"""The results folder: one JSON per cell, written at once; bundles and reports beside them."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from edgesdk.errors import ConversionError
from edgesdk_converters.report.record import Record
from edgesdk_converters.report.write import finite, replace
from edgesdk_converters.sweep.cells import Cell

SCHEMA = "edgesdk.sweep-cell/1"


class CellResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a cell."""

    schema: str = SCHEMA
    key: str
    model: str
    recipe: str
    board: str
    status: Literal["ok", "float-only", "failed"]
    """``float-only``: the guard let no quantized variant through, or none could be made."""
    error: str = ""
    seconds: float = 0.0
    bundle: str = ""
    """Relative to the results folder."""
    report: str = ""
    record: Record | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a process brings back: the result without its place, and the files."""

    status: Literal["ok", "float-only", "failed"]
    error: str = ""
    seconds: float = 0.0
    record: Record | None = None
    bundle: bytes = b""
    report: bytes = b""


class Results:
    """The folder, held by one sweep at a time."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing, and take hold of it.

        Raises:
            ConversionError: It cannot be made, or another sweep writes there.
        """
        self.folder = folder
        try:
            for name in ("cells", "bundles", "reports"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConversionError(
                f"{folder}: cannot be a folder of results: {error.strerror}. Name another with --output."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConversionError(
                f"{folder}: another sweep writes there. Wait for it, or name another folder with --output."
            ) from error
        self._tidy()

    def _tidy(self) -> None:
        """Remove what a sweep left that was killed."""
        for part in self.folder.glob("*/.*.part"):
            part.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    @property
    def work(self) -> Path:
        """Folder for the processes' half-done files."""
        return self.folder / "work"

    def finished(self, cell: Cell) -> CellResult | None:
        """The result of a cell that need not be done again: same inputs, complete, and not failed."""
        try:
            result = msgspec.json.decode(self._json(cell).read_bytes(), type=CellResult)
        except (OSError, msgspec.DecodeError, RecursionError):  # not there, or half-written: it is done again
            return None
        if result.schema != SCHEMA or result.key != cell.key or result.status == "failed":
            return None
        return result if (self.folder / result.bundle).is_file() else None

    def commit(self, cell: Cell, outcome: Outcome) -> CellResult:
        """Write down what became of a cell; its JSON comes last, so that what it names is there."""
        bundle, report = f"bundles/{cell.slug}.edge", f"reports/{cell.slug}.html"
        for name, content in ((bundle, outcome.bundle), (report, outcome.report)):
            if content:
                replace(self.folder / name, content)
            else:  # of an earlier sweep with other inputs
                (self.folder / name).unlink(missing_ok=True)
        result = CellResult(
            key=cell.key,
            model=cell.model,
            recipe=cell.recipe,
            board=cell.board,
            status=outcome.status,
            error=outcome.error,
            seconds=round(outcome.seconds, 2),
            bundle=bundle if outcome.bundle else "",
            report=report if outcome.report else "",
            record=outcome.record,
        )
        plain = {"schema": SCHEMA, **as_plain(result)}
        replace(self._json(cell), msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n")
        return result

    def _json(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.slug}.json"

    def close(self) -> None:
        """Let go of the folder; idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.work, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_plain(result: CellResult) -> dict[str, Any]:
    """The result as JSON has it."""
    plain: dict[str, Any] = finite(msgspec.to_builtins(result, order="deterministic"))
    if result.record is not None:
        plain["record"] = {"schema": result.record.schema, **plain["record"]}
    return plain
