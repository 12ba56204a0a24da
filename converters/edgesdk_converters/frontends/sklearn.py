"""Exports scikit-learn estimators through skl2onnx: `.skops` files, and trusted `.joblib` and `.pkl` pickles."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgesdk.errors import ConversionError, ModelFormatError
from edgesdk_converters.frontends.api import SourceModel, first_line, read_bytes, refuse_pickle, require
from edgesdk_converters.frontends.onnx import OnnxFrontend, describe
from edgesdk_converters.frontends.proof import ROWS, prove, random_inputs
from edgesdk_converters.graph.opset import TARGET_OPSET
from edgesdk_converters.spec import ModelSpec

_TYPES = {
    "float32": "FloatTensorType",
    "float64": "DoubleTensorType",
    "int64": "Int64TensorType",
    "int32": "Int32TensorType",
    "bool": "BooleanTensorType",
}
"""Element type of an input -> skl2onnx's name for it."""
_ML_OPSET = 3
"""Of domain ai.onnx.ml: the newest that every ONNX Runtime since 1.11 reads."""
_PICKLES = frozenset({".joblib", ".pkl", ".pickle"})
_INSTEAD = "save it by skops.io.dump(ESTIMATOR, 'model.skops'), or give package.module:factory."


class SklearnFrontend:
    """`.skops` files; `.joblib`, `.pkl` and `.pickle` files where they are trusted."""

    name: ClassVar[str] = "sklearn"

    def accepts(self, source: str | Path) -> bool:
        """By the name."""
        return Path(source).suffix.lower() in {".skops", *_PICKLES} and Path(source).is_file()

    def read(
        self, source: str | Path, spec: ModelSpec, *, state_dict: Path | None = None, trust_pickle: bool = False
    ) -> SourceModel:
        """Load the estimator and export it to ONNX.

        Raises:
            MissingExtraError: scikit-learn, skl2onnx or skops is not installed.
            ModelFormatError: It is cut off, holds no estimator, or would run code and is not trusted.
            ConversionError: It is not fitted, or skl2onnx does not know it.
        """
        path = Path(source)
        content, digest = read_bytes(path)
        if state_dict is not None:
            raise ConversionError(f"{path.name}: already holds its weights. Leave --state-dict out.")
        if path.suffix.lower() in _PICKLES:
            if not trust_pickle:
                raise refuse_pickle(path.name, "a pickle", _INSTEAD)
            estimator = _unpickle(content, path.name)
        else:
            estimator = _load_skops(content, path.name, trust_pickle=trust_pickle)
        return export_estimator(estimator, spec, file=path.name, sha256=digest)


