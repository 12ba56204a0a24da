"""A folder of a user's own profiles, and the recorded trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TREES = Path(__file__).parent / "trees"

BOARD = """\
schema: edgesdk.profile/1
id: {id}
name: My board
cpu:
  architecture: aarch64
  source: sheet
  clusters: [{{core: Cortex-A53, count: 4, clock: 1.2GHz}}]
memory: {{size: 1GiB, kind: LPDDR4, source: sheet}}
thermal: {{soft_limit: 70C, hard_limit: 85C, source: {{soft_limit: sheet, hard_limit: guess}}}}
software: {{os: My Linux, python: "3.11", source: sheet}}
backends: [{{name: onnxruntime, options: {{arena: false}}}}, {{name: tflite}}]
sources:
  sheet: {{title: Data sheet, status: published}}
  guess: {{title: Guess, status: unverified}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own folder, named in EDGESDK_PROFILES."""
    own = tmp_path / "profiles"
    own.mkdir()
    monkeypatch.setenv("EDGESDK_PROFILES", str(own))
    return own


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Writes a profile into the user's folder: ``write(id)`` a whole one, ``write(id, text)`` this text."""

    def do(profile_id: str, text: str = BOARD) -> Path:
        file = folder / f"{profile_id}.yaml"
        file.write_text(text.format(id=profile_id) if text is BOARD else text)
        return file

    return do


@pytest.fixture
def board() -> str:
    """The text of a whole profile, with the id `mine`."""
    return BOARD.format(id="mine")


@pytest.fixture
def tree() -> Callable[[str], Path]:
    """The root of a recorded board."""
    return lambda name: TREES / name
