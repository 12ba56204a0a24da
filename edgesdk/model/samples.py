"""Makes samples of what people have at hand: paths and arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, Contract, ImageInput, TensorInput
from edgesdk.errors import SourceError, SourceFormatError, TaskError
from edgesdk.samples import Audio, Picture, Sample, Tensors

Array = NDArray[Any]
Source = Sample | str | Path | Array | Mapping[str, Array]
"""What a model can be called with."""


class SampleMaker:
    """Makes samples for a model with these contracts; the first input that takes one decides how an array is read."""

    def __init__(self, contracts: tuple[Contract, ...]) -> None:
        taken = [
            spec
            for contract in contracts
            for spec in contract.inputs
            if isinstance(spec.source, ImageInput | AudioInput | TensorInput)
        ]
        self._spec = taken[0] if taken else None
        audio = [spec.source for spec in taken if isinstance(spec.source, AudioInput)]
        self.sample_rate_hz = audio[0].sample_rate_hz if audio else None
        self._next_sample = 0

    def __call__(self, source: Source) -> Sample:
        """The sample of a path, array or dict of arrays; samples pass.

        Raises:
            TaskError: An array is of a kind that this model does not take.
            SourceError: A file cannot be read.
        """
        if isinstance(source, Picture | Audio | Tensors):
            return source
        if isinstance(source, str | Path):
            return self._from_file(Path(source))
        if isinstance(source, np.ndarray):
            return self._from_array(source, uri="")
        if isinstance(source, Mapping):
            return Tensors(arrays=dict(source))
        raise TaskError(
            f"got a {type(source).__name__}, expected a sample, a path, a numpy array or a dict of arrays. "
            "Wrap lists: numpy.asarray(values)."
        )

    def reset(self) -> None:
        """The next array of audio begins a new stream."""
        self._next_sample = 0

    def _from_file(self, path: Path) -> Sample:
        # Board code imports on use: OpenCV must not be there for a model that hears.
        from edgesdk.sources.reading import read_picture, read_wav

        suffix = path.suffix.lower()
        if suffix == ".wav":
            return read_wav(path, sample_rate_hz=self.sample_rate_hz)
        if suffix in (".npy", ".npz"):
            arrays = _load(path)
            return self._from_array(arrays, str(path)) if isinstance(arrays, np.ndarray) else _tensors(arrays, path)
        if self._spec is not None and isinstance(self._spec.source, AudioInput) and path.is_file():
            raise SourceFormatError(f"{path}: this model takes audio, expected a .wav file. Convert it to wav.")
        return read_picture(path)

    def _from_array(self, array: Array, uri: str) -> Sample:
        spec = self._spec
        source = None if spec is None else spec.source
        if isinstance(source, AudioInput):
            return self._audio(array, source, uri)
        if isinstance(source, ImageInput) and array.dtype == np.uint8 and array.shape != getattr(spec, "shape", None):
            if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
                return Picture(pixels=array, colour="GREY" if array.ndim == 2 else "RGB", uri=uri)
            raise TaskError(
                f"{_where(uri)}array is uint8 {array.shape}, expected a picture: RGB (height, width, 3) or grey "
                "(height, width). Drop the batch axis or the alpha channel: array[0], array[..., :3]."
            )
        if spec is None:
            raise TaskError("this model takes no array: all of its inputs are states or constants.")
        return Tensors(arrays={spec.name: array}, uri=uri)

    def _audio(self, array: Array, source: AudioInput, uri: str) -> Audio:
        if array.ndim != 1 or array.dtype != np.float32:
            fix = "array.mean(axis=1)" if array.ndim == 2 else "array.astype(numpy.float32)"
            if array.dtype == np.int16:
                fix = "array.astype(numpy.float32) / 32768"
            raise TaskError(
                f"{_where(uri)}array is {array.dtype} {array.shape}, expected mono PCM float32 (n,) in -1..1 at "
                f"{source.sample_rate_hz} Hz. Convert it: {fix}."
            )
        # A file is a whole stream; arrays in a row are blocks of one.
        first = 0 if uri else self._next_sample
        self._next_sample = 0 if uri else first + len(array)
        return Audio(pcm=array, sample_rate_hz=source.sample_rate_hz, first_sample=first, last=bool(uri), uri=uri)


def _where(uri: str) -> str:
    return f"{uri}: " if uri else ""


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        with path.open("rb") as file:  # numpy leaves a broken file open that it opened itself
            loaded = np.load(file, allow_pickle=False)  # pickles run code
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file. Check the path (relative paths start at {Path.cwd()}).") from error
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError, MemoryError) as error:
        raise SourceFormatError(
            f"{path}: is no array file that can be read ({error}). Write it with numpy.save or numpy.savez, no objects."
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}. Check its permissions.") from error


def _tensors(arrays: dict[str, Array], path: Path) -> Tensors:
    if not arrays:
        raise SourceFormatError(
            f"{os.fspath(path)}: has no arrays. Write one for each input: numpy.savez(path, x=...)."
        )
    return Tensors(arrays=arrays, uri=str(path))