def export_estimator(estimator: Any, spec: ModelSpec, *, file: str, sha256: str | None) -> SourceModel:
    """Export a fitted estimator or pipeline; rows of features go in, float32 unless the spec says otherwise.

    Raises:
        ConversionError: It is not fitted, or skl2onnx does not know it.
    """
    skl2onnx = require("skl2onnx", extra="sklearn", purpose="reading scikit-learn models")
    sklearn = require("sklearn", extra="sklearn", purpose="reading scikit-learn models")
    features: Any = getattr(estimator, "n_features_in_", None)
    if any(hint.shape is None for hint in spec.inputs.values()) or (not spec.inputs and features is None):
        raise ConversionError(
            f"{file}: the {type(estimator).__name__} does not say how many features it takes; it may not be fitted. Fit it before it "
            "is saved, or state the shape of every input in a file and pass it with --spec:\ninputs:\n  input: {shape: [1, <features>]}"
        )
    kinds = skl2onnx.common.data_types
    types: dict[str, Any] = {
        name: getattr(kinds, _TYPES[hint.dtype or "float32"])(list(hint.shape or ()))
        for name, hint in spec.inputs.items()
        if hint.dtype is None or hint.dtype in _TYPES
    }
    if len(types) < len(spec.inputs):
        raise ConversionError(
            f"{file}: skl2onnx takes inputs of {', '.join(_TYPES)}. Correct the dtype in the model spec."
        )
    types = types or {"input": kinds.FloatTensorType([None, int(features or 0)])}
    is_classifier = bool(getattr(sklearn.base, "is_classifier", lambda _: False)(estimator))
    try:
        model = _to_onnx(skl2onnx, estimator, types, plain=is_classifier)
    except Exception as error:  # skl2onnx raises its own kinds, and scikit-learn NotFittedError
        raise ConversionError(
            f"{file}: skl2onnx does not export the {type(estimator).__name__}: {first_line(error)}. Fit it before it is saved, and use "
            "estimators that skl2onnx supports (skl2onnx.supported_converters())."
        ) from error
    tools = {"scikit-learn": str(sklearn.__version__), "skl2onnx": str(skl2onnx.__version__)}
    source = describe(OnnxFrontend.check(model, file), file=file, sha256=sha256 or "", tools=tools)
    feed = random_inputs(source.inputs, {name: hint.shape for name, hint in spec.inputs.items()}, rows=ROWS)

    def compute(values: Mapping[str, Any]) -> list[Any]:
        if len(values) != 1:
            return []  # a table of named columns
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = next(iter(values.values()))
            if is_classifier:
                decided = np.asarray(estimator.predict(rows))
                made = (
                    [decided, np.asarray(estimator.predict_proba(rows))]
                    if hasattr(estimator, "predict_proba")
                    else [decided]
                )
            elif hasattr(estimator, "predict"):
                made = [np.asarray(estimator.predict(rows))]
            else:
                made = [np.asarray(estimator.transform(rows))]
        shaped = [
            a.reshape(-1, 1) if len(t.shape) == 2 and a.ndim == 1 else a
            for a, t in zip(made, source.outputs, strict=False)
        ]
        return [*shaped, *[None] * (len(source.outputs) - len(shaped))]

    unproved = prove(source, feed, compute, library="scikit-learn")
    source = replace(source, assumptions=(*source.assumptions, *unproved))
    return source if sha256 else replace(source, sha256=hashlib.sha256(source.content).hexdigest())


def _to_onnx(skl2onnx: Any, estimator: Any, types: Mapping[str, Any], *, plain: bool) -> Any:
    """The export; ``plain``: of a classifier, whose probabilities would else be a list of dictionaries, which no board takes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return skl2onnx.to_onnx(
                estimator,
                initial_types=list(types.items()),
                options={id(estimator): {"zipmap": False}} if plain else None,
                target_opset={"": TARGET_OPSET, "ai.onnx.ml": _ML_OPSET},
            )
    except NameError as error:
        if not plain or "zipmap" not in str(error):
            raise
    return _to_onnx(
        skl2onnx, estimator, types, plain=False
    )  # one without probabilities (LinearSVC) has nothing to unpack


def _unpickle(content: bytes, file: str) -> Any:
    require("sklearn", extra="sklearn", purpose="reading scikit-learn models")
    joblib = require("joblib", extra="sklearn", purpose="reading scikit-learn models")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = joblib.load(io.BytesIO(content))  # reads plain pickles, too
    except Exception as error:  # whatever the pickled code raises
        raise ModelFormatError(
            f"{file}: cannot be unpickled ({len(content)} bytes): {first_line(error)}. Copy it again, or save it again with this "
            "scikit-learn."
        ) from error
    return _estimator(estimator, file)


def _load_skops(content: bytes, file: str, *, trust_pickle: bool) -> Any:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ModelFormatError(
            f"{file}: is no skops file, or is cut off ({len(content)} bytes). Compare its size with the original and copy or save it "
            "again."
        )
    skops = require("skops.io", extra="sklearn", purpose="reading .skops files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unknown = list(skops.get_untrusted_types(data=content))
            estimator = skops.loads(content, trusted=unknown) if trust_pickle or not unknown else None
    except Exception as error:  # skops raises its own kinds, zipfile and json theirs
        raise ModelFormatError(
            f"{file}: skops does not read it: {first_line(error)}. Copy or save it again."
        ) from error
    if unknown and not trust_pickle:
        raise refuse_pickle(file, f"a skops file with types that skops does not know ({', '.join(unknown)})", _INSTEAD)
    return _estimator(estimator, file)


def _estimator(model: Any, file: str) -> Any:
    if not hasattr(model, "fit"):
        raise ModelFormatError(
            f"{file}: holds a {type(model).__name__}, expected a fitted scikit-learn estimator. Save the estimator itself."
        )
    return model
