"""Operators of the ai.onnx.ml domain that are arithmetic, as skl2onnx writes them in front of a model."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_ML = "ai.onnx.ml"


@spells("Binarizer", domain=_ML)
def binarizer(s: Sketch) -> None:
    """One above the threshold, else zero."""
    s.result(s.cast(s.op("Greater", s.x, s.like(float(s.attribute("threshold", 0.0)))), s.dtype()))


@spells("Scaler", domain=_ML)
def scaler(s: Sketch) -> None:
    """The product (x - offset) * scale, by feature."""
    x = s.x if s.dtype() == "float32" else s.cast(s.x, "float32")
    offset, scale = (
        np.asarray(s.attribute(key) or [other], np.float32) for key, other in (("offset", 0), ("scale", 1))
    )
    s.result(s.op("Mul", s.op("Sub", x, s.const(offset)), s.const(scale)))


@spells("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(s: Sketch) -> None:
    """A Gather along the last axis; what has one axis becomes a row."""
    picked = s.constant(1, "list of positions")
    assert picked is not None
    found = s.op("Gather", s.x, s.ints(*picked.reshape(-1)), axis=len(s.shape()) - 1)
    s.result(found if len(s.shape()) > 1 else s.reshape(found, 1, picked.size))
