"""Gives each backend equivalent models, and skips those whose runtime is not here, with the line that installs it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgesdk import registry
from edgesdk.backends import Backend, ModelFile, Session, SessionOptions, get_backend

MODELS = Path(__file__).parent / "models"


def _fake(outputs: list[dict[str, Any]], inputs: tuple[str, ...] = ("a",), **more: Any) -> bytes:
    shape = {"shape": [1, 4]}
    return json.dumps(
        {
            "schema": "edgesdk.fake-model/1",
            "inputs": [{"name": name, **shape, **more} for name in inputs],
            "outputs": [shape | more | output for output in outputs],
        }
    ).encode()


_AB = {"of": ["a", "b"]}
# Three models for each backend: `arithmetic` (difference = a - b, product = a * b; float32 (1, 4)), `quantized` and
# `counter`, where the backend's format has such a thing.
CASES: dict[str, dict[str, bytes]] = {
    "fake": {
        "arithmetic": _fake(
            [{"name": "difference", "op": "subtract", **_AB}, {"name": "product", "op": "multiply", **_AB}], ("a", "b")
        ),
        "quantized": _fake(
            [{"name": "y", "op": "relu", "of": ["a"]}],
            dtype="int8",
            quantization={"scale": [0.5], "zero_point": [-3]},
        ),
        "counter": _fake([{"name": "total", "op": "accumulate", "of": ["a"]}]),
        "garbage": b"this is no model" * 8,
    },
    "onnxruntime": {
        "arithmetic": (MODELS / "arithmetic.onnx").read_bytes(),
        "garbage": b"this is no model" * 8,
    },
    "tflite": {
        "arithmetic": (MODELS / "arithmetic.tflite").read_bytes(),
        "quantized": (MODELS / "quantized.tflite").read_bytes(),
        "counter": (MODELS / "counter.tflite").read_bytes(),
        "garbage": b"this is no model" * 8,
    },
}
FORMATS = {"fake": "fake", "onnxruntime": "onnx", "tflite": "tflite"}


@dataclass(frozen=True)
class Subject:
    """One backend under the contract."""

    backend: Backend

    def model(self, name: str, *, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> ModelFile:
        known = CASES[self.backend.name]
        if name not in known:
            pytest.skip(f"{self.backend.name} models have no {name} form; other backends are tested with it")
        return self.file(known[name], name=f"{name} model", inputs=inputs, outputs=outputs)

    def file(
        self, content: bytes, *, name: str = "a model", inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()
    ) -> ModelFile:
        return ModelFile(
            content=content,
            format=FORMATS[self.backend.name],
            name=name,
            sha256=hashlib.sha256(content).hexdigest(),
            inputs=inputs,
            outputs=outputs,
        )

    def open(self, name: str, **names: tuple[str, ...]) -> Session:
        return self.backend.open(self.model(name, **names), SessionOptions(threads=1))


@pytest.fixture(params=sorted(registry.plugins(registry.BACKENDS)))
def subject(request: pytest.FixtureRequest) -> Subject:
    name = request.param
    if name not in CASES:
        pytest.skip(f"backend {name} comes from another distribution; add its models to CASES in {__file__}")
    backend = get_backend(name)
    there = backend.availability()
    if not there.available:
        pytest.skip(f"{name}: {there.reason}. {there.fix}")
    return Subject(backend)
