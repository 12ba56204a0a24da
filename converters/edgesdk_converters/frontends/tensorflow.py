"""Exports TensorFlow SavedModels and Keras models through tf2onnx."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends.api import (
    SourceModel,
    digest_folder,
    first_line,
    read_bytes,
    refuse_pickle,
    require,
)
from edgesdk_converters.frontends.onnx import OnnxFrontend, describe
from edgesdk_converters.frontends.proof import prove, random_inputs
from edgesdk_converters.graph.opset import TARGET_OPSET
from edgesdk_converters.spec import ModelSpec

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SIGNATURES = ("serving_default", "serve")
"""What Keras 2 and TensorFlow, and what Keras 3 call the inference function."""


class TensorFlowFrontend:
    """SavedModel folders, `.keras` and `.h5` files.

    A SavedModel is a program, too: TensorFlow operators can read files. They run in no sandbox; convert only what you would run.
    """

    name: ClassVar[str] = "tensorflow"

    def accepts(self, source: str | Path) -> bool:
        """By the name, the file saved_model.pb in a folder, or HDF5's first bytes."""
        path = Path(source)
        if path.is_dir():
            return (path / "saved_model.pb").is_file()
        if path.suffix.lower() in {".keras", ".h5", ".hdf5"}:
            return path.is_file()
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(8) == _HDF5

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Load the model and export it to ONNX.

        Raises:
            MissingExtraError: TensorFlow or tf2onnx is not installed.
            ModelFormatError: It is cut off, holds weights only, or a Lambda layer and is not trusted.
            ConversionError: It has no inference signature, or tf2onnx does not know one of its operators.
        """
        path = Path(source)
        if state_dict is not None:
            raise ConversionError(f"{path.name}: already holds its weights. Leave --state-dict out.")
        if path.is_dir():
            content, _ = read_bytes(path / "saved_model.pb")
            digest = digest_folder(path)
            tensorflow = _tensorflow()
            return _convert(tensorflow, path, _signature(content, path.name), path.name, digest, spec)
        content, digest = read_bytes(path)
        _check_file(content, path.name)
        return export_keras(_load_keras(path, trust_pickle=trust_pickle), spec, file=path.name, sha256=digest)


def export_keras(
    model: Any, spec: ModelSpec, *, file: str, sha256: str | None, weights: Path | None = None
) -> SourceModel:
    """Export a Keras model, with the weights of a `.weights.h5` file where one is given.

    Raises:
        ConversionError: It does not fit the weights, was never built, or tf2onnx does not know one of its operators.
    """
    tensorflow = _tensorflow()
    if weights is not None:
        _, sha256 = read_bytes(Path(weights))
        try:
            model.load_weights(str(weights))
        except Exception as error:  # Keras raises ValueError, KeyError, OSError ...
            raise ConversionError(
                f"{Path(weights).name}: does not fit {file}: {first_line(error)}. Save it by model.save_weights('NAME.weights.h5')."
            ) from error
    with tempfile.TemporaryDirectory(prefix="edgesdk-") as folder:
        try:
            with _quiet():
                model.export(folder, verbose=False)
        except Exception as error:  # Keras raises ValueError and whatever the layers do
            raise ConversionError(
                f"{file}: Keras does not export it: {first_line(error)}. Give the model an Input layer (its shape), or call it once "
                "before it is returned."
            ) from error
        content, _ = read_bytes(Path(folder) / "saved_model.pb")
        source = _convert(tensorflow, Path(folder), _signature(content, file), file, sha256 or "", spec)
    if not sha256:
        source = replace(source, sha256=hashlib.sha256(source.content).hexdigest())
    return source


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import; what fails is raised all the same
    require("tf2onnx", extra="tensorflow", purpose="reading TensorFlow models")
    return require("tensorflow", extra="tensorflow", purpose="reading TensorFlow models")


def _check_file(content: bytes, file: str) -> None:
    if content.startswith(_HDF5):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelFormatError(
            f"{file}: is no Keras file, or is cut off ({len(content)} bytes, {error}). Compare its size with the original and copy, "
            "download or save it again."
        ) from error
    if "config.json" not in names:
        raise ModelFormatError(
            f"{file}: is a zip archive, but no Keras model (it has no config.json). Save it by model.save('NAME.keras')."
        )


def _load_keras(path: Path, *, trust_pickle: bool) -> Any:
    tensorflow = _tensorflow()
    if not trust_pickle and has_code(path):
        raise _refused(path.name)
    try:
        with _quiet():
            return tensorflow.keras.models.load_model(str(path), compile=False, safe_mode=not trust_pickle)
    except Exception as error:  # Keras raises ValueError, OSError, TypeError, KeyError ...
        text = str(error).lower()
        if not trust_pickle and ("safe_mode" in text or "unsafe" in text):
            raise _refused(path.name) from error
        if "no model config" in text:
            raise ModelFormatError(
                f"{path.name}: holds weights, not a model. Give the code that makes the model, too: package.module:factory "
                f"--state-dict {path.name}"
            ) from error
        raise ModelFormatError(
            f"{path.name}: Keras does not read it: {first_line(error)}. Save it again by model.save('NAME.keras'); custom layers: give "
            "package.module:factory."
        ) from error


def _refused(file: str) -> ModelFormatError:
    return refuse_pickle(
        file, "a Keras model with Python code in it (a Lambda layer)", "replace the layer by one without code."
    )


def has_code(path: Path) -> bool:
    """Whether a Keras file holds a Lambda layer. Keras' own safe mode did not look into HDF5 files before 3.11.3."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
        else:
            h5py = require("h5py", extra="tensorflow", purpose="reading Keras models")
            with h5py.File(path, "r") as file:
                config = json.loads(file.attrs.get("model_config", "{}"))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False  # Keras says what is wrong with it
    return _names_lambda(config)


