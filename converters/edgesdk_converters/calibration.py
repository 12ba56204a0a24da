"""Reads a calibration folder into the model's input arrays: pictures, wav files, `.npy` / `.npz` arrays."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, ConstantInput, Contract, ImageInput, InputSpec, StateInput, TensorInput
from edgesdk.errors import CalibrationError, EdgeSdkError, SourceWarning
from edgesdk_converters.contract import Media
from edgesdk_converters.progress import Progress, Quiet

Array = NDArray[Any]
Feed = list[Array]

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
RECORDINGS = frozenset({".wav"})
ARRAYS = frozenset({".npy", ".npz"})
HELD_OUT = 0.2
MAX_FEEDS = 2000
"""Inferences kept at most, spread evenly: ranges no longer move, and a long recording would fill the memory."""
_FEW = 5
"""Below this many independent samples, each is cut in time instead of left out whole."""
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Samples as input arrays, in the order of the contract's inputs."""

    units: tuple[tuple[Feed, ...], ...]
    """Independent samples; each is the inferences it makes, in order. States are zeros."""
    sha256: str
    """Over the sorted hashes of the files."""
    problems: tuple[str, ...] = ()
    """Files that were left out, and why; only those of a kind that nobody asked for."""
    shared: bool = field(default=False)
    """Whether calibration and evaluation had to be cut out of the same few samples."""

    @property
    def feeds(self) -> list[Feed]:
        """All inferences."""
        return [feed for unit in self.units for feed in unit]

    @classmethod
    def from_folder(cls, path: str | Path, contract: Contract, *, progress: Progress | None = None) -> CalibrationSet:
        """Read a folder, sub-folders included, in the order of the file names.

        Raises:
            CalibrationError: It is no folder, holds nothing usable, or any file in it cannot be read or does not fit;
                all such files are listed.
        """
        folder = Path(path)
        files, ignored = _list(folder)
        reader = _Reader(contract)
        units: list[tuple[Feed, ...]] = []
        hashes: list[str] = []
        problems: list[str] = []
        with (progress or Quiet()).bar(f"reading {folder.name}", len(files)) as bar:
            for file in files:
                try:
                    content = file.read_bytes()
                    hashes.append(hashlib.sha256(content).hexdigest())
                    units += [unit for unit in reader.read(file) if unit]
                except (EdgeSdkError, OSError, ValueError) as error:
                    text = str(error)
                    problems.append(text if file.name in text else f"{file.name}: {text}")
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
        digest = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
        return cls(units=tuple(units), sha256=digest, problems=tuple(f"{file.name}: not used" for file in ignored))

    def split(self, held_out: float = HELD_OUT) -> tuple[CalibrationSet, CalibrationSet]:
        """Calibration part and held-out part, the same at every run.

        Every fifth sample is held out. Where there are fewer than five (a few long recordings), the end of each is: its
        neighbours in time would be too much alike.
        """
        every = max(2, round(1 / held_out))
        if len(self.units) >= _FEW:
            rest = tuple(unit for index, unit in enumerate(self.units) if index % every != every - 1)
            out = tuple(unit for index, unit in enumerate(self.units) if index % every == every - 1)
            return self._with(rest), self._with(out)
        rest, out = (), ()
        for unit in self.units:
            cut = max(1, round(len(unit) * (1 - held_out)))
            rest, out = (*rest, unit[:cut]), (*out, unit[cut:])
        if not any(out):  # one or two single inputs: there is nothing to hold out
            return self, CalibrationSet(units=self.units, sha256=self.sha256, shared=True)
        return self._with(rest), self._with(tuple(unit for unit in out if unit))

    def rolled(self, contract: Contract, run: Callable[[Feed], Sequence[Array]]) -> CalibrationSet:
        """Replace the zero states by those that the model itself makes, sample by sample.

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
        units = []
        for unit in self.units:
            states: dict[int, Array] = {}
            made: list[Feed] = []
            for feed in unit:
                full = [states.get(index, array) for index, array in enumerate(feed)]
                made.append(full)
                outputs = run(full)
                states = {index: np.array(outputs[output]) for index, output in pairs.items()}
            units.append(tuple(made))
        return self._with(tuple(units))

    def thinned(self, most: int = MAX_FEEDS) -> CalibrationSet:
        """At most ``most`` inferences, spread evenly."""
        total = sum(len(unit) for unit in self.units)
        if total <= most:
            return self
        step = -(-total // most)
        return self._with(tuple(unit[::step] for unit in self.units))

    def _with(self, units: tuple[tuple[Feed, ...], ...]) -> CalibrationSet:
        return CalibrationSet(units=units, sha256=self.sha256, problems=self.problems, shared=self.shared)


def media_of(folder: Path | None) -> Media:
    """What kind of samples a folder holds.

    Raises:
        CalibrationError: It is no folder, is empty, or holds several kinds.
    """
    if folder is None:
        return "nothing"
    files, _ = _list(folder)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise CalibrationError(
            f"{folder}: holds {' and '.join(sorted(kinds))}, expected one kind. Use a folder for each."
        )
    return next(iter(kinds))


def _kind(file: Path) -> Media:
    suffix = file.suffix.lower()
    return "pictures" if suffix in PICTURES else "recordings" if suffix in RECORDINGS else "arrays"


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
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
    return files, [file for file in found if file not in files]


class _Reader:
    """Turns one file into samples."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._task: Any = None

    def read(self, file: Path) -> list[tuple[Feed, ...]]:
        """Samples of a file; each as its inferences."""
        suffix = file.suffix.lower()
        if suffix in ARRAYS:
            return self._arrays(file)
        from edgesdk.sources.reading import read_picture, read_wav
        from edgesdk.tasks import make_task

        if self._task is None:
            self._task = make_task(self._contract)
        self._task.reset()
        with warnings.catch_warnings():
            # Dropped transparency, resampling: worth a line on a board that runs for months, not one per file here.
            warnings.simplefilter("ignore", SourceWarning)
            if suffix in PICTURES:
                return [(feed,) for feed in self._task.feeds(read_picture(file))]
            rates = [
                spec.source.sample_rate_hz for spec in self._contract.inputs if isinstance(spec.source, AudioInput)
            ]
            return [tuple(self._task.feeds(read_wav(file, sample_rate_hz=rates[0] if rates else None)))]

    def _arrays(self, file: Path) -> list[tuple[Feed, ...]]:
        given = self._load(file)
        taken = [spec for spec in self._contract.inputs if not isinstance(spec.source, StateInput | ConstantInput)]
        columns: dict[str, list[Array]] = {}
        for spec in taken:
            if spec.name not in given:
                raise CalibrationError(
                    f"{file.name}: has no array for input {spec.name!r}; it has: {', '.join(sorted(given))}. "
                    f"Name the npz keys like the inputs: np.savez(file, {', '.join(f'{s.name}=...' for s in taken)})."
                )
            columns[spec.name] = _rows(file, spec, given[spec.name])
        unknown = sorted(set(given) - {spec.name for spec in self._contract.inputs})
        if unknown:
            raise CalibrationError(
                f"{file.name}: has arrays for {', '.join(map(repr, unknown))}, which are no inputs. "
                f"Inputs: {', '.join(spec.name for spec in self._contract.inputs)}."
            )
        counts = {name: len(rows) for name, rows in columns.items()}
        if len(set(counts.values())) > 1:
            raise CalibrationError(
                f"{file.name}: its arrays hold different numbers of samples: {counts}. Save as many of each."
            )
        feeds = [
            [columns[spec.name][index] if spec.name in columns else rest(spec) for spec in self._contract.inputs]
            for index in range(next(iter(counts.values()), 0))
        ]
        stateful = any(isinstance(spec.source, StateInput) for spec in self._contract.inputs)
        return [tuple(feeds)] if stateful else [(feed,) for feed in feeds]

    def _load(self, file: Path) -> dict[str, Array]:
        try:
            with file.open("rb") as stream:
                loaded = np.load(stream, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    given = {"": loaded}
                else:
                    given = {name: np.asarray(loaded[name]) for name in loaded.files}
        except Exception as error:  # numpy raises ValueError, OSError, EOFError, BadZipFile ... for damaged files
            raise CalibrationError(
                f"{file.name}: cannot be read as an array ({error}). Save it again with np.save."
            ) from error
        if "" not in given:
            return given
        taken = [spec.name for spec in self._contract.inputs if not isinstance(spec.source, StateInput | ConstantInput)]
        if len(taken) != 1:
            raise CalibrationError(
                f"{file.name}: is one array, the model takes {len(taken)}: {', '.join(taken)}. "
                f"Save them together: np.savez(file, {', '.join(f'{name}=...' for name in taken)})."
            )
        return {taken[0]: given[""]}


def rest(spec: InputSpec) -> Array:
    """Zeros for a state, the value of a constant."""
    if isinstance(spec.source, ConstantInput):
        from edgesdk.tasks.inputs import constant

        return constant(spec)
    return np.zeros(spec.shape, np.dtype(spec.dtype))


def _shape_fix(spec: InputSpec, array: Array) -> str:
    whole = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
    samples, rest = divmod(array.size, math.prod(whole))
    if rest or not samples:
        fix = "No reshape makes it, write samples of that size"
    else:
        fix = f"Reshape it: array.reshape([{', '.join(map(str, (-1, *whole)))}])"
    if isinstance(spec.source, ImageInput | TensorInput):
        fix += " (pictures belong in the folder as .jpg or .png)"
    return f"{fix}."


def _rows(file: Path, spec: InputSpec, array: Array) -> list[Array]:
    """One array per sample: the input's shape itself, or with a leading sample axis, or that in place of a batch of 1."""
    shape = spec.shape
    if array.shape == shape:
        rows = [array]
    elif array.shape[1:] == shape:
        rows = list(array)
    elif shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        rows = [row[None] for row in array]
    else:
        raise CalibrationError(
            f"{file.name}: the array for input {spec.name!r} has shape {list(array.shape)}, expected {list(shape)}, or "
            f"[{', '.join(map(str, ('n', *(shape[1:] if shape[:1] == (1,) else shape))))}] for n samples. "
            + _shape_fix(spec, array)
        )
    dtype = np.dtype(spec.dtype)
    if array.dtype == dtype:
        return [np.ascontiguousarray(row) for row in rows]
    if array.dtype.kind == "f" and dtype.kind == "f":
        return [np.ascontiguousarray(row.astype(dtype)) for row in rows]
    raise CalibrationError(
        f"{file.name}: the array for input {spec.name!r} is {array.dtype}, expected {dtype}. "
        f"Save it as what the model takes (scaled, if need be): array.astype({str(dtype)!r})."
    )
