"""The labels that `labels.csv` or the sub-folders of a calibration folder give: classes, or the texts of lines."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration.folder import LABELS, name_of

_LISTED = 20
_MOSTLY = 0.5
"""Share of characters that the model cannot read from which the texts belong to something else."""
TEXT = "text-recognition"
"""The task whose labels are texts in the model's characters, and not one of them."""


def labels_of(folder: Path, files: Sequence[Path], contract: Contract) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """File name -> label, of all files or of none; and what looks like labels but is none.

    `labels.csv` in the folder (two columns, file and label) comes first; otherwise sub-folders are classes, where every file lies in
    one of at least two. With label names in the contract, sub-folders none of which bears such a name (``day``, ``night``) are none; nor
    are they where a model without names tells classes apart and their names are no class ids. Texts are only taken from
    `labels.csv`.

    Args:
        folder: With the files.
        files: Its samples.
        contract: Its labels are the names of the classes, by id (the id itself is as good as the name); in text recognition they
            are the characters.

    Raises:
        CalibrationError: `labels.csv` cannot be read, leaves files out or names others; labels are not those of the contract. All
            of it at once.
    """
    if folder.is_file():
        return {}, ()
    table = folder / LABELS
    if table.is_file():
        given = _read(table, [name_of(folder, file) for file in files])
        if contract.task == TEXT:
            _check_texts(given, contract, table)
            return given, ()
        return _canonical(given, contract, str(table)), ()
    parts = {name_of(folder, file): file.relative_to(folder).parts for file in files}
    labels = {name: part[0] for name, part in parts.items() if len(part) > 1}
    if contract.task == TEXT or len(labels) < len(files) or len(set(labels.values())) < 2:
        return {}, ()
    names = _names(contract)
    if names and not any(label in names or _is_id(label, names) for label in labels.values()):
        if contract.labels:
            return {}, ()
        some = ", ".join(sorted(set(labels.values()))[:3])
        note = (
            f"its sub-folders ({some} ...) are no labels: the model's classes have no names. If they are, name the classes "
            "in the spec, in their order: labels: [...]"
        )
        return {}, (note,)
    return _canonical(labels, contract, str(folder)), ()


def characters_of(contract: Contract) -> frozenset[str]:
    """What a text recognition model can read."""
    from edgesdk.tasks.options import read_options
    from edgesdk.tasks.vision.ctc import alphabet
    from edgesdk.tasks.vision.text_recognition import TextRecognitionOptions

    options = read_options(contract, TextRecognitionOptions)
    return frozenset("".join(alphabet(contract, contract.outputs[0].shape[-1], options.blank_index)))


def unreadable(texts: Iterable[str], contract: Contract) -> Counter[str]:
    """Characters of the texts that the model has not, and how often they are there."""
    known = characters_of(contract)
    return Counter(character for text in texts for character in text if character not in known)


def _check_texts(labels: Mapping[str, str], contract: Contract, table: Path) -> None:
    """A few foreign characters are the truth about a line; mostly foreign ones are labels of something else."""
    missing = unreadable(labels.values(), contract)
    total = sum(map(len, labels.values()))
    if missing.total() > _MOSTLY * total:
        file, text = next((file, text) for file, text in labels.items() if any(one in missing for one in text))
        some = "".join(one for one in contract.labels[: 2 * _LISTED] if one.strip())
        raise CalibrationError(
            f"{table}: {missing.total():,} of {total:,} characters of the labels are none that the model reads, "
            f"{_counted(missing)}; for example {text!r} of {file}. Its characters are: {some} ...\n"
            "Write what each line says in these characters, or give the model's own character list: labels_file: in the spec."
        )


def _counted(found: Counter[str]) -> str:
    return ", ".join(
        f"{one!r} ({count})" for one, count in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
    )


def _names(contract: Contract) -> Sequence[str]:
    """Of the classes, or their ids where they have no names; empty where nothing is known of classes."""
    if contract.labels:
        return contract.labels
    from edgesdk_converters.guard.metrics.classes import class_vector

    vector = class_vector(contract)
    if vector is None:
        return ()
    output, branch = vector
    shape = contract.outputs[output].shape
    count = shape[branch.class_axis or 0]
    if branch.axis == branch.class_axis:
        count = len(range(count)[branch.start : branch.stop])
    return tuple(map(str, range(count)))


def _read(table: Path, files: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    problems: list[str] = []
    try:
        reader = csv.reader(table.read_text(encoding="utf-8-sig").splitlines(keepends=True), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise CalibrationError(
            f"{table}: cannot be read ({error}). Save it as UTF-8 text with two columns: file,label"
        ) from error
    known = set(files)
    for number, row in rows:
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


def _canonical(labels: Mapping[str, str], contract: Contract, where: str) -> dict[str, str]:
    """Labels as the contract spells them."""
    names = _names(contract)
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
            + (
                f"Rename them to the model's labels, or to class ids 0..{len(names) - 1}: {some}"
                if contract.labels
                else f"Its classes have no names. Give the ids 0..{len(names) - 1}, or name the classes in the spec, in their order: "
                "labels: [...]"
            )
        )
    return {file: label if label in names else names[int(label)] for file, label in labels.items()}


def _is_id(label: str, names: Sequence[str]) -> bool:
    return label.isascii() and label.isdigit() and int(label) < len(names)


def _some(problems: Sequence[str]) -> str:
    more = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return "\n  ".join(problems[:_LISTED]) + more
