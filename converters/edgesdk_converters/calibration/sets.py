"""A calibration set: samples that stay in their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgesdk.bundle.manifest import Contract, StateInput
from edgesdk.errors import CalibrationError, EdgeSdkError
from edgesdk_converters.calibration import alike
from edgesdk_converters.calibration.feeds import Feed, Feeds, Rolled, Run, Store
from edgesdk_converters.calibration.folder import list_files, name_of
from edgesdk_converters.calibration.labels import labels_of
from edgesdk_converters.calibration.prints import Print
from edgesdk_converters.calibration.reading import FileUnit, Reader
from edgesdk_converters.progress import Progress, Quiet

HELD_OUT = 0.2
MAX_FEEDS = 2000
"""Inferences kept at most, spread evenly: ranges no longer move, and a long recording would take all day."""
_FEW = 5
"""Below this many independent samples, each is cut in time instead of left out whole."""
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Samples as input arrays, in the order of the contract's inputs.

    Samples of a folder are read again whenever they are walked through: files must stay where they are until the conversion is over.
    """

    units: Sequence[Sequence[Feed]]
    """Independent samples; each is the inferences it makes, in order. States are zeros until :meth:`rolled`."""
    sha256: str
    """Over the sorted hashes of the files, with their labels where they have some; not over their names."""
    problems: tuple[str, ...] = ()
    """What was left out, and why: files of a kind that nobody asked for, sub-folders that are no labels."""
    shared: bool = field(default=False)
    """Whether calibration and evaluation had to be cut out of the same few samples."""
    labels: tuple[str | None, ...] = ()
    """Of each unit, where sub-folders or `labels.csv` say one: a class, spelled as in the contract, or the text of a line. As many as units."""
    names: tuple[str, ...] = ()
    """Of each unit: its file relative to the folder, with ``[row]`` behind an array's; as many as units, or none."""
    prints: tuple[Print, ...] = ()
    """Of each unit: hash, fingerprint and facts; as many as units, or none."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.units):
            object.__setattr__(self, "labels", (None,) * len(self.units))

    @property
    def feeds(self) -> Feeds:
        """All inferences, lazily; may be walked through any number of times, and sliced."""
        return Feeds(self.units)

    @classmethod
    def from_folder(cls, path: str | Path, contract: Contract, *, progress: Progress | None = None) -> CalibrationSet:
        """Look through a folder, sub-folders included, in the order of the file names. Every file is read once, none is kept.

        Raises:
            CalibrationError: It is no folder, holds nothing usable, or any file in it cannot be read or does not fit;
                all such files are listed.
        """
        folder = Path(path)
        files, ignored = list_files(folder)
        labels, ignored_labels = labels_of(folder, files, contract)
        reader = Reader(contract)
        units: list[FileUnit] = []
        names: list[str] = []
        prints: list[Print] = []
        hashes: list[str] = []
        problems: list[str] = []
        with (progress or Quiet()).bar(f"reading {folder.name}", len(files)) as bar:
            for file in files:
                try:
                    digest, found = reader.look(file)
                    # Labels decide which samples are held out, and so the ranges.
                    label = labels.get(name_of(folder, file))
                    hashes.append(digest if label is None else f"{digest} {label}")
                except (EdgeSdkError, OSError, ValueError) as error:
                    text = str(error)
                    problems.append(text if file.name in text else f"{file.name}: {text}")
                else:
                    name = name_of(folder, file)
                    for number, seen in enumerate(found):
                        if seen.length:
                            units.append(FileUnit(reader, file, number, seen.length))
                            names.append(f"{name}[{number}]" if len(found) > 1 else name)
                            prints.append(seen.print)
                bar.advance()
        if problems:
            more = f"\n  and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
            raise CalibrationError(
                f"{folder}: {len(problems)} of {len(files)} files cannot be used:\n  "
                + "\n  ".join(problems[:_LISTED])
                + more
                + "\nRepair them or take them out of the folder; a calibration on the rest would not be what you asked for."
            )
        if not units:
            raise CalibrationError(f"{folder}: its files hold no samples. Put 20 or more typical inputs there.")
        return cls(
            units=tuple(units),
            sha256=hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest(),
            problems=(*(f"{file.name}: not used" for file in ignored), *ignored_labels),
            labels=tuple(labels.get(name_of(folder, unit.file)) for unit in units),
            names=tuple(names),
            prints=tuple(prints),
        )

    def split(self, held_out: float = HELD_OUT) -> tuple[CalibrationSet, CalibrationSet]:
        """Calibration part and held-out part, the same at every run.

        Which samples are held out follows from their content, so that neither names nor their order matter and a new file moves few of
        the others; copies are never on both sides, near ones only where they are many; each label gives its share. Where there are fewer than five
        samples (a few long recordings), the end of each is held out: its neighbours in time would be too much alike.
        """
        count = len(self.units)
        if count >= _FEW:
            if len(self.prints) == count:
                chosen = set(alike.part(self.prints, held_out, self.labels))
            else:
                every = max(2, round(1 / held_out))
                chosen = set(range(every - 1, count, every))
            return (
                self._only([index for index in range(count) if index not in chosen]),
                self._only(sorted(chosen)),
            )
        rest: list[Sequence[Feed]] = []
        out: list[Sequence[Feed]] = []
        for unit in self.units:
            cut = max(1, round(len(unit) * (1 - held_out)))
            rest.append(unit[:cut])
            out.append(unit[cut:])
        if not any(map(len, out)):  # one or two single inputs: there is nothing to hold out
            return self, replace(self, shared=True, problems=())
        kept = [index for index, unit in enumerate(out) if len(unit)]
        # Both sides are of the same files, which are no copies of each other for that.
        return replace(self, units=tuple(rest)), replace(self._only(kept, tuple(out)), prints=())

    def rolled(self, contract: Contract, run: Run) -> CalibrationSet:
        """Replace the zero states by those that the model itself makes, sample by sample, while they are walked through.

        Args:
            contract: Says which output feeds which state.
            run: One inference of the float source.
        """
        names = [spec.name for spec in contract.outputs]
        pairs = {
            index: names.index(spec.source.from_output)
            for index, spec in enumerate(contract.inputs)
            if isinstance(spec.source, StateInput)
        }
        if not pairs:
            return self
        store: Store[tuple[int, int]] = Store()
        return replace(
            self, units=tuple(Rolled(unit, pairs, run, number, store) for number, unit in enumerate(self.units))
        )

    def thinned(self, most: int = MAX_FEEDS) -> CalibrationSet:
        """At most ``most`` inferences, spread evenly; samples that none of them is of are left out."""
        total = sum(len(unit) for unit in self.units)
        if total <= most:
            return self
        step = -(-total // most)
        thinned: list[Sequence[Feed]] = []
        before = 0
        for unit in self.units:
            thinned.append(unit if len(unit) == 1 and before % step == 0 else unit[-before % step :: step])
            before += len(unit)
        return self._only([index for index, unit in enumerate(thinned) if len(unit)], thinned)

    def _only(self, indices: Sequence[int], units: Sequence[Sequence[Feed]] | None = None) -> CalibrationSet:
        units = self.units if units is None else units
        return replace(
            self,
            units=tuple(units[index] for index in indices),
            labels=tuple(self.labels[index] for index in indices),
            names=tuple(self.names[index] for index in indices) if self.names else (),
            prints=tuple(self.prints[index] for index in indices) if self.prints else (),
        )
