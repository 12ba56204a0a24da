"""Reads weights of other frameworks without those frameworks: safetensors, and PyTorch state dicts.

A state dict is a pickle, and a pickle is a program. The reader here knows five names and refuses every other one before it
is looked up, so that nothing of the file's choosing is ever imported or called.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ModelFormatError

Array = NDArray[Any]

_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}  # fmt: skip
_STORAGES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1", "ByteStorage": "|u1", "BoolStorage": "|b1"}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of PyTorch's format of before 1.6: magic, version, system, the object, storage keys, storages."""
_LARGEST_HEADER = 100_000_000
"""What the safetensors format itself allows."""


def read_safetensors(content: bytes, *, file: str = "weights") -> dict[str, Array]:
    """Tensors by name, read-only views into ``content``.

    Raises:
        ModelFormatError: The header or a tensor does not fit the file, or a dtype has no numpy counterpart.

    Source: safetensors format, https://github.com/huggingface/safetensors#format
    """
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(len(content) - 8, _LARGEST_HEADER):
        raise _damaged(file, "its header is longer than the file")
    try:
        header = json.loads(content[8 : 8 + size])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: _safetensor(entry, content, 8 + size) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file, str(error)) from error


def _safetensor(entry: Mapping[str, Any], content: bytes, base: int) -> Array:
    if entry["dtype"] not in _SAFETENSORS:
        raise ValueError(f"dtype {entry['dtype']} is none of {', '.join(_SAFETENSORS)}")
    dtype, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), tuple(int(side) for side in entry["shape"])
    begin, end = (int(offset) for offset in entry["data_offsets"])
    if not 0 <= begin <= end <= len(content) - base or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{list(shape)} {dtype} at {begin}..{end} does not fit")
    return np.frombuffer(content, dtype, math.prod(shape), base + begin).reshape(shape)


def read_state_dict(content: bytes, *, file: str = "state dict") -> dict[str, Array]:
    """Tensors by name out of ``torch.save(module.state_dict())``, in the zip format or the one before it.

    Raises:
        ModelFormatError: It is no state dict, is cut off, or wants anything built beside tensors.
    """
    try:
        made = _read_zip(content) if content[:2] == b"PK" else _read_legacy(content)
    except ModelFormatError as error:
        raise ModelFormatError(f"{file}: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever its opcodes lead to
        raise _damaged(file, f"{type(error).__name__}: {error}") from error
    if isinstance(made, dict) and isinstance(made.get("state_dict"), dict):
        made = made["state_dict"]
    if not isinstance(made, dict) or not all(isinstance(value, np.ndarray) for value in made.values()):
        raise ModelFormatError(
            f"{file}: holds no plain state dict. Save it with torch.save(model.state_dict(), FILE), without optimizer or epoch."
        )
    return {str(name): value for name, value in made.items()}


def _read_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = pickled[: -len("data.pkl")]
        loaded: dict[str, Array] = {}

        def storage(kind: str, key: str, _: int) -> Array:
            if key not in loaded:
                loaded[key] = np.frombuffer(archive.read(f"{folder}data/{key}"), _STORAGES[kind])
            return loaded[key]

        return _Tensors(io.BytesIO(archive.read(pickled)), storage).load()


def _read_legacy(content: bytes) -> Any:
    stream = io.BytesIO(content)
    storages: dict[str, Array] = {}

    def storage(kind: str, key: str, count: int) -> Array:
        if count < 0 or count * np.dtype(_STORAGES[kind]).itemsize > len(content):
            raise ValueError(f"a storage of {count} elements in a file of {len(content)} bytes")
        return storages.setdefault(key, np.zeros(count, _STORAGES[kind]))  # filled below: its data comes at the end

    if _Tensors(stream, storage).load() != _MAGIC:
        raise ValueError("its first number is not PyTorch's")
    for _ in range(2):
        _Tensors(stream, storage).load()
    made = _Tensors(stream, storage).load()
    for key in _Tensors(stream, storage).load():
        (count,) = np.frombuffer(stream.read(8), "<i8")
        target = storages[key]
        target[:] = np.frombuffer(stream.read(int(count) * target.itemsize), target.dtype)
    return made


class _Kind:
    """Stands for a storage class, which is a name here and no code."""

    def __init__(self, name: str) -> None:
        self.name = name


def _tensor(storage: Array, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Array:
    """What ``torch._utils._rebuild_tensor_v2`` makes: a strided view, here checked against its storage."""
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if offset < 0 or min((*stride, *shape, 0)) < 0 or (0 not in shape and last >= storage.size):
        raise ValueError(f"a tensor of {list(shape)} lies outside its storage of {storage.size} elements")
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _parameter(tensor: Array, *_: object) -> Array:
    """What ``torch._utils._rebuild_parameter`` makes of a tensor."""
    return tensor


class _Tensors(pickle.Unpickler):
    """Builds dictionaries and arrays, nothing else."""

    def __init__(self, stream: io.BytesIO, storage: Any) -> None:
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """One of five things that a state dict is made of."""
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) in allowed:
            return allowed[module, name]
        if module == "torch" and name in _STORAGES:
            return _Kind(name)
        raise ModelFormatError(
            f"wants {module}.{name} built, which is no tensor; nothing of it was run. "
            "Save the weights alone: torch.save(model.state_dict(), FILE)."
        )

    def persistent_load(self, pid: Any) -> Array:
        """A storage: ("storage", kind, key, device, count, ...)."""
        what, kind, key, _, count = pid[:5]
        if what != "storage" or not isinstance(kind, _Kind):
            raise ValueError(f"an unknown reference {what!r}")
        found: Array = self._storage(kind.name, str(key), int(count))
        return found


def _damaged(file: str, why: str) -> ModelFormatError:
    return ModelFormatError(
        f"{file}: cannot be read ({why}). Compare its size with the original and copy or download it again."
    )
