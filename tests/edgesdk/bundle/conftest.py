"""Small real bundles, and a writer of wrong ones."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx.parser
import pytest

from edgesdk.bundle import Manifest, write_bundle
from edgesdk.bundle.manifest import Contract, InputSpec, Licence, OutputSpec, Provenance, TensorInput, Variant

Relu = Callable[..., Path]
Repack = Callable[..., Path]


def make_manifest(**changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "name": "relu",
        "contract": Contract(
            task="raw",
            inputs=(InputSpec(name="x", shape=(1, 3), dtype="float32", source=TensorInput()),),
            outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32"),),
        ),
        "variants": (
            Variant(id="onnx-fp32", file="model.onnx", format="onnx", precision="fp32", inputs=("x",), outputs=("y",)),
        ),
        "files": {},
        "provenance": Provenance(source_file="relu.onnx", source_sha256="0" * 64),
        "licence": Licence(name="MIT"),
    }
    return Manifest(**{**facts, **changes})


@pytest.fixture(scope="session")
def model_bytes() -> bytes:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3] x) => (float[1,3] y) { y = Relu(x) }'
    return bytes(onnx.parser.parse_model(text).SerializeToString())


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    return make_manifest


@pytest.fixture
def bundle_path(tmp_path: Path, model_bytes: bytes) -> Path:
    files = {"model.onnx": model_bytes, "labels.txt": b"cat\ndog\n"}
    return write_bundle(tmp_path / "relu.edge", make_manifest(), files)


@pytest.fixture
def repack(bundle_path: Path, tmp_path: Path) -> Repack:
    """A changed copy of the bundle: ``edit`` gets the manifest as JSON, ``extra`` are more zip entries."""

    def make(
        edit: Callable[[dict[str, Any]], Any] = lambda _: None,
        *,
        extra: tuple[tuple[zipfile.ZipInfo | str, bytes], ...] = (),
        without: tuple[str, ...] = (),
        manifest_bytes: bytes | None = None,
        method: int = zipfile.ZIP_STORED,
    ) -> Path:
        target = tmp_path / "changed.edge"
        with zipfile.ZipFile(bundle_path) as source, zipfile.ZipFile(target, "w", method) as archive:
            for name in source.namelist():
                content = source.read(name)
                if name == "manifest.json":
                    raw = json.loads(content)
                    edit(raw)
                    content = json.dumps(raw).encode() if manifest_bytes is None else manifest_bytes
                if name not in without:
                    archive.writestr(name, content)
            for info, content in extra:
                archive.writestr(info, content)
        return target

    return make


@pytest.fixture
def unpacked(bundle_path: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(bundle_path) as archive:
        archive.extractall(folder)
    return folder
