"""Source `images`: a picture file, a folder of pictures, or a glob, in natural order."""

from __future__ import annotations

import glob
import re
import warnings
from pathlib import Path

import msgspec

from edgesdk.errors import SourceError, SourceFormatError, SourceWarning
from edgesdk.samples import Picture
from edgesdk.schema import Hertz
from edgesdk.sources.base import Pace, Pacer, SourceBase, check_above_zero
from edgesdk.sources.reading import PICTURE_SUFFIXES, read_picture

SUFFIXES = PICTURE_SUFFIXES


class ImagesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `images`."""

    path: Path
    """A picture, a folder (not searched deeper), or a glob such as ``photos/**/*.jpg``."""
    rate_hz: Hertz = msgspec.field(name="rate", default=1.0)
    """Pictures per second, where the pace is real-time."""
    pace: Pace = "fast"
    loop: bool = False
    """Begin anew after the last picture, for ever."""

    def __post_init__(self) -> None:
        check_above_zero(rate=self.rate_hz)


class ImageFolder(SourceBase):
    """Delivers every picture of a folder. A single unreadable file is skipped with a SourceWarning."""

    Options = ImagesOptions
    media = "picture"

    def __init__(self, options: ImagesOptions) -> None:
        super().__init__(options)
        self.options: ImagesOptions = options
        self._files: list[Path] = []
        self._next = 0
        self._delivered = 0
        self._readable = False
        """Whether one was, since the list was last begun."""
        self._pacer: Pacer | None = None

    @property
    def description(self) -> str:
        """Folder and number of pictures."""
        count = f", {len(self._files)} pictures" if self._files else ""
        return f"images {self.options.path}{count}"

    def open(self) -> None:
        """List the files."""
        self._files = picture_files(self.options.path)
        self._next = self._delivered = 0
        self._readable = False
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Picture | None:
        """The next picture, or None after the last.

        Raises:
            SourceFormatError: None of the files is a picture.
        """
        if self._pacer is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        while True:
            if self._next >= len(self._files):
                if not self._readable:
                    raise SourceFormatError(
                        f"{self.options.path}: none of {len(self._files)} files is a readable picture. "
                        "Re-save them as JPEG or PNG."
                    )
                if not self.options.loop:
                    return None
                self._next = 0
                self._readable = False
            path = self._files[self._next]
            self._next += 1
            try:
                picture = read_picture(path)
            except SourceError as error:  # not to be retried: that would begin the folder anew, and meet it again
                warnings.warn(f"{error} Skipped.", SourceWarning, stacklevel=2)
                continue
            self._pacer.wait_until(self._delivered / self.options.rate_hz)
            self._delivered += 1
            self._readable = True
            # Stamped at delivery: for the app, a picture from a file is captured when it is played.
            return Picture(pixels=picture.pixels, colour=picture.colour, uri=str(path))

    def close(self) -> None:
        """Forget the list."""
        self._pacer = None


def picture_files(path: Path) -> list[Path]:
    """The picture files that ``path`` (file, folder or glob) names, in natural order: 2.jpg before 10.jpg.

    Raises:
        SourceError: Nothing is there, or no file of it has a picture's suffix.
    """
    where = path.expanduser()
    if where.is_file():
        return [where]
    known = ", ".join(sorted(SUFFIXES))
    if where.is_dir():
        found = [file for file in where.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not found:
            raise SourceError(f"{where}: no pictures in this folder. Expected files ending in {known}.")
    elif glob.has_magic(str(path)):
        matches = (Path(name) for name in glob.glob(str(where), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        found = [file for file in matches if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not found:
            raise SourceError(f"{where}: no picture matches. Expected files ending in {known}; ** searches deeper.")
    else:
        raise SourceError(
            f"{where}: no such file or folder. Check `path:`; in app.yaml it is relative to the app.yaml's folder."
        )
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[str, list[tuple[int, str]]]:
    parts = [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
    return str(path.parent), parts
