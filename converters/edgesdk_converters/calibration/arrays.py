"""Rows of `.npy` and `.npz` files, read where they lie: a file of 10 GB is never in memory as a whole."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ConstantInput, ImageInput, InputSpec, StateInput, TensorInput
from edgesdk.errors import CalibrationError

Array = NDArray[Any]


class ArrayFile:
    """The samples of one file; keeps it open, because samples are asked for in order."""

    def __init__(self, file: Path, inputs: Sequence[InputSpec]) -> None:
        """Read what the file holds, but not the values.

        Args:
            file: `.npy` for a model with one input, `.npz` with a key per input for others.
            inputs: Of the contract.

        Raises:
            CalibrationError: It is no such file, or its arrays do not fit the inputs.
        """
        self.file = file
        self._columns: dict[str, _Column] = {}
        self._zip: zipfile.ZipFile | None = None
        try:
            self._open(inputs)
        except BaseException:
            self.close()
            raise
        counts = {name: column.count for name, column in self._columns.items()}
        if len(set(counts.values())) > 1:
            self.close()
            raise CalibrationError(
                f"{file.name}: its arrays hold different numbers of samples: {counts}. Save as many of each."
            )
        self.count: int = next(iter(counts.values()), 0)

    def row(self, index: int) -> dict[str, Array]:
        """Sample ``index``: input name -> array in the input's shape and dtype.

        Raises:
            CalibrationError: The file ends too early or is damaged.
        """
        try:
            return {name: column.row(index) for name, column in self._columns.items()}
        except Exception as error:  # zipfile and zlib raise half a dozen unrelated types for damaged files
            raise _unreadable(self.file, error) from error

    def close(self) -> None:
        """Close the file; :meth:`row` opens nothing again."""
        for column in self._columns.values():
            column.stream.close()
        if self._zip is not None:
            self._zip.close()

    def __del__(self) -> None:
        self.close()

    def _open(self, inputs: Sequence[InputSpec]) -> None:
        taken = [spec for spec in inputs if not isinstance(spec.source, StateInput | ConstantInput)]
        members = self._members()
        if "" in members:
            if len(taken) != 1:
                names = [spec.name for spec in taken]
                raise CalibrationError(
                    f"{self.file.name}: is one array, the model takes {len(taken)}: {', '.join(names)}. "
                    f"Save them together: np.savez(file, {', '.join(f'{name}=...' for name in names)})."
                )
            members = {taken[0].name: ""}
        for spec in taken:
            if spec.name not in members:
                raise CalibrationError(
                    f"{self.file.name}: has no array for input {spec.name!r}; it has: {', '.join(sorted(members))}. "
                    "Name the npz keys like the inputs: "
                    f"np.savez(file, {', '.join(f'{s.name}=...' for s in taken)})."
                )
            stream = self._stream(members[spec.name])
            try:
                self._columns[spec.name] = _Column(self.file, spec, stream)
            except CalibrationError:
                stream.close()
                raise
            except Exception as error:  # numpy raises ValueError, EOFError, SyntaxError ... for damaged headers
                stream.close()
                raise _unreadable(self.file, error) from error
        unknown = sorted(set(members) - {spec.name for spec in inputs})
        if unknown:
            raise CalibrationError(
                f"{self.file.name}: has arrays for {', '.join(map(repr, unknown))}, which are no inputs. "
                f"Inputs: {', '.join(spec.name for spec in inputs)}."
            )

    def _members(self) -> dict[str, str]:
        """Array name -> member of the archive; one nameless array for `.npy`."""
        with self.file.open("rb") as stream:
            if stream.read(4) not in {b"PK\x03\x04", b"PK\x05\x06"}:
                return {"": ""}
        try:
            self._zip = zipfile.ZipFile(self.file)
        except Exception as error:  # as below
            raise _unreadable(self.file, error) from error
        return {member.removesuffix(".npy"): member for member in self._zip.namelist()}

    def _stream(self, member: str) -> IO[bytes]:
        try:
            return self.file.open("rb") if self._zip is None else self._zip.open(member)
        except Exception as error:  # zipfile raises RuntimeError, NotImplementedError, BadZipFile ...
            raise _unreadable(self.file, error) from error


class _Column:
    """One array of a file, row by row."""

    def __init__(self, file: Path, spec: InputSpec, stream: IO[bytes]) -> None:
        self.stream = stream
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        self.count = _rows(file, spec, tuple(shape), dtype)
        self._given, self._dtype, self._shape = dtype, np.dtype(spec.dtype), spec.shape
        self._start = stream.tell()
        self._bytes = math.prod(spec.shape) * dtype.itemsize
        self._whole: Array | None = None
        if fortran and len(shape) > 1:  # rows do not lie together
            flat = np.frombuffer(_exactly(stream, self.count * self._bytes), dtype)
            self._whole = flat.reshape(shape, order="F").reshape(self.count, *spec.shape)

    def row(self, index: int) -> Array:
        if self._whole is not None:
            values = self._whole[index]
        else:
            at = self._start + index * self._bytes
            if self.stream.tell() != at:
                self.stream.seek(at)
            values = np.frombuffer(_exactly(self.stream, self._bytes), self._given).reshape(self._shape)
        return np.array(values, self._dtype)  # a copy: bytes are read-only


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError(f"it ends {size - len(content)} bytes too early")
    return content


def _unreadable(file: Path, error: Exception) -> CalibrationError:
    return CalibrationError(f"{file.name}: cannot be read as an array ({error}). Save it again with np.save.")


def _rows(file: Path, spec: InputSpec, got: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Samples in an array: the input's shape itself, or with a leading sample axis, or that in place of a batch of 1."""
    shape = spec.shape
    if got == shape:
        count = 1
    elif got[1:] == shape or (shape[:1] == (1,) and got[1:] == shape[1:]):
        count = got[0]
    else:
        raise CalibrationError(
            f"{file.name}: the array for input {spec.name!r} has shape {list(got)}, expected {list(shape)}, or "
            f"[{', '.join(map(str, ('n', *(shape[1:] if shape[:1] == (1,) else shape))))}] for n samples. "
            + _shape_fix(spec, math.prod(got))
        )
    wanted = np.dtype(spec.dtype)
    if dtype != wanted and not (dtype.kind == "f" and wanted.kind == "f"):
        raise CalibrationError(
            f"{file.name}: the array for input {spec.name!r} is {dtype}, expected {wanted}. "
            f"Save it as what the model takes (scaled, if need be): array.astype({str(wanted)!r})."
        )
    return count


def _shape_fix(spec: InputSpec, size: int) -> str:
    whole = spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape
    samples, rest = divmod(size, math.prod(whole))
    if rest or not samples:
        fix = "No reshape makes it, write samples of that size"
    else:
        fix = f"Reshape it: array.reshape([{', '.join(map(str, (-1, *whole)))}])"
    if isinstance(spec.source, ImageInput | TensorInput):
        fix += " (pictures belong in the folder as .jpg or .png)"
    return f"{fix}."
