"""Weights of other frameworks, read without them."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ModelFormatError
from edgesdk_converters.zoo.weights import read_safetensors, read_state_dict


def safetensors(arrays: dict[str, Any]) -> bytes:
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), end]}  # type: ignore[dict-item]  # as the format has it
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_read_safetensors__returns_what_was_written() -> None:
    arrays = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "b": np.ones((), "<f4")}
    read = read_safetensors(safetensors(arrays))
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_read_safetensors__tensor_outside_the_file_is_named_damage() -> None:
    with pytest.raises(ModelFormatError, match=r"w: cannot be read .*does not fit.*download it again"):
        read_safetensors(safetensors({"a": np.ones(4, "<f4")})[:-4], file="w")


@given(st.binary(max_size=200))
def test_read_safetensors__noise_is_refused_or_read(content: bytes) -> None:
    with contextlib.suppress(ModelFormatError):
        read_safetensors(content)


@given(st.binary(max_size=200))
def test_read_state_dict__noise_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFormatError):
        read_state_dict(content)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("run",)


def test_read_state_dict__code_is_refused_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    content = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps(Evil(), 2)
    with pytest.raises(
        ModelFormatError, match=r"wants __builtin__.print built, .*nothing of it was run. Save the weights"
    ):
        read_state_dict(content, file="x.pth")
    assert not capsys.readouterr().out


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_read_state_dict__equals_what_torch_saved(zipped: bool, tmp_path: Path) -> None:
    import torch

    state = {"a": torch.arange(12.0).reshape(3, 4).t(), "b": torch.tensor(3), "c": torch.arange(9.0)[2:5]}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_state_dict((tmp_path / "x.pth").read_bytes())
    for name, tensor in state.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())
