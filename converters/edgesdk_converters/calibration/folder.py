"""What a calibration folder holds: its files by kind."""

from __future__ import annotations

from pathlib import Path

from edgesdk.errors import CalibrationError
from edgesdk_converters.contract import Media

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
RECORDINGS = frozenset({".wav"})
ARRAYS = frozenset({".npy", ".npz"})
LABELS = "labels.csv"


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
