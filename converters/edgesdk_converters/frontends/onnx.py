"""Reads ONNX files."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import onnx
import onnx.external_data_helper
import onnx.inliner

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, Tensor, first_line, read_bytes
from edgesdk_converters.graph.limits import all_tensors, content_problems, remarks, structure_problems
from edgesdk_converters.graph.order import sort_nodes
from edgesdk_converters.graph.simplify import name_nodes
from edgesdk_converters.graph.view import dtype_of, inputs_of, shape_of
from edgesdk_converters.spec import ModelSpec

OLDEST_OPSET = 7
"""onnx.version_converter lifts from 7 upwards; older files predate the operators' present broadcasting."""
LARGEST_BYTES = 2**31 - 1
_TFLITE = b"TFL3"


class OnnxFrontend:
    """`.onnx` files, with or without external data beside them."""

    name: ClassVar[str] = "onnx"

    def accepts(self, source: str | Path) -> bool:
        """By the name, or by an ONNX header (field 1, ir_version)."""
        path = Path(source)
        if path.suffix.lower() in (".onnx", ".ort"):
            return path.exists()
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(8)
        return len(head) == 8 and head[0] == 0x08 and head[1] < 0x20 and head[4:8] != _TFLITE

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Read and check the file; external data is loaded into it, from its own folder only."""
        del spec, trust_pickle
        path = Path(source)
        if state_dict is not None:
            raise ConversionError(f"{path.name}: already holds its weights. Leave --state-dict out.")
        _check_size(path)
        content, digest = read_bytes(path)
        model = parse(content, path.name)
        _load_external(model, path)
        return describe(self.check(model, path.name), file=path.name, sha256=digest)

    @staticmethod
    def check(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
        """The model with its own functions written out and its nodes in order; other frontends' exports pass through here, too.

        Raises:
            ModelFormatError: An opset that is not supported, an operator of an unknown domain, a string input, weights that are
                not numbers, or no valid graph at all.
        """
        version = opset_of(model, file)
        newest = int(onnx.defs.onnx_opset_version())
        if version < OLDEST_OPSET or version > newest:
            newer = ", or: pip install --upgrade onnx onnxruntime" if version > newest else "."
            raise ModelFormatError(
                f"{file}: has opset {version}, expected {OLDEST_OPSET} to {newest} (onnx {onnx.__version__}). "
                f"Export it again with opset 17{newer}"
            )
        del model.training_info[:]  # of a training run; nothing of it is part of the model
        problems = structure_problems(model)
        if problems:
            raise ModelFormatError(f"{file}: {problems[0]}. Copy, download or export it again.")
        model = _inlined(model, file)
        problems = content_problems(model)
        if problems:
            raise ModelFormatError("\n".join(f"{file}: {problem}" for problem in problems))
        sort_nodes(model)  # runtimes take any order, the checker and everything behind it do not
        name_nodes(model, unnamed=False)  # ONNX Runtime refuses two of one name
        _check(model, file)
        return model


def describe(model: onnx.ModelProto, *, file: str, sha256: str, tools: dict[str, str] | None = None) -> SourceModel:
    """Inputs, outputs and metadata of a checked model."""
    overridable = [value.name for value in model.graph.input if value.name not in {v.name for v in inputs_of(model)}]
    notes = remarks(model)
    if overridable and model.ir_version >= 4:  # before, all weights had to be listed
        names = ", ".join(map(repr, overridable[:4])) + (", ..." if len(overridable) > 4 else "")
        notes.append(f"inputs with a default in the file are taken as that constant: {names}")
    return SourceModel(
        content=model.SerializeToString(deterministic=True),
        format="onnx",
        file=file,
        sha256=sha256,
        inputs=tuple(_tensor(value) for value in inputs_of(model)),
        outputs=tuple(_tensor(value) for value in model.graph.output),
        metadata={item.key: item.value for item in model.metadata_props},
        tools=tools or {},
        assumptions=tuple(notes),
    )


def parse(content: bytes, file: str) -> onnx.ModelProto:
    """Parse the bytes of an ONNX file.

    Raises:
        ModelFormatError: They are no ONNX model, or cut off.
    """
    if content[4:8] == _TFLITE:
        raise ModelFormatError(f"{file}: is a TFLite model, not ONNX. Rename it to .tflite.")
    if content[4:8] == b"ORTM":
        raise ModelFormatError(
            f"{file}: is in ONNX Runtime's own ORT format, which is optimised for one machine. Give the .onnx file it was made from."
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError has moved between its versions
        raise ModelFormatError(
            f"{file}: is no ONNX file, or is cut off ({len(content)} bytes do not parse as ONNX). "
            "Compare its size with the original and copy, download or export it again."
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelFormatError(
            f"{file}: is no ONNX model: it parses, but has {len(model.graph.node)} nodes and "
            f"{len(model.opset_import)} opsets, expected at least one of each. Copy, download or export it again."
        )
    return model


def opset_of(model: onnx.ModelProto, file: str) -> int:
    """Version of the default operator set.

    Raises:
        ModelFormatError: The model imports none.
    """
    versions = [int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelFormatError(f"{file}: imports no ONNX operator set. Export it again with opset 17.")
    return versions[0]


def _tensor(value: Any) -> Tensor:
    return Tensor(name=value.name, shape=shape_of(value), dtype=dtype_of(value))


def _check_size(path: Path) -> None:
    """Refuse what protobuf cannot hold, before gigabytes are read."""
    try:
        size = path.stat().st_size
    except OSError:
        return  # reading says it better
    if size > LARGEST_BYTES:
        raise _too_large(path.name, size)


def _too_large(file: str, size: int) -> ModelFormatError:
    return ModelFormatError(
        f"{file}: holds {size:,} bytes, expected at most {LARGEST_BYTES:,}: ONNX is kept in protobuf, which ends at 2 GiB, and TFLite in "
        "flatbuffers, which do, too. Export a smaller model, or its parts (encoder, decoder) as files of their own."
    )


def _inlined(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Functions that the model defines itself (exports of PyTorch do), written out."""
    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # the inliner is C++: RuntimeError and its own types
        raise ModelFormatError(
            f"{file}: its functions cannot be written out: {first_line(error)}. Export it again with opset 17."
        ) from error


