"""The tiny models of the contract suite, boards and manifests for the tests of the backends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgesdk.backends import ModelFile
from edgesdk.bundle.manifest import Contract, FileEntry, Licence, Manifest, Provenance, Variant

MODELS = Path(__file__).parents[2] / "contract" / "models"


@dataclass(frozen=True)
class Preference:
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    accelerator: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Cluster:
    count: int
    clock_hz: float


@dataclass(frozen=True)
class Cpu:
    clusters: tuple[Cluster, ...]


@dataclass(frozen=True)
class Board:
    """What selection reads of a device profile."""

    id: str = "test-board"
    backends: tuple[Preference, ...] = ()
    cpu: Cpu = Cpu(clusters=(Cluster(4, 1.8e9),))


@pytest.fixture
def model() -> Callable[..., ModelFile]:
    """The contract suite's model of this file name, or one of this content."""

    def make(file: str, content: bytes | None = None, **names: tuple[str, ...]) -> ModelFile:
        content = (MODELS / file).read_bytes() if content is None else content
        return ModelFile(
            content=content,
            format=file.rpartition(".")[2],
            name=file,
            sha256=hashlib.sha256(content).hexdigest(),
            **names,
        )

    return make


@pytest.fixture
def board() -> Callable[..., Board]:
    """A board that prefers these backends: names, or names with options, formats, precisions."""

    def make(*backends: str | tuple[str, dict[str, Any]], **more: Any) -> Board:
        entries = [
            Preference(entry) if isinstance(entry, str) else Preference(entry[0], **entry[1]) for entry in backends
        ]
        return Board(backends=tuple(entries), **more)

    return make


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """A manifest with variants given as ``id``, which starts with the format and ends with the precision."""

    def make(*ids: str, **more: dict[str, Any]) -> Manifest:
        variants = []
        for name in ids:
            kind, _, precision = name.partition("-")
            given: dict[str, Any] = {"format": kind, "precision": precision, "inputs": ("a",), "outputs": ("y",)}
            given |= more.get(name.replace("-", "_"), {})
            variants.append(Variant(id=name, file=f"{name}.{kind}", **given))
        return Manifest(
            name="tiny",
            contract=Contract(task="raw", inputs=(), outputs=()),
            variants=tuple(variants),
            files={variant.file: FileEntry(sha256="0" * 64, size_bytes=1) for variant in variants},
            provenance=Provenance(source_file="tiny.onnx", source_sha256="0" * 64),
            licence=Licence(name="Apache-2.0"),
        )

    return make
