"""Exports PyTorch models through torch.onnx: modules of a factory, `.pt2` exported programs, TorchScript, trusted pickles."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx

from edgesdk.errors import ConversionError, MissingExtraError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, first_line, read_bytes, refuse_pickle, require
from edgesdk_converters.frontends.onnx import OnnxFrontend, describe
from edgesdk_converters.graph.opset import TARGET_OPSET
from edgesdk_converters.spec import ModelSpec

_SUFFIXES = frozenset({".pt2", ".pt", ".pth", ".ckpt", ".torchscript"})
_HARMLESS = (".json", "archive_format", "archive_version", "version", "byteorder", ".data/serialization_id")
"""Ends of the names of an exported program's members that are text."""
_INSTEAD = (
    "give package.module:factory with --state-dict FILE, or save the model by torch.export.save(torch.export.export(MODEL, INPUTS), "
    "'model.pt2')."
)


class TorchFrontend:
    """`.pt2` exported programs, and `.pt` and `.pth` files: TorchScript archives, and pickled modules where they are trusted."""

    name: ClassVar[str] = "torch"

    def accepts(self, source: str | Path) -> bool:
        """By the name."""
        return Path(source).suffix.lower() in _SUFFIXES and Path(source).is_file()

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Find out what the file is, load it, export it to ONNX.

        Raises:
            MissingExtraError: PyTorch is not installed.
            ModelFormatError: The file is cut off, only holds weights, or holds code and is not trusted.
            ConversionError: torch.onnx does not export it, or the spec names no input shapes.
        """
        path = Path(source)
        content, digest = read_bytes(path)
        if state_dict is not None:
            raise ConversionError(
                f"{path.name}: already holds its weights. Leave --state-dict out, or give package.module:factory for the model."
            )
        kind = _kind(content, path.name)
        if kind == "pickle" and not trust_pickle:
            raise _refused(content, path.name)
        torch = _torch()
        if kind == "exported":
            made = _exported(torch, content, path.name, spec, trust_pickle=trust_pickle)
        else:
            model = (
                _load_script(torch, content, path.name) if kind == "script" else _unpickle(torch, content, path.name)
            )
            made = _export(torch, model, *_inputs(spec, path.name), path.name)
        return _describe(torch, made, path.name, digest)


def export_module(model: Any, spec: ModelSpec, *, reference: str, state_dict: Path | None = None) -> SourceModel:
    """Load the weights of a torch.nn.Module and export it.

    Raises:
        ConversionError: The weights do not fit, the spec names no input shapes, or torch.onnx does not export it.
        ModelFormatError: The state dict cannot be read.
    """
    torch = _torch()
    names, shapes = _inputs(spec, reference)
    digest = _load(torch, model, state_dict, reference)
    content = _export(torch, model, names, shapes, reference)
    file = reference.replace(":", ".") if state_dict is None else Path(state_dict).name
    return _describe(torch, content, file, digest or hashlib.sha256(content).hexdigest())


def _describe(torch: Any, content: bytes, file: str, digest: str) -> SourceModel:
    model = OnnxFrontend.check(onnx.load_from_string(content), file)
    return describe(model, file=file, sha256=digest, tools={"torch": str(torch.__version__)})


def _torch() -> Any:
    return require("torch", extra="torch", purpose="reading PyTorch models")


def _inputs(spec: ModelSpec, reference: str) -> tuple[list[str], list[tuple[int, ...]]]:
    shapes = [hint.shape for hint in spec.inputs.values()]
    if not shapes or any(shape is None for shape in shapes):
        raise ConversionError(
            f"{reference}: a PyTorch module does not say what goes in. State it in a file and pass it with --spec:\n"
            "inputs:\n  input: {shape: [1, 3, <height>, <width>]}"
        )
    return list(spec.inputs), [tuple(shape) for shape in shapes if shape]


def _kind(content: bytes, file: str) -> str:
    """``exported``, ``script`` or ``pickle``, by the names in the archive."""
    if content[:1] == b"\x80":
        return "pickle"  # torch.save before 1.6
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelFormatError(
            f"{file}: is no PyTorch file, or is cut off ({len(content)} bytes, {error}). Compare its size with the original and "
            "copy, download or export it again."
        ) from error
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return "exported"
    if any(name.endswith("constants.pkl") for name in names):
        return "script"
    if any(name.endswith("data.pkl") for name in names):
        return "pickle"
    raise ModelFormatError(
        f"{file}: is a zip archive, but no PyTorch one (it holds {', '.join(names[:4]) or 'nothing'}). Give a .pt2 file of "
        "torch.export.save, a TorchScript archive, or package.module:factory."
    )


def _refused(content: bytes, file: str) -> ModelFormatError:
    with contextlib.suppress(MissingExtraError):
        loaded = _tensors(_torch(), content)
        if isinstance(loaded, dict):
            return ModelFormatError(
                f"{file}: holds weights, not a model. Give the code that makes the model, too: package.module:factory --state-dict "
                f"{file}"
            )
    return refuse_pickle(file, "a pickled PyTorch module", _INSTEAD)


def _tensors(torch: Any, content: bytes) -> Any:
    """What a file of tensors holds, None where it holds anything else; no code runs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - torch raises UnpicklingError, RuntimeError, EOFError ...; all mean the same here
        return None


