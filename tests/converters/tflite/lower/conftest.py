"""Lowers small ONNX models, runs them in LiteRT and compares with ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.lower import lower

Array = NDArray[Any]


@dataclass(frozen=True)
class Lowered:
    """What became of a model."""

    content: bytes
    codes: Counter[str]
    """Operators of the file."""
    error: float
    """Largest max|a-b| / max|a| of all outputs."""


def run_litert(content: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name, of a file whose inputs are named as in ``feeds``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feeds[detail["name"]])
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}


def run_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name from ONNX Runtime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Numbers around zero for floats, 0 to 3 for integers."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if dtype.kind == "f":
            feeds[value.name] = rng.normal(0, 1, shape).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2 if dtype.kind == "b" else 4, shape).astype(dtype)
    return feeds


def codes_of(content: bytes) -> Counter[str]:
    """How often each operator occurs in a file."""
    model = fb.read(content)
    return Counter(fb.code_name(fb.code_of(model, operator)) for operator in model.subgraphs[0].operators)


def check_model(
    model: onnx.ModelProto, *, feeds: Mapping[str, Array] | None = None, tolerance: float = 1e-5, half: bool = False
) -> Lowered:
    """Lower, run, compare: names, shapes and types are equal, and every output is within ``tolerance``."""
    before = model.SerializeToString(deterministic=True)
    content = lower(model, half=half)
    assert model.SerializeToString(deterministic=True) == before, "the model was changed"
    feeds = random_feeds(model) if feeds is None else feeds
    wanted, got = run_onnx(model, feeds), run_litert(content, feeds)
    assert set(got) == set(wanted)
    worst = 0.0
    for name, expected in wanted.items():
        found = got[name]
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
        worst = max(worst, float(difference / max(np.abs(expected.astype(np.float64)).max(), 1e-9)))
    assert worst <= tolerance, f"differs by {worst:.2e}: {codes_of(content)}"
    return Lowered(content, codes_of(content), worst)


Check = Callable[..., Lowered]


@pytest.fixture
def check() -> Check:
    """Takes a model or its ONNX text (opset 17 is added), and weights by name; see `check_model`."""

    def _check(
        text: str | onnx.ModelProto, weights: Mapping[str, Array] | None = None, opset: int = 17, **options: Any
    ) -> Lowered:
        return check_model(text if isinstance(text, onnx.ModelProto) else graph(text, weights, opset=opset), **options)

    return _check


def graph(text: str, weights: Mapping[str, Array] | None = None, *, opset: int = 17) -> onnx.ModelProto:
    """A model of ONNX text for one graph, with additional initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


@pytest.fixture
def onnx_graph() -> Callable[..., onnx.ModelProto]:
    """`graph`."""
    return graph


@pytest.fixture
def compare() -> Callable[..., Lowered]:
    """`check_model`."""
    return check_model