def _names_lambda(config: Any) -> bool:
    if isinstance(config, dict):
        coded = config.get("class_name") in ("Lambda", "__lambda__")
        return coded or any(_names_lambda(value) for value in config.values())
    return isinstance(config, list) and any(_names_lambda(value) for value in config)


def _signature(content: bytes, file: str) -> str:
    """The inference function of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError has moved between its versions
        raise ModelFormatError(
            f"{file}: its saved_model.pb is cut off ({len(content)} bytes do not parse). Copy, download or export the folder again."
        ) from error
    known: list[str] = [
        name for graph in saved.meta_graphs for name in graph.signature_def if not name.startswith("__")
    ]
    for name in _SIGNATURES:
        if name in known:
            return name
    if len(known) == 1:
        return known[0]
    raise ConversionError(
        f"{file}: has {'the signatures ' + ', '.join(sorted(known)) if known else 'no signature'}, expected 'serving_default'. Save it "
        "again: tf.saved_model.save(MODEL, FOLDER, signatures={'serving_default': FUNCTION}), or model.export(FOLDER)."
    )


def _convert(tensorflow: Any, folder: Path, signature: str, file: str, digest: str, spec: ModelSpec) -> SourceModel:
    from tf2onnx import convert, tf_loader, utils

    utils.INTERNAL_NAME = 1  # its counter of names goes on in a process: the same model would differ the second time
    try:
        with _quiet():
            graph, inputs, outputs, names = tf_loader.from_saved_model(
                str(folder), None, None, tag="serve", signatures=[signature], return_tensors_to_rename=True
            )
            model, _ = convert.from_graph_def(
                graph,
                name=signature,
                input_names=inputs,
                output_names=outputs,
                opset=TARGET_OPSET,
                tensors_to_rename=names,
            )
    except Exception as error:  # tf2onnx raises ValueError, TensorFlow its own
        raise ConversionError(
            f"{file}: tf2onnx does not convert it: {first_line(error)}. If the folder is whole, replace what it names, or convert the "
            "model to TFLite and give that file."
        ) from error
    versions = {
        "tensorflow": str(tensorflow.__version__),
        "tf2onnx": str(require("tf2onnx", extra="tensorflow", purpose="").__version__),
    }
    source = describe(OnnxFrontend.check(model, file), file=file, sha256=digest, tools=versions)
    feed = random_inputs(source.inputs, {name: hint.shape for name, hint in spec.inputs.items()})

    def compute(values: Mapping[str, Any]) -> list[Any]:
        with _quiet():
            function = tensorflow.saved_model.load(str(folder)).signatures[signature]
            made = function(**{name: tensorflow.constant(value) for name, value in values.items()})
        return [made[tensor.name].numpy() if tensor.name in made else None for tensor in source.outputs]

    return replace(source, assumptions=(*source.assumptions, *prove(source, feed, compute, library="TensorFlow")))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TensorFlow and tf2onnx report progress on every channel there is; what fails is raised."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl", "keras")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
