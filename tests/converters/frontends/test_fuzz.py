from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

READER = Path(__file__).with_name("fuzz_reader.py")
MODELS = Path(__file__).resolve().parents[2] / "contract" / "models"
COUNT = 400
PATIENCE_S = 150
"""A hang is what never ends; 400 cases take some ten seconds."""


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_fuzz__damaged_files_are_refused_or_read(
    suffix: str, tmp_path: Path, make_conv: Callable[..., onnx.ModelProto]
) -> None:
    """In a process of its own: a crash in C++ would take the tests along."""
    if suffix == ".onnx":
        onnx.save(make_conv(channels=4, classes=3), tmp_path / "whole.onnx")
    else:
        shutil.copy(MODELS / "arithmetic.tflite", tmp_path / "whole.tflite")
    command = [sys.executable, str(READER), str(tmp_path), "0", str(COUNT), suffix]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        pytest.fail(f"hangs in {said.splitlines()[-1] if said else 'the first case'}")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"ended with {done.returncode} in {lines[-1:]}: {done.stderr[-500:]}"
    assert len(lines) == COUNT
    assert [line for line in lines if "ESCAPED" in line or "WITHOUT TEXT" in line] == []
    refused = sum("refused" in line for line in lines)
    assert COUNT / 2 < refused < COUNT
