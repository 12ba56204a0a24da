"""What a calibration folder holds: its files by kind, and the labels that its sub-folders or `labels.csv` give."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgesdk.errors import CalibrationError
from edgesdk_converters.contract import Media

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
RECORDINGS = frozenset({".wav"})
ARRAYS = frozenset({".npy", ".npz"})
LABELS = "labels.csv"
_LISTED = 20


def media_of(folder: Path | None) -> Media:
    """What kind of samples a folder holds.

    Raises:
        CalibrationError: It is no folder, is empty, or holds several kinds.
    """
    if folder is None:
        return "nothing"
    files, _ = list_files(folder)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise CalibrationError(
            f"{folder}: holds {' and '.join(sorted(kinds))}, expected one kind. Use a folder for each."
        )
    return next(iter(kinds))


def _kind(file: Path) -> Media:
    suffix = file.suffix.lower()
    return "pictures" if suffix in PICTURES else "recordings" if suffix in RECORDINGS else "arrays"


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that hold samples, sorted by name, and those that do not; a single file stands for a folder with it.

    Raises:
        CalibrationError: There is no such folder, or nothing usable in it.
    """
    if folder.is_file():
        found, base = [folder], folder.parent
    elif folder.is_dir():
        base = folder
        found = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    else:
        raise CalibrationError(f"{folder}: no such folder. Give --calibration a folder of typical inputs.")
    known = PICTURES | RECORDINGS | ARRAYS
    files = [file for file in found if file.suffix.lower() in known]
    if not files:
        what = f"holds {len(found)} files, but none" if found else "is empty, nothing"
        raise CalibrationError(
            f"{base if folder.is_file() else folder}: {what} that calibration can read. "
            "Put 20 or more typical inputs there: pictures (.jpg, .png ...), .wav files, or .npy / .npz arrays."
        )
    usable = set(files)
    return files, [file for file in found if file not in usable and file != base / LABELS]


def name_of(folder: Path, file: Path) -> str:
    """The file as messages and `labels.csv` call it: relative to the folder, with forward slashes."""
    return file.name if folder.is_file() else file.relative_to(folder).as_posix()


def labels_of(folder: Path, files: Sequence[Path], names: Sequence[str]) -> Mapping[str, str]:
    """File name -> label, of all files or of none.

    `labels.csv` in the folder (two columns, file and label) comes first; otherwise sub-folders are classes, where every file lies in
    one of at least two. With label names in the contract, sub-folders none of which bears such a name (``day``, ``night``) are none.

    Args:
        folder: With the files.
        files: Its samples.
        names: Labels of the contract, by class id; may be empty. The id itself is as good as the name.

    Raises:
        CalibrationError: `labels.csv` cannot be read, leaves files out or names others; labels are not those of the contract. All
            of it at once.
    """
    if folder.is_file():
        return {}
    table = folder / LABELS
    if table.is_file():
        return _canonical(_read(table, [name_of(folder, file) for file in files]), names, str(table))
    parts = {name_of(folder, file): file.relative_to(folder).parts for file in files}
    labels = {name: part[0] for name, part in parts.items() if len(part) > 1}
    if len(labels) < len(files) or len(set(labels.values())) < 2:
        return {}
    if names and not any(label in names or _is_id(label, names) for label in labels.values()):
        return {}
    return _canonical(labels, names, str(folder))


def _read(table: Path, files: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    problems: list[str] = []
    try:
        rows = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise CalibrationError(
            f"{table}: cannot be read ({error}). Save it as UTF-8 text with two columns: file,label"
        ) from error
    known = set(files)
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == ["file", "label"]):
            continue
        if len(cells) != 2 or not all(cells):
            problems.append(f"line {number}: has {len(cells)} columns, expected two: file,label")
        elif cells[0] not in known:
            near = difflib.get_close_matches(cells[0], files, n=1)
            problems.append(f"line {number}: no file {cells[0]!r}" + (f". Did you mean {near[0]!r}?" if near else ""))
        elif labels.setdefault(cells[0], cells[1]) != cells[1]:
            problems.append(f"line {number}: {cells[0]!r} has the label {labels[cells[0]]!r} already, got {cells[1]!r}")
    problems += [f"no line for {file!r}" for file in files if file not in labels]
    if problems:
        raise CalibrationError(
            f"{table}: {len(problems)} problems:\n  " + _some(problems) + "\nGive one line per file: file,label"
        )
    return labels


def _canonical(labels: Mapping[str, str], names: Sequence[str], where: str) -> dict[str, str]:
    """Labels as the contract spells them."""
    if not names:
        return dict(labels)
    problems = []
    for label in sorted(set(labels.values())):
        if label not in names and not _is_id(label, names):
            near = difflib.get_close_matches(label, names, n=1)
            of = [file for file, given in labels.items() if given == label]
            problems.append(
                f"{label!r} ({len(of)} files, first {of[0]})" + (f". Did you mean {near[0]!r}?" if near else "")
            )
    if problems:
        some = ", ".join(names[:_LISTED]) + (" ..." if len(names) > _LISTED else "")
        raise CalibrationError(
            f"{where}: labels that the model does not have:\n  {_some(problems)}\n"
            f"Rename them to the model's labels, or to class ids 0..{len(names) - 1}: {some}"
        )
    return {file: label if label in names else names[int(label)] for file, label in labels.items()}


def _is_id(label: str, names: Sequence[str]) -> bool:
    return label.isascii() and label.isdigit() and int(label) < len(names)


def _some(problems: Sequence[str]) -> str:
    more = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return "\n  ".join(problems[:_LISTED]) + more
