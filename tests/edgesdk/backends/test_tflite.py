from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.backends import SessionOptions
from edgesdk.backends import tflite as module
from edgesdk.backends.tflite import TfliteBackend
from edgesdk.errors import BackendError, BackendUnavailableError

A = np.array([[5, 6, 7, 8]], np.float32)
B = np.array([[1, 2, 3, 4]], np.float32)

needs_runtime = pytest.mark.skipif(
    not TfliteBackend().availability().available, reason=f"no TFLite runtime: {TfliteBackend().availability().fix}"
)


def opened(model: Any, **options: Any) -> Any:
    return TfliteBackend().open(model, SessionOptions(threads=1, **options))


@needs_runtime
def test_open__takes_tensor_names_and_signature_names(model: Any) -> None:
    for inputs, outputs in (
        (("in_b", "in_a"), ("out_product", "out_difference")),
        (("b", "a"), ("product", "difference")),
    ):
        session = opened(model("arithmetic.tflite", inputs=inputs, outputs=outputs))
        assert tuple(info.name for info in session.inputs) == inputs
        product, difference = session.run([B, A])
        np.testing.assert_array_equal(difference, A - B)
        np.testing.assert_array_equal(product, A * B)


@needs_runtime
def test_open__newer_operator_keeps_the_runtimes_words_and_adds_a_fix(model: Any) -> None:
    with pytest.raises(BackendError) as caught:
        opened(model("future_opset.tflite"))
    assert "'SUB' version '99'" in str(caught.value)
    assert "The file needs a newer runtime: pip install -U " in str(caught.value)
    assert "or convert it again for this one" in str(caught.value)


@needs_runtime
def test_open__prints_nothing(model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    opened(model("null.tflite"))
    with pytest.raises(BackendError):
        opened(model("future_opset.tflite"))
    assert "XNNPACK" not in capfd.readouterr().err


@needs_runtime
def test_open__without_xnnpack(model: Any) -> None:
    session = opened(model("arithmetic.tflite"), extra={"xnnpack": False})
    assert "built-in kernels" in session.description
    np.testing.assert_array_equal(session.run([A, B])[0], A - B)


@needs_runtime
def test_open__delegate_that_does_not_load_never_becomes_the_cpu(model: Any) -> None:
    for library, words in (("libnone.so", "No such file"), ("libc.so.6", "tflite_plugin_create_delegate")):
        with pytest.raises(BackendError, match=rf"delegate {library} does not load: .*{words}.*to run on the CPU"):
            opened(model("null.tflite"), extra={"delegate": {"library": library}})


@needs_runtime
def test_run__quantized_tensors_are_integers(model: Any) -> None:
    session = opened(model("quantized.tflite"))
    values = np.array([[-128, -3, 4, 127]], np.int8)
    np.testing.assert_array_equal(session.run([values])[0], np.maximum(values, -3))
    with pytest.raises(BackendError, match=r"got float32 \(1, 4\), expected int8 \(1, 4\)"):
        session.run([A])


@needs_runtime
def test_open__every_truncation_is_an_error_and_no_crash(tmp_path: Path) -> None:
    # In a process of its own, because a runtime that reads past the end takes its process down.
    folder = Path(__file__).parents[2] / "contract" / "models"
    code = f"""
import hashlib, pathlib
from edgesdk.backends import ModelFile, SessionOptions, get_backend
from edgesdk.errors import BackendError
backend, wrong = get_backend("tflite"), []
for name in ("counter", "arithmetic", "quantized"):
    whole = pathlib.Path({str(folder)!r}, name + ".tflite").read_bytes()
    for length in range(0, len(whole) - 8, 3):
        content = whole[:length]
        try:
            backend.open(ModelFile(content=content, format="tflite", name="cut", sha256=""), SessionOptions(threads=1))
        except BackendError as error:
            assert "opy it again" in str(error), error
        else:
            wrong.append((name, length, len(whole)))
assert not wrong, wrong
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_availability__tflite_runtime_with_numpy_2_is_refused(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(module, "_find", lambda: ("tflite_runtime", "tflite-runtime"))
    monkeypatch.setattr(np, "__version__", "2.1.0")
    there = TfliteBackend().availability()
    assert not there.available
    assert "built for numpy 1 and crashes on the installed numpy 2.1.0" in there.reason
    with pytest.raises(BackendUnavailableError, match=r"pip install 'edgesdk\[tflite\]' or pip install"):
        opened(model("null.tflite"))


def test_availability__no_runtime_names_the_pip_line(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(module, "_find", lambda: None)
    with pytest.raises(BackendUnavailableError, match=r"neither .* is installed\. .*pip install 'edgesdk\[tflite\]'"):
        opened(model("null.tflite"))


@needs_runtime
def test_open__without_a_stderr(model: Any) -> None:
    # As a daemon that closed its descriptors.
    saved = os.dup(2)
    os.close(2)
    try:
        session = opened(model("null.tflite"))
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert session.run([A])[0].shape == (1, 4)
