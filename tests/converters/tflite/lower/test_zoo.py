from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk_converters.frontends.api import read_source
from edgesdk_converters.graph import pin_shapes, raise_opset, simplify
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec, read_spec
from edgesdk_converters.zoo import fetch, media, onnx_file
from edgesdk_converters.zoo.catalog import spec_path

pytestmark = [pytest.mark.zoo]


def prepared(path: Path, spec: ModelSpec) -> onnx.ModelProto:
    source = read_source(path, spec)
    shapes, _ = resolve_shapes(source, spec)
    reference = OnnxRunner(source.content, name=source.file)
    raised, _ = raise_opset(pin_shapes(onnx.load_from_string(source.content), shapes), file=source.file)
    hints = {name: hint.source for name, hint in spec.inputs.items()}
    feed = random_feed([(shapes[t.name], t.dtype, hints.get(t.name)) for t in source.inputs])
    return simplify(raised, reference, [feed])[0]


def zoo_model(name: str) -> onnx.ModelProto:
    path = spec_path(name)
    return prepared(fetch(name), read_spec(path) if path else ModelSpec())


def picture(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """A page of text in the model's input size, -1 to 1: on noise PP-OCR's outputs are all but zero."""
    import cv2

    value = model.graph.input[0]
    _, channels, height, width = (d.dim_value for d in value.type.tensor_type.shape.dim)
    page = cv2.imread(str(media("page")))
    assert page is not None
    small = cv2.resize(page, (width, height)).astype(np.float32) / 127.5 - 1
    return {value.name: np.ascontiguousarray(small.transpose(2, 0, 1)[None, :channels])}


@pytest.mark.parametrize(("name", "most"), [("ppocr-det", 163), ("ppocr-cls", 105), ("ppocr-rec", 201)])
def test_zoo__ppocr(compare: Callable[..., Any], name: str, most: int) -> None:
    model = zoo_model(name)
    lowered = compare(model, feeds=picture(model), tolerance=1e-4)
    assert sum(lowered.codes.values()) <= most
    # The recogniser is a transformer at its end: heads move there and back, twice.
    assert lowered.codes["TRANSPOSE"] == (9 if name == "ppocr-rec" else 1)


def test_zoo__ds_cnn(compare: Callable[..., Any], kws: Path) -> None:
    lowered = compare(prepared(kws / "ds_cnn_fp32.onnx", ModelSpec()), tolerance=1e-4)
    assert sum(lowered.codes.values()) <= 13
    assert lowered.codes["TRANSPOSE"] == 0


def test_zoo__efficientnet_lite0(compare: Callable[..., Any]) -> None:
    lowered = compare(prepared(onnx_file("efficientnet-lite0"), ModelSpec()), tolerance=1e-4)
    assert sum(lowered.codes.values()) <= 61
    assert lowered.codes["TRANSPOSE"] == 1


def test_zoo__minilm(compare: Callable[..., Any]) -> None:
    model = onnx.load(onnx_file("minilm"))
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.integers(
            0, 2 if "mask" in value.name else 1000, [d.dim_value for d in value.type.tensor_type.shape.dim]
        )
        for value in model.graph.input
    }
    lowered = compare(model, feeds=feeds, tolerance=1e-4)
    assert lowered.codes["GELU"] == 6
    assert lowered.codes["BATCH_MATMUL"] == 12
    assert lowered.codes["TRANSPOSE"] == 24


def test_zoo__silero_vad(compare: Callable[..., Any]) -> None:
    # The zoo's file has an If for the sample rate; simplified at 16 kHz only one branch is left.
    model = zoo_model("silero-vad")
    rng = np.random.default_rng(0)
    feeds = {
        value.name: np.asarray(16000, np.int64)
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        else rng.normal(0, 0.1, [d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }
    compare(model, feeds=feeds, tolerance=1e-4)
