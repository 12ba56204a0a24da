"""Bundles of fake models and of tiny real ones, and boards to run them on; for the tests of models and commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgesdk.bundle import Measurements, write_bundle
from edgesdk.bundle.manifest import (
    Contract,
    InputKind,
    InputSpec,
    Licence,
    Manifest,
    OutputSpec,
    Provenance,
    TensorInput,
    Variant,
)
from edgesdk.profiles import BackendPreference, DeviceProfile
from edgesdk.profiles.model import Cpu, Memory, Software


def fake_model(
    *, op: str = "relu", delay_ms: float = 0.0, shape: Sequence[int] = (1, 4), out: Sequence[int] = (1, 4), **more: Any
) -> bytes:
    """A model of the fake backend with input ``x`` and output ``y``."""
    return json.dumps(
        {
            "schema": "edgesdk.fake-model/1",
            "inputs": [{"name": "x", "shape": list(shape)}],
            "outputs": [{"name": "y", "shape": list(out), "op": op, "of": [] if op == "fill" else ["x"]}],
            "delay_ms": delay_ms,
            **more,
        }
    ).encode()


def onnx_model() -> bytes:
    """Relu over x (1, 4), a real ONNX file."""
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.fixture(autouse=True)
def edgesdk_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own: winners and graphs of one must not reach another."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("EDGESDK_CACHE", str(folder))
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """``make_bundle(name, {id: content or (content, precision)})``: a bundle of variants called onnx."""

    def make(
        name: str = "relu",
        models: dict[str, bytes | tuple[bytes, str]] | None = None,
        *,
        task: str = "raw",
        source: InputKind | None = None,
        shape: tuple[int, ...] = (1, 4),
        out: tuple[int, ...] = (1, 4),
        labels: tuple[str, ...] = (),
        measurements: Measurements | None = None,
        **changes: Any,
    ) -> Path:
        given = {"onnx-fp32": onnx_model()} if models is None else models
        pairs = {key: value if isinstance(value, tuple) else (value, "fp32") for key, value in given.items()}
        manifest = Manifest(
            name=name,
            contract=Contract(
                task=task,
                inputs=(InputSpec(name="x", shape=shape, dtype="float32", source=source or TensorInput()),),
                outputs=(OutputSpec(name="y", shape=out, dtype="float32"),),
                labels=labels,
            ),
            variants=tuple(
                Variant(
                    id=key,
                    file=f"{key}.onnx",
                    format="tflite" if key.startswith("tflite") else "onnx",
                    precision=precision,  # type: ignore[arg-type]  # a parameter of the tests
                    inputs=("x",),
                    outputs=("y",),
                )
                for key, (_, precision) in pairs.items()
            ),
            files={},
            provenance=Provenance(source_file="relu.onnx", source_sha256="0" * 64),
            licence=Licence(name="MIT"),
            **changes,
        )
        files = {f"{key}.onnx": content for key, (content, _) in pairs.items()}
        return write_bundle(tmp_path / f"{name}.edge", manifest, files, measurements)

    return make


@pytest.fixture
def make_board() -> Callable[..., DeviceProfile]:
    """``make_board("fake", ...)``: a board that prefers these backends; ``accelerated`` ones drive an accelerator."""

    def make(*backends: str, accelerated: tuple[str, ...] = ()) -> DeviceProfile:
        return DeviceProfile(
            schema="edgesdk.profile/1",
            id="test-board",
            name="Test board",
            cpu=Cpu(architecture="x86_64"),
            memory=Memory(),
            software=Software(os="none"),
            backends=tuple(
                BackendPreference(name=name, accelerator="npu" if name in accelerated else None) for name in backends
            ),
            sources={},
        )

    return make


@pytest.fixture
def fake() -> Callable[..., bytes]:
    return fake_model
