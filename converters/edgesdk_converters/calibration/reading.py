"""Turns one file into samples, at first to look at it and later, again and again, to run it."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, ConstantInput, Contract, InputSpec, StateInput
from edgesdk.errors import CalibrationError, SourceWarning
from edgesdk_converters.calibration.arrays import ArrayFile
from edgesdk_converters.calibration.feeds import Feed, Part, Store, size_of
from edgesdk_converters.calibration.folder import ARRAYS, RECORDINGS
from edgesdk_converters.calibration.prints import Ear, Hasher, Print, of_arrays, of_picture

if TYPE_CHECKING:
    from edgesdk.samples import Audio
    from edgesdk.tasks.api import Task

Array = NDArray[Any]
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """A sample as the first look found it."""

    length: int
    """Inferences."""
    print: Print


class Reader:
    """Reads the files of one contract; holds one array file open and a little of what was decoded."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._stateful = any(isinstance(spec.source, StateInput) for spec in contract.inputs)
        self._audio = [spec.source for spec in contract.inputs if isinstance(spec.source, AudioInput)]
        self._task: Task | None = None
        self._arrays: ArrayFile | None = None
        self._store: Store[tuple[Path, int]] = Store()

    def look(self, file: Path) -> tuple[str, list[Seen]]:
        """Read all of a file once: its sha256, and what each of its samples is.

        Raises:
            CalibrationError: It cannot be read, does not fit the inputs, or holds NaN.
            EdgeSdkError: The same, from the readers that the board uses as well.
        """
        digest = _sha256(file)
        if file.suffix.lower() in ARRAYS:
            return digest, self._look_at_arrays(file)
        if file.suffix.lower() in RECORDINGS:
            return digest, self._look_at_recording(file)
        vector, facts, feeds = self._see(file, look=True)
        found = []
        for feed in feeds:
            hasher = Hasher()
            hasher.add(feed)
            # Parts of one picture are no copies of each other.
            own = vector if len(feeds) == 1 else of_arrays(feed)
            found.append(Seen(1, Print(content=hasher.hexdigest(), vector=own, facts=facts)))
        return digest, found

    def unit(self, file: Path, number: int) -> Iterator[Feed]:
        """The inferences of sample ``number`` of a file, in order."""
        kept = self._store.get((file, number))
        if kept is not None:
            yield from kept
        elif file.suffix.lower() in ARRAYS:
            rows = range(self._open(file).count) if self._stateful else range(number, number + 1)
            for row in rows:
                feed = self._row(self._open(file), row)
                if not self._stateful:
                    self._store.put((file, number), [feed], size_of([feed]))
                yield feed
        elif file.suffix.lower() in RECORDINGS:
            yield from self._kept_while_heard(file)
        else:
            _, _, feeds = self._see(file, look=False)
            for index, feed in enumerate(feeds):
                self._store.put((file, index), [feed], size_of([feed]))
            yield feeds[number]

    def _kept_while_heard(self, file: Path) -> Iterator[Feed]:
        """A recording is kept as a whole or not at all, and what does not fit is never in memory as a whole."""
        kept: list[Feed] | None = []
        size = 0
        for feed in self._hear(file):
            if kept is not None:
                kept.append(feed)
                size += size_of([feed])
                kept = kept if size <= self._store.left_bytes else None
            yield feed
        if kept is not None:
            self._store.put((file, 0), kept, size)

    def _look_at_recording(self, file: Path) -> list[Seen]:
        ear: list[Ear] = []
        hasher, count = Hasher(), 0
        for feed in self._hear(file, ear):
            hasher.add(feed)
            count += 1
        if not count:
            return []
        vector, facts = ear[0].result()
        return [Seen(count, Print(content=hasher.hexdigest(), vector=vector, facts=facts))]

    def _look_at_arrays(self, file: Path) -> list[Seen]:
        with_arrays = ArrayFile(file, self._contract.inputs)
        try:
            found: list[Seen] = []
            whole = Hasher()
            for row in range(with_arrays.count):
                feed = self._row(with_arrays, row)
                self._check(file, row, feed)
                hasher = whole if self._stateful else Hasher()
                hasher.add(feed)
                if not self._stateful:
                    found.append(Seen(1, Print(content=hasher.hexdigest(), vector=of_arrays(feed))))
            if self._stateful and with_arrays.count:
                # Streams that begin alike are common; only equal ones are told.
                found.append(Seen(with_arrays.count, Print(content=whole.hexdigest(), vector=None)))
            return found
        finally:
            with_arrays.close()

    def _check(self, file: Path, row: int, feed: Feed) -> None:
        for spec, array in zip(self._contract.inputs, feed, strict=True):
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise CalibrationError(
                    f"{file.name}: sample {row} has NaN in input {spec.name!r}. "
                    "Repair whatever wrote the file, or take the sample out."
                )

    def _open(self, file: Path) -> ArrayFile:
        if self._arrays is None or self._arrays.file != file:
            if self._arrays is not None:
                self._arrays.close()
            self._arrays = ArrayFile(file, self._contract.inputs)
        return self._arrays

    def _row(self, file: ArrayFile, row: int) -> Feed:
        given = file.row(row)
        return [given[spec.name] if spec.name in given else rest(spec) for spec in self._contract.inputs]

    def _see(self, file: Path, *, look: bool) -> tuple[Any, Any, list[Feed]]:
        """Fingerprint and facts (None without ``look``) of a picture, and its inferences."""
        from edgesdk.sources.reading import read_picture

        task = self._made_task()
        with _without_source_warnings():
            picture = read_picture(file)
        vector, facts = of_picture(picture) if look else (None, None)
        return vector, facts, list(task.feeds(picture))

    def _hear(self, file: Path, ear: list[Ear] | None = None) -> Iterator[Feed]:
        """The inferences of a recording, in order; what is heard goes into ``ear``, which gets one."""
        from edgesdk.sources.reading import read_wav, stream_wav
        from edgesdk.tasks.api import StreamingTask

        task = self._made_task()
        rate = self._audio[0].sample_rate_hz if self._audio else None
        streaming = isinstance(task, StreamingTask)
        with _without_source_warnings():
            blocks = stream_wav(file, sample_rate_hz=rate) if streaming else iter([read_wav(file, sample_rate_hz=rate)])

        def heard() -> Iterator[Audio]:
            for block in blocks:
                if not np.isfinite(block.pcm).all():
                    where = block.first_sample + int(np.argmin(np.isfinite(block.pcm)))
                    raise CalibrationError(
                        f"{file.name}: has NaN or infinity after {where / block.sample_rate_hz:.2f} s. "
                        "Repair whatever wrote the file, or take it out of the folder."
                    )
                if ear is not None:
                    if not ear:
                        ear.append(Ear(block.sample_rate_hz))
                    ear[0].add(block.pcm)
                yield block

        if isinstance(task, StreamingTask):
            yield from task.stream_feeds(heard())
        else:
            for block in heard():
                yield from task.feeds(block)

    def _made_task(self) -> Task:
        from edgesdk.tasks import make_task

        if self._task is None:
            self._task = make_task(self._contract)
        self._task.reset()
        return self._task


@contextlib.contextmanager
def _without_source_warnings() -> Iterator[None]:
    """Dropped transparency, resampling: worth a line on a board that runs for months, not one per file here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceWarning)
        yield


class FileUnit(Sequence[Feed]):
    """A sample that stays in its file."""

    def __init__(self, reader: Reader, file: Path, number: int, length: int) -> None:
        self.file, self.number = file, number
        self._reader, self._length = reader, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Feed]:
        return self._reader.unit(self.file, self.number)

    @overload
    def __getitem__(self, index: int) -> Feed: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feed]: ...
    def __getitem__(self, index: int | slice) -> Feed | Sequence[Feed]:
        positions = range(self._length)
        if isinstance(index, slice):
            return Part(self, positions[index])
        wanted = positions[index]
        return next(feed for position, feed in enumerate(self) if position == wanted)


def rest(spec: InputSpec) -> Array:
    """Zeros for a state, the value of a constant."""
    if isinstance(spec.source, ConstantInput):
        from edgesdk.tasks.inputs import constant

        return constant(spec)
    return np.zeros(spec.shape, np.dtype(spec.dtype))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
