"""The recording format: a folder of samples with their stamps, which source `replay` plays again.

``recording.jsonl`` begins with a header line ``{"schema": "edgesdk.recording/1", "source": "camera /dev/video0"}``. Each
further line is one sample, in order: ``kind`` (picture, audio, tensors), ``file`` (beside it, no path), ``time_ns``,
``monotonic_ns``, ``uri``, and of a picture ``colour``, of audio ``sample_rate_hz``, ``first_sample`` and ``last``. Pictures and
audio are ``.npy`` files (lossless, and read without OpenCV), tensors ``.npz``. A line is written after its file, so a
recording that was cut off by a power failure is whole up to its last line.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import numpy as np

from edgesdk.errors import SourceError, SourceFormatError
from edgesdk.samples import Audio, Colour, Picture, Sample, Stamp, Tensors
from edgesdk.sources.api import Source

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10

SCHEMA = "edgesdk.recording/1"
INDEX = "recording.jsonl"
_PREFIX = "array_"

_File = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+\.np[yz]$")]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    file: _File
    time_ns: int
    monotonic_ns: int
    uri: str = ""

    @property
    def captured(self) -> Stamp:
        return Stamp(time_ns=self.time_ns, monotonic_ns=self.monotonic_ns)


class PictureEntry(_Entry, frozen=True, kw_only=True, tag="picture"):
    """A picture: uint8 (H, W, 3) or (H, W)."""

    colour: Colour


class AudioEntry(_Entry, frozen=True, kw_only=True, tag="audio"):
    """A block of PCM: float32 (n,)."""

    sample_rate_hz: int
    first_sample: int
    last: bool = False


class TensorsEntry(_Entry, frozen=True, kw_only=True, tag="tensors"):
    """Arrays by name."""


Entry = PictureEntry | AudioEntry | TensorsEntry


class Recorder:
    """Writes samples into a folder, for source `replay`.

    Args:
        folder: Made if needed; must hold no recording yet.
        source: Description of the source, for the header.

    Raises:
        SourceError: There is a recording in the folder already.
    """

    def __init__(self, folder: Path, *, source: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.count = 0
        try:
            self._index: BinaryIO = (folder / INDEX).open("xb")
        except FileExistsError as error:
            raise SourceError(f"{folder}: holds a recording already. Name another folder, or delete it.") from error
        self._write({"schema": SCHEMA, "source": source})

    def add(self, sample: Sample) -> None:
        """Append one sample."""
        name = f"{self.count:06}"
        stamps = {
            "time_ns": sample.captured.time_ns,
            "monotonic_ns": sample.captured.monotonic_ns,
            "uri": sample.uri,
        }
        entry: Entry
        if isinstance(sample, Tensors):
            # Prefixed, since np.savez has parameters of its own (file) that an array may be named like.
            arrays: dict[str, Any] = {f"{_PREFIX}{array}": value for array, value in sample.arrays.items()}
            np.savez(self.folder / f"{name}.npz", **arrays)
            entry = TensorsEntry(file=f"{name}.npz", **stamps)  # type: ignore[arg-type]  # mixed dict, keys as the fields
        elif isinstance(sample, Picture):
            np.save(self.folder / f"{name}.npy", sample.pixels)
            entry = PictureEntry(file=f"{name}.npy", colour=sample.colour, **stamps)  # type: ignore[arg-type]  # as above
        else:
            np.save(self.folder / f"{name}.npy", sample.pcm)
            entry = AudioEntry(
                file=f"{name}.npy",
                sample_rate_hz=sample.sample_rate_hz,
                first_sample=sample.first_sample,
                last=sample.last,
                **stamps,  # type: ignore[arg-type]  # as above
            )
        self._write(entry)
        self.count += 1

    def close(self) -> None:
        """Finish the recording; idempotent."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: dict[str, Any] | Entry) -> None:
        self._index.write(msgspec.json.encode(line) + b"\n")
        self._index.flush()


def record(source: Source, folder: Path, *, samples: int | None = None) -> int:
    """Record what a source delivers, until its end.

    Args:
        source: Closed.
        folder: Made if needed; must hold no recording yet.
        samples: Stop after so many.

    Returns:
        The number of recorded samples.

    Raises:
        SourceError: The source failed, or there is a recording in the folder already. What came until then is kept.
    """
    with source, Recorder(folder, source=source.description) as recorder:
        while samples is None or recorder.count < samples:
            sample = source.read()
            if sample is None:
                break
            recorder.add(sample)
        return recorder.count


def read_index(folder: Path) -> list[Entry]:
    """The entries of a recording.

    Raises:
        SourceError: There is no recording.
        SourceFormatError: A line is no entry, or the schema is another one; the text has file and line.
    """
    index = folder / INDEX
    if not index.is_file():
        raise SourceError(
            f"{folder}: no recording here: {INDEX} is missing. Record one with edgesdk.sources.recording.record(source, folder)."
        )
    lines = index.read_bytes().splitlines(keepends=True)
    try:
        schema = json.loads(lines[0])["schema"]
    except (IndexError, ValueError, KeyError, TypeError):
        schema = None
    if schema != SCHEMA:
        raise SourceFormatError(f"{index}:1: schema is {schema!r}, expected {SCHEMA!r}. Record the samples anew.")
    decoder = msgspec.json.Decoder(Entry)
    entries: list[Entry] = []
    for number, line in enumerate(lines[1:], start=2):
        if number == len(lines) and not line.endswith(b"\n"):
            break  # cut off while it was written
        try:
            entries.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise SourceFormatError(
                f"{index}:{number}: not a sample of a recording: {error}. Delete the line."
            ) from error
    return entries


def read_sample(folder: Path, entry: Entry, captured: Stamp) -> Sample:
    """Load one sample, stamped ``captured``.

    Raises:
        SourceFormatError: Its file is missing, or holds something else than the entry says.
    """
    path = folder / entry.file
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SourceFormatError(f"{path}: cannot be read as a sample: {error}. Record the samples anew.") from error
    if isinstance(entry, TensorsEntry):
        with content:
            arrays = {name.removeprefix(_PREFIX): content[name] for name in content}
            return Tensors(arrays=arrays, captured=captured, uri=entry.uri)
    if isinstance(entry, PictureEntry):
        grey = entry.colour == "GREY"
        if content.dtype != np.uint8 or content.ndim != (2 if grey else 3) or (not grey and content.shape[2] != 3):
            raise SourceFormatError(_wrong(path, content, "a uint8 picture (H, W, 3), or (H, W) where colour is GREY"))
        return Picture(pixels=content, colour=entry.colour, captured=captured, uri=entry.uri)
    if content.dtype != np.float32 or content.ndim != 1:
        raise SourceFormatError(_wrong(path, content, "float32 PCM (n,)"))
    return Audio(
        pcm=content,
        sample_rate_hz=entry.sample_rate_hz,
        captured=captured,
        first_sample=entry.first_sample,
        last=entry.last,
        uri=entry.uri,
    )


def _wrong(path: Path, content: Any, expected: str) -> str:
    return f"{path}: is {content.dtype} {content.shape}, expected {expected}. Record the samples anew."
