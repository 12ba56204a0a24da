"""The seam between a model file and the converters. A frontend is an entry point of group `edgesdk_converters.frontends`."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from edgesdk.bundle.manifest import Quantization
from edgesdk.errors import MissingExtraError, ModelFormatError
from edgesdk.registry import load_plugin, plugins
from edgesdk_converters.spec import ModelSpec

FRONTENDS = "edgesdk_converters.frontends"

KINDS = (
    "Give a .onnx or .tflite file, a TensorFlow SavedModel folder, a .keras, .h5, .pt2, TorchScript or scikit-learn file, or "
    "'package.module:factory' of a PyTorch, Keras or scikit-learn model."
)
"""What may stand in the place of a model."""

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
    """Of the file as it was found; of a folder over its files' names and hashes; of a factory's state dict, or else of what it
    exports."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    """What the file says about itself: ONNX ``metadata_props``, TFLite metadata."""
    tools: dict[str, str] = field(default_factory=dict)
    """Distributions that took part, with versions, for provenance."""
    assumptions: tuple[str, ...] = ()


@runtime_checkable
class Frontend(Protocol):
    """Reads one kind of source model. The source is never written to."""

    name: ClassVar[str]

    def accepts(self, source: str | Path) -> bool:
        """Whether this looks like its kind of source; by name and first bytes, without parsing."""

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Read the model.

        Args:
            source: Path, or what else it accepts.
            spec: What the file does not say.
            state_dict: Weights that are kept apart from the architecture.
            trust_pickle: Whether code inside the file may run: pickles, and Keras' Lambda layers.

        Raises:
            ModelFormatError: It is not of this format, truncated, or of an unsupported version.
            MissingExtraError: A package is needed; the text has the pip line.
        """


def read_source(
    source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
) -> SourceModel:
    """Let the frontend that accepts ``source`` read it.

    Args:
        source: Model file or folder, or ``package.module:factory``.
        spec: What the file does not say.
        state_dict: Weights for the factory's model.
        trust_pickle: Whether code inside the file may run. A pickle can do anything that its reader can.

    Raises:
        ModelFormatError: No frontend accepts it, or the one that does refuses it.
        MissingExtraError: A package is needed; the text has the pip line.
    """
    known = sorted(plugins(FRONTENDS))
    for name in known:
        frontend: Frontend = load_plugin(FRONTENDS, name)()
        try:
            accepted = frontend.accepts(source)
        except OSError as error:  # no permission, a name that is too long
            raise ModelFormatError(
                f"{source}: cannot be read: {error.strerror or error}. Give the path of a model file."
            ) from error
        if accepted:
            return frontend.read(source, spec, state_dict=state_dict, trust_pickle=trust_pickle)
    path = Path(source)
    if not path.exists():
        raise ModelFormatError(f"{source}: no such file. {KINDS}")
    if path.is_dir():
        raise ModelFormatError(
            f"{source}: is a folder, expected a model file, or a TensorFlow SavedModel (a folder with saved_model.pb). {KINDS}"
        )
    raise ModelFormatError(
        f"{path.name}: is no model that can be read here; it begins with {_head(path)!r}. Known: {', '.join(known)}. {KINDS}"
    )


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import a package of an extra.

    Raises:
        MissingExtraError: It is not installed or does not load; the text has the pip line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what these say on import is for their own developers
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}, which does not import here ({error}). "
            f"Install it: pip install 'edgesdk-converters[{extra}]'"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, without its full stop; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:300].rstrip(". ") if text else type(error).__name__


def refuse_pickle(file: str, what: str, instead: str) -> ModelFormatError:
    """The error for a file that would run code."""
    return ModelFormatError(
        f"{file}: is {what}, and reading it runs whatever code is in it. If you know who made it, say --trust-pickle; otherwise "
        f"{instead}"
    )


def digest_folder(folder: Path) -> str:
    """sha256 over the sorted names and hashes of all files in a folder.

    Raises:
        ModelFormatError: One of them cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            whole.update(
                f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
            )
    except OSError as error:
        raise ModelFormatError(f"{folder}: cannot be read: {error}. Give a folder that can be read.") from error
    return whole.hexdigest()


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
