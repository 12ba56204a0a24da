from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.backends.flatbuffer import find_damage

MODELS = Path(__file__).parents[2] / "contract" / "models"
WHOLE = {file.name: file.read_bytes() for file in sorted(MODELS.glob("*.tflite"))}


@pytest.mark.parametrize("name", WHOLE)
def test_find_damage__whole_file_has_none(name: str) -> None:
    assert find_damage(WHOLE[name]) == ""


@pytest.mark.parametrize("name", WHOLE)
def test_find_damage__every_truncation_is_found(name: str) -> None:
    whole = WHOLE[name]
    # The last bytes are the rest of a string or padding that no reader needs.
    assert all(find_damage(whole[:length]) for length in range(len(whole) - 8))


def test_find_damage__says_what_is_wrong() -> None:
    assert find_damage(b"no model at all") == "bytes 4 to 7 are b'odel', expected b'TFL3'"
    assert "it is truncated or damaged" in find_damage(WHOLE["arithmetic.tflite"][:300])


def test_find_damage__file_that_names_one_table_very_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesdk.backends.flatbuffer.MOST_TABLES", 5)
    assert find_damage(WHOLE["arithmetic.tflite"])


@given(st.binary(max_size=300))
def test_find_damage__any_bytes_end_in_an_answer(tail: bytes) -> None:
    assert isinstance(find_damage(b"\x10\x00\x00\x00TFL3" + tail), str)


@given(st.integers(0, 735), st.integers(0, 255))
def test_find_damage__any_flipped_byte_ends_in_an_answer(at: int, value: int) -> None:
    content = bytearray(WHOLE["arithmetic.tflite"])
    content[at] = value
    assert isinstance(find_damage(bytes(content)), str)
