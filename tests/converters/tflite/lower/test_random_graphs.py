"""Random small graphs, lowered and run in LiteRT, against ONNX Runtime; `make soak` takes many more."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite.lower import lower

SOAK = bool(os.environ.get("EDGESDK_SOAK"))
TOLERANCE = 1e-4
"""Of the largest value: sums in another order, and Erf, which TFLite has no operator for."""


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


random_model = _load("random_graphs").random_model


def _expected(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any] | None:
    """What ONNX Runtime makes of it; None where it has no kernel."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception:  # noqa: BLE001 - its own types; what it has no kernel for is nothing to compare with
        return None


def _found(content: bytes, feeds: dict[str, Any]) -> list[Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def check(model: onnx.ModelProto, *, seed: int = 0) -> bool:
    """Compare one model; False where there is nothing to compare it with."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {
        value.name: rng.normal(0, 1, [d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }
    wanted = _expected(model, feeds)
    if wanted is None:
        return False
    try:
        content = lower(model)
    except NotExpressibleError as refusal:
        if "malformed" in str(refusal):
            raise
        return True
    got = _found(content, feeds)
    for name, expected, found in zip((o.name for o in model.graph.output), wanted, got, strict=True):
        text = f"{name} of {onnx.printer.to_text(model)}"
        assert found.shape == expected.shape, text
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected), err_msg=text)
        real = np.isfinite(expected)
        if real.any():
            limit = TOLERANCE * max(float(np.abs(expected[real]).max()), 1e-6)
            np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=limit, err_msg=text)
    return True


@settings(
    max_examples=4000 if SOAK else 80,
    derandomize=not SOAK,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(source=st.randoms(use_true_random=False), steps=st.integers(1, 8))
def test_random_graph__gives_the_numbers_of_onnxruntime_or_is_refused(source: random.Random, steps: int) -> None:
    model = random_model(source, steps)
    assume(model.graph.output)
    assume(check(model))


@pytest.mark.parametrize("seed", range(100, 140))
def test_random_graph__of_a_plain_seed(seed: int) -> None:
    # Hypothesis begins with what is simple; these are as large as they come.
    source = random.Random(seed)
    model = random_model(source, 8)
    if not check(model, seed=seed):
        pytest.skip("ONNX Runtime has no kernel for it")
