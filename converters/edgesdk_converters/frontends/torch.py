"""Exports PyTorch models through torch.onnx: modules of a factory, `.pt2` exported programs, TorchScript, trusted pickles."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import onnx

from edgesdk.errors import ConversionError, MissingExtraError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, first_line, read_bytes, refuse_pickle, require
from edgesdk_converters.frontends.onnx import OnnxFrontend, describe
from edgesdk_converters.frontends.proof import prove, random_inputs
from edgesdk_converters.graph.opset import TARGET_OPSET
from edgesdk_converters.spec import InputHint, ModelSpec

_SUFFIXES = frozenset({".pt2", ".pt", ".pth", ".ckpt", ".torchscript"})
_HARMLESS = (".json", "archive_format", "archive_version", "version", "byteorder", ".data/serialization_id")
"""Ends of the names of an exported program's members that are text."""
_MOST_NOTES = 5
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
            made, model = _exported(torch, content, path.name, spec, trust_pickle=trust_pickle)
            return _describe(torch, made, path.name, digest, model, spec, ())
        model = _load_script(torch, content, path.name) if kind == "script" else _unpickle(torch, content, path.name)
        made, notes = _export(torch, model, _inputs(spec, path.name), path.name)
        return _describe(torch, made, path.name, digest, model, spec, notes)


def export_module(model: Any, spec: ModelSpec, *, reference: str, state_dict: Path | None = None) -> SourceModel:
    """Load the weights of a torch.nn.Module and export it.

    Raises:
        ConversionError: The weights do not fit, the spec names no input shapes, or torch.onnx does not export it.
        ModelFormatError: The state dict cannot be read.
    """
    torch = _torch()
    inputs = _inputs(spec, reference)
    digest = _load(torch, model, state_dict, reference)
    content, notes = _export(torch, model, inputs, reference)
    file = reference.replace(":", ".") if state_dict is None else Path(state_dict).name
    return _describe(torch, content, file, digest or hashlib.sha256(content).hexdigest(), model, spec, notes)


def _describe(
    torch: Any, content: bytes, file: str, digest: str, module: Any, spec: ModelSpec, notes: Sequence[str]
) -> SourceModel:
    """The export, compared with the module that it was made from."""
    model = OnnxFrontend.check(onnx.load_from_string(content), file)
    source = describe(model, file=file, sha256=digest, tools={"torch": str(torch.__version__)})

    def compute(feed: Mapping[str, Any]) -> list[Any]:
        with _quiet(), torch.no_grad():
            made = module(*(torch.from_numpy(value) for value in feed.values()))
        return [value.detach().cpu().numpy() for value in _flat(torch, made)]

    feed = random_inputs(source.inputs, {name: hint.shape for name, hint in spec.inputs.items()})
    unproved = prove(source, feed, compute, library="PyTorch")
    return replace(source, assumptions=(*source.assumptions, *notes, *unproved))


def _flat(torch: Any, value: Any) -> list[Any]:
    """The tensors of a module's result, in the exporters' order."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]  # noqa: SLF001 - the exporters' own


def _torch() -> Any:
    return require("torch", extra="torch", purpose="reading PyTorch models")


def _inputs(spec: ModelSpec, reference: str) -> dict[str, InputHint]:
    """The inputs in the order of the module's arguments, each with its shape."""
    if not spec.inputs or any(hint.shape is None for hint in spec.inputs.values()):
        raise ConversionError(
            f"{reference}: a PyTorch module does not say what goes in. State every input of its forward, in order, in a file and pass it "
            "with --spec:\ninputs:\n  input: {shape: [1, 3, <height>, <width>]}      # add dtype: int64 where it is not float32"
        )
    return dict(spec.inputs)


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


def _exported(torch: Any, content: bytes, file: str, spec: ModelSpec, *, trust_pickle: bool) -> tuple[bytes, Any]:
    """ONNX of an exported program, whose own example inputs say what goes in; and the program as a module."""
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
            made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=names, external_data=False)
            return bytes(made.model_proto.SerializeToString(deterministic=True)), program.module()
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
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        found = (
            f"a dictionary of {', '.join(map(repr, list(weights)[:6]))}"
            if isinstance(weights, dict)
            else f"a {type(weights).__name__}"
        )
        raise ModelFormatError(
            f"{path.name}: holds {found}, expected tensors by name. Save the weights alone: torch.save(model.state_dict(), FILE)."
        )
    difference = _keys_differ(list(module.state_dict()), list(weights))
    if difference is not None:
        raise ConversionError(f"{path.name}: does not fit {reference}: {difference}")
    try:
        module.load_state_dict(weights)
    except Exception as error:  # torch lists all shapes that differ in a RuntimeError
        said = " ".join(str(error).split())[:600].rstrip(". ")
        raise ConversionError(
            f"{path.name}: does not fit {reference}: {said}. Use the state dict of this architecture."
        ) from error
    return digest


def _keys_differ(wanted: Sequence[str], got: Sequence[str]) -> str | None:
    """What a state dict lacks and has too much, and what to do; None where the names are the model's."""
    missing = [name for name in wanted if name not in set(got)]
    foreign = [name for name in got if name not in set(wanted)]
    if not missing and not foreign:
        return None
    parts = []
    if missing:
        parts.append(f"{len(missing)} of {len(wanted)} weights are missing ({_some(missing)})")
    if foreign:
        near = difflib.get_close_matches(foreign[0], missing, n=1)
        parts.append(
            f"{len(foreign)} are not the model's ({_some(foreign)}{f'; nearest is {near[0]!r}' if near else ''})"
        )
    prefix = got[0].partition(".")[0] + "." if got else ""
    if (
        prefix
        and all(name.startswith(prefix) for name in got)
        and {name.removeprefix(prefix) for name in got} == set(wanted)
    ):
        fix = f"Every name begins with {prefix!r}, as a wrapper of the model leaves it: save MODEL.{prefix}state_dict() instead."
    else:
        fix = "Use the state dict of this architecture, or a factory that makes the one it belongs to."
    return f"{', and '.join(parts)}. {fix}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")


def _export(torch: Any, module: Any, inputs: Mapping[str, InputHint], reference: str) -> tuple[bytes, list[str]]:
    """ONNX of a module, by tracing; and what the tracer had to freeze."""
    target = io.BytesIO()
    arguments = tuple(
        torch.zeros(hint.shape, dtype=getattr(torch, hint.dtype or "float32")) for hint in inputs.values()
    )
    module.eval()
    try:
        with _quiet() as said, torch.no_grad():
            # The tracing exporter is called deprecated, but needs nothing beside torch and writes opset 17 itself.
            torch.onnx.export(
                module,
                arguments,
                target,
                input_names=list(inputs),
                output_names=None,
                opset_version=TARGET_OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises its own errors, and the module's
        raise ConversionError(
            f"{reference}: torch.onnx does not export it: {first_line(error)}. Check that the spec names every input of its forward, in order, "
            "with the shape and dtype that it takes."
        ) from error
    frozen = dict.fromkeys(
        f"traced: {' '.join(str(one.message).split())[:160]} ({Path(one.filename).name}:{one.lineno})"
        for one in said
        if issubclass(one.category, torch.jit.TracerWarning)
    )
    return target.getvalue(), list(frozen)[:_MOST_NOTES]


@contextlib.contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """The exporters' warnings are for their developers, and kept for who asks; what fails is raised."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        logger.setLevel(logging.ERROR)
        try:
            yield said
        finally:
            logger.setLevel(level)
