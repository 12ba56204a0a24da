from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.parser
import pytest

from edgesdk_converters.tflite.lower import lower

READER = Path(__file__).with_name("fuzz_reader.py")
MODELS = Path(__file__).resolve().parents[2] / "contract" / "models"
BRANCHES = """<ir_version: 8, opset_import: ["": 13]>
g (float[1, 2, 4, 4] x, bool fast) => (float[1, 32] y, int64[1, 4, 4] best) <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float k = {2}> {
  c = Conv (x, w)
  best = ArgMax <axis = 1, keepdims = 0> (c)
  shape = Constant <value = int64[2] {1, -1}> ()
  z = If (fast) <then_branch = t () => (float[1, 2, 4, 4] a) { a = Mul (c, k) },
                 else_branch = e () => (float[1, 2, 4, 4] b) { b = Neg (c) }>
  y = Reshape (z, shape)
}"""
"""Control flow that captures, whole numbers, a shape."""
COUNT = 10_000 if os.environ.get("EDGESDK_SOAK") else 300
PATIENCE_S = 200 + COUNT // 4
"""A hang is what never ends; cases take a fraction of a second each."""


@pytest.mark.timeout(PATIENCE_S + 60)
@pytest.mark.parametrize("kind", ["convolutions.onnx", "branches.onnx", "arithmetic.tflite", "convolutions.tflite"])
def test_fuzz__damaged_files_are_refused_or_read(
    kind: str, tmp_path: Path, make_conv: Callable[..., onnx.ModelProto]
) -> None:
    """In a process of its own: a crash in C++ would take the tests along."""
    name, _, suffix = kind.partition(".")
    whole = tmp_path / f"whole.{suffix}"
    if kind == "convolutions.tflite":
        whole.write_bytes(lower(make_conv(channels=4, classes=3)))
    elif suffix == "tflite":
        shutil.copy(MODELS / "arithmetic.tflite", whole)
    else:
        onnx.save(
            make_conv(channels=4, classes=3) if name == "convolutions" else onnx.parser.parse_model(BRANCHES), whole
        )
    command = [sys.executable, str(READER), str(tmp_path), "0", str(COUNT), f".{suffix}"]
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
    assert COUNT / 3 < refused < COUNT