def _unpickle(torch: Any, content: bytes, file: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the pickled code raises
        raise ModelFormatError(
            f"{file}: cannot be unpickled: {first_line(error)}. Its classes must be importable here; or {_INSTEAD}"
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise ModelFormatError(
            f"{file}: holds a {type(model).__name__}, expected a torch.nn.Module. Give the code that makes the model, too: "
            f"package.module:factory --state-dict {file}"
        )
    return model


def _load_script(torch: Any, content: bytes, file: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.load(io.BytesIO(content), map_location="cpu")
    except Exception as error:  # torch's C++ reader raises RuntimeError, ValueError ...
        raise ModelFormatError(
            f"{file}: is a TorchScript archive that cannot be read: {first_line(error)}. Copy or save it again."
        ) from error


def _exported(torch: Any, content: bytes, file: str, spec: ModelSpec, *, trust_pickle: bool) -> bytes:
    """ONNX of an exported program; its own example inputs say what goes in."""
    if not trust_pickle:
        member = _pickled_member(torch, content, file)
        if member is not None:
            raise refuse_pickle(
                file, f"an exported program with a pickled object ({member})", "export it without custom objects."
            )
    require("onnxscript", extra="torch", purpose="exporting .pt2 programs to ONNX")
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(content))
    except Exception as error:  # torch.export raises its own kinds, by version
        raise ModelFormatError(
            f"{file}: cannot be read as an exported program: {first_line(error)}. Save it again with this PyTorch ({torch.__version__}):"
            " torch.export.save(torch.export.export(MODEL, INPUTS), FILE)."
        ) from error
    names = list(spec.inputs) or None
    try:
        with _quiet(), torch.no_grad():
            return bytes(
                torch.onnx.export(
                    program, dynamo=True, verbose=False, input_names=names, external_data=False
                ).model_proto.SerializeToString(deterministic=True)
            )
    except Exception as error:  # the exporter raises its own errors, and the program's
        raise ConversionError(
            f"{file}: torch.onnx does not export it: {first_line(error)}. Export the model to ONNX where it was written, and give "
            "the .onnx file."
        ) from error


def _pickled_member(torch: Any, content: bytes, file: str) -> str | None:
    """The first member of a .pt2 archive that torch.export.load would unpickle without limits.

    It reads sample inputs, constants and pickled weights with ``weights_only=False`` where they need it; what loads with
    ``weights_only=True`` only names classes on torch's list of harmless ones, whoever unpickles it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            raw: set[str] = set()
            for name in archive.namelist():
                if name.endswith("_config.json"):
                    raw |= _raw_members(json.loads(archive.read(name)))
            for name in archive.namelist():
                plain = name.endswith(_HARMLESS) or name.rpartition("/")[2] in raw
                if not plain and archive.getinfo(name).file_size and _tensors(torch, archive.read(name)) is None:
                    return name
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelFormatError(
            f"{file}: its archive is damaged: {error}. Compare its size with the original and copy, download or export it again."
        ) from error
    return None


def _raw_members(config: Any) -> set[str]:
    """Names of tensors that are stored as bare numbers."""
    entries = config.get("config", {}) if isinstance(config, dict) else {}
    return {
        entry["path_name"]
        for entry in (entries.values() if isinstance(entries, dict) else ())
        if isinstance(entry, dict) and entry.get("use_pickle") is False and isinstance(entry.get("path_name"), str)
    }


def _load(torch: Any, module: Any, state_dict: Path | None, reference: str) -> str | None:
    if state_dict is None:
        return None
    path = Path(state_dict)
    content, digest = read_bytes(path)
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError ...
        raise ModelFormatError(
            f"{path.name}: cannot be read as a state dict ({first_line(error)[:200]}). Only tensors are loaded, never code: "
            "save it with torch.save(model.state_dict(), FILE)."
        ) from error
    if isinstance(weights, dict) and isinstance(weights.get("state_dict"), dict):
        weights = weights["state_dict"]
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch lists all missing and unexpected keys in a RuntimeError
        raise ConversionError(
            f"{path.name}: does not fit {reference}: {str(error).strip()[:600]}. Use the state dict of this architecture."
        ) from error
    return digest


def _export(torch: Any, module: Any, names: list[str], shapes: Sequence[tuple[int, ...]], reference: str) -> bytes:
    target = io.BytesIO()
    arguments = tuple(torch.zeros(shape) for shape in shapes)
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            # The tracing exporter is called deprecated, but needs nothing beside torch and writes opset 17 itself.
            torch.onnx.export(
                module,
                arguments,
                target,
                input_names=names,
                output_names=None,
                opset_version=TARGET_OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises its own errors, and the module's
        raise ConversionError(
            f"{reference}: torch.onnx does not export it: {first_line(error)}. Check that the shapes in the spec are the ones it takes."
        ) from error
    return target.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' warnings are for their developers; what fails is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
