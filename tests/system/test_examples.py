"""Every directory of examples/ runs by the first command of its README, from a fresh copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
PRINTS = {
    "faces_to_mqtt": r"#\d+: 1 faces \[.*\npublished (\d+), received \1\n$",
    "own_task": r"^orange .*'hex': '#ff8000', 'is_dark': False\}\nnight .*'hex': '#050528', 'is_dark': True\}\n$",
    "train_detector": r"^((onnx|tflite)-\S+: \d+ objects in 50 scenes, [^\n]* F1 0\.9\d+\n)+$",
}
ZOO = {"faces_to_mqtt": ("blazeface-short", "astronaut", "coffee", "china", "faces-lfw")}
"""What an example fetches: where that cannot be had, its test skips."""


@pytest.mark.zoo  # here: that the converters are installed; only some examples fetch
@pytest.mark.parametrize("name", NAMES)
def test_example__runs_by_its_documented_command(name: str, tmp_path: Path, zoo: Callable[[str], Path]) -> None:
    assert name in PRINTS, f"say in PRINTS what {name} prints"
    for file in ZOO.get(name, ()):
        zoo(file)
    shutil.copytree(
        EXAMPLES / name, tmp_path / "examples" / name, ignore=shutil.ignore_patterns("build", "__pycache__")
    )
    words = _command(name)
    assert words[:2] == ["python", f"examples/{name}/run.py"], (
        "the command is the one that a user types in the checkout"
    )
    done = subprocess.run(
        [sys.executable, *words[1:]],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS[name], done.stdout, re.DOTALL), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def _command(name: str) -> list[str]:
    found = re.search(r"^```sh\n(.+)$", (EXAMPLES / name / "README.md").read_text("utf-8"), re.MULTILINE)
    assert found, f"examples/{name}/README.md shows no command in a block of ```sh"
    return found[1].split()