def _check(model: onnx.ModelProto, file: str) -> None:
    """onnx.checker, and what it lets through: domains of ONNX Runtime are left to it."""
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # onnx.checker.ValidationError; C++ exceptions appear as others
        first = str(error).strip().splitlines()[0][:300].rstrip(". ")
        if (
            re.search(r"No Op registered|unknown domain|opset import", first, re.IGNORECASE)
            and len(model.opset_import) > 1
        ):
            return
        raise ModelFormatError(f"{file}: is no valid ONNX model: {first}. Export it again with opset 17.") from error


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Read the data that is kept in other files into the model, from its own folder only.

    Raises:
        ModelFormatError: A file lies outside the folder, is not there, or cannot be read; or the whole is more than protobuf holds.
    """
    external = [tensor for tensor in all_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    folder = path.resolve().parent
    total = model.ByteSize()
    for tensor in external:
        known = {str(entry.key): str(entry.value) for entry in tensor.external_data}
        location = known.get("location", "")
        inside = PurePosixPath(location.replace("\\", "/"))
        if not location or inside.is_absolute() or ".." in inside.parts or not _within(folder, folder / inside):
            raise ModelFormatError(
                f"{path.name}: tensor {tensor.name!r} keeps its data in {location!r}, outside the model's folder. "
                "Save the model as one file: onnx.save(onnx.load(FILE), NEW, save_as_external_data=False)."
            )
        if not _is_file(folder / inside):
            raise ModelFormatError(
                f"{path.name}: tensor {tensor.name!r} keeps its data in {location!r}, which is not there. "
                f"Copy {location!r} beside {path.name}."
            )
        size = (folder / inside).stat().st_size
        length = known.get("length", "")
        total += min(int(length), size) if length.isdecimal() else size  # without one, the whole file is read
    if total > LARGEST_BYTES:
        raise _too_large(f"{path.name} with its external data", total)
    for tensor in external:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about keys that are not in the standard
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # onnx raises ValidationError or ValueError, by version
            raise ModelFormatError(
                f"{path.name}: the external data of tensor {tensor.name!r} cannot be read: {first_line(error)}. Copy all files of the "
                "export again."
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT  # older versions of onnx leave both
        del tensor.external_data[:]


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def _within(folder: Path, file: Path) -> bool:
    try:
        return file.resolve().is_relative_to(folder)
    except (ValueError, OSError, RuntimeError):  # a zero byte, a name that is too long, a circle of links
        return False
