"""The truth about evaluation samples: a `labels.csv` in their folder, or one sub-folder per class."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import CalibrationError
from edgesdk_converters.guard.metrics.classes import class_vector

FILE = "labels.csv"
_LISTED = 20
_TEXT_TASKS = frozenset({"text-recognition"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels by file."""

    by_file: dict[str, str]
    """Path inside the folder, with ``/``; of an array file with several samples ``samples.npy:3``, counted from 0."""

    def of(self, file: str, index: int = 0) -> str | None:
        """The label of a sample; None where it has none."""
        return self.by_file.get(f"{file}:{index}", self.by_file.get(file))

    def for_units(self, files: Sequence[str]) -> list[str | None]:
        """One label per independent sample, from the file that each was read from; equal names count up."""
        seen: dict[str, int] = {}
        labels = []
        for file in files:
            index = seen.get(file, 0)
            seen[file] = index + 1
            labels.append(self.of(file, index))
        return labels


def read_labels(folder: Path, contract: Contract, files: Iterable[Path] | None = None) -> Labels | None:
    """The labels of a folder of samples, or None where it has none.

    Sub-folders are taken for classes where the contract has labels and every sample lies in one; if no name of a sub-folder
    is a label, they are taken for mere order.

    Args:
        folder: With `labels.csv` (columns file, label) or sub-folders.
        contract: Its labels are what a label may be (or the number of a class); the texts of `text-recognition` are free.
        files: Its samples; by default all files but hidden ones and `labels.csv`.

    Raises:
        CalibrationError: Labels that the contract does not have, files that are not there, samples without a label; all of
            them, with the nearest word.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    found = sorted(files) if files is not None else sorted(p for p in folder.rglob("*") if p.is_file())
    names = [
        path.relative_to(folder).as_posix() for path in found if path.name != FILE and not path.name.startswith(".")
    ]
    table = folder / FILE
    if table.is_file():
        return _from_table(table, names, contract)
    return _from_folders(folder, names, contract)


def _from_table(table: Path, names: Sequence[str], contract: Contract) -> Labels:
    problems: list[str] = []
    by_file: dict[str, str] = {}
    known = set(names)
    try:
        rows = list(csv.reader(table.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CalibrationError(
            f"{table}: cannot be read ({error}). Save it as UTF-8 with lines 'file,label'."
        ) from error
    for number, row in enumerate(rows, 1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["file", "label"]):
            continue
        if len(row) != 2:
            problems.append(f"{table.name}:{number}: has {len(row)} columns, expected 2: file,label")
            continue
        file, label = row[0].strip(), row[1].strip()
        base = file if file in known else file.rpartition(":")[0]
        if base not in known:
            problems.append(f"{table.name}:{number}: there is no file {file!r}.{_nearest(file, names)}")
        elif file in by_file:
            problems.append(f"{table.name}:{number}: {file!r} has a label already, {by_file[file]!r}")
        else:
            by_file[file] = label
            problem = _problem(label, contract)
            if problem:
                problems.append(f"{table.name}:{number}: {problem}")
    labelled = {file if file in known else file.rpartition(":")[0] for file in by_file}
    problems += [f"{name}: has no label in {table.name}" for name in names if name not in labelled]
    _refuse(table, problems)
    return Labels(by_file=by_file)


def _from_folders(folder: Path, names: Sequence[str], contract: Contract) -> Labels | None:
    if not contract.labels or not names or contract.task in _TEXT_TASKS or class_vector(contract) is None:
        return None
    if any("/" not in name for name in names):
        return None
    by_file = {name: name.split("/", 1)[0] for name in names}
    classes = sorted(set(by_file.values()))
    if not set(classes) & set(contract.labels):
        return None
    _refuse(folder, [f"{one}/: {problem}" for one in classes if (problem := _problem(one, contract))])
    return Labels(by_file=by_file)


def _problem(label: str, contract: Contract) -> str:
    """What is wrong with a label; empty where nothing is."""
    if contract.task in _TEXT_TASKS or label in contract.labels:
        return ""
    vector = class_vector(contract)
    if vector is None:
        return f"task {contract.task!r} has no classes that labels could be compared with. Remove {FILE}"
    output, branch = vector
    classes = len(contract.labels) or contract.outputs[output].shape[branch.class_axis or 0]
    if label.isdecimal() and int(label) < classes:
        return ""
    if not contract.labels:
        return f"label {label!r} is no class number 0 to {classes - 1}, and the model has no labels. Name them in the spec: labels: [...]"
    return f"label {label!r} is none of the model's.{_nearest(label, contract.labels) or _some(contract.labels)}"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    return f" It has: {', '.join(labels[:12])}{more}."


def _refuse(where: Path, problems: Sequence[str]) -> None:
    if not problems:
        return
    more = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    raise CalibrationError(
        f"{where}: its labels do not match:\n  "
        + "\n  ".join(problems[:_LISTED])
        + more
        + "\nCorrect them, or remove the file."
    )
