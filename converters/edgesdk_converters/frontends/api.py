"""The seam between a model file and the converters. A frontend is an entry point of group `edgesdk_converters.frontends`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from edgesdk.bundle.manifest import Quantization
from edgesdk.errors import ModelFormatError
from edgesdk.registry import load_plugin, plugins
from edgesdk_converters.spec import ModelSpec

FRONTENDS = "edgesdk_converters.frontends"

Dim = int | str | None
"""Static size, the name of a dynamic one, or an unnamed dynamic one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of a source model, as its file declares it."""

    name: str
    shape: tuple[Dim, ...]
    dtype: str
    """numpy name."""
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceModel:
    """What a frontend read. The file it came from is never written to."""

    content: bytes
    """ONNX or TFLite, self-contained."""
    format: str
    """``onnx`` or ``tflite``."""
    file: str
    """File name for messages and provenance, no path."""
    sha256: str
    """Of the file (for PyTorch: of the state dict) as it was found."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    """What the file says about itself: ONNX ``metadata_props``, TFLite metadata."""
    tools: dict[str, str] = field(default_factory=dict)
    """Distributions that took part, with versions, for provenance."""
    assumptions: tuple[str, ...] = ()


@runtime_checkable
class Frontend(Protocol):
    """Reads one kind of source model."""

    name: ClassVar[str]

    def accepts(self, source: str | Path) -> bool:
        """Whether this looks like its kind of source; by name and first bytes, without parsing."""

    def read(self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None) -> SourceModel:
        """Read the model.

        Raises:
            ModelFormatError: It is not of this format, truncated, or of an unsupported version.
            MissingExtraError: A package is needed; the text has the pip line.
        """


def read_source(source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None) -> SourceModel:
    """Let the frontend that accepts ``source`` read it.

    Raises:
        ModelFormatError: No frontend accepts it, or the one that does refuses it.
    """
    known = sorted(plugins(FRONTENDS))
    for name in known:
        frontend: Frontend = load_plugin(FRONTENDS, name)()
        if frontend.accepts(source):
            return frontend.read(source, spec, state_dict=state_dict)
    path = Path(source)
    if not path.exists():
        raise ModelFormatError(
            f"{source}: no such file. Give a .onnx or .tflite file, or for PyTorch 'package.module:factory' with --state-dict."
        )
    if path.is_dir():
        raise ModelFormatError(
            f"{source}: is a folder, expected a model file. Give the .onnx or .tflite file in it; a TensorFlow SavedModel is "
            "made one by tf.lite.TFLiteConverter.from_saved_model."
        )
    raise ModelFormatError(
        f"{path.name}: is no model that can be read here; it begins with {_head(path)!r}. Known: {', '.join(known)}. "
        "Give a .onnx or .tflite file, or for PyTorch 'package.module:factory' with --state-dict."
    )


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Content and sha256 of a source file.

    Raises:
        ModelFormatError: It cannot be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFormatError(
            f"{path}: cannot be read: {error.strerror or error}. Give the path of a model file."
        ) from error
    if not content:
        raise ModelFormatError(f"{path.name}: is empty. Download or export it again.")
    return content, hashlib.sha256(content).hexdigest()


def _head(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""
