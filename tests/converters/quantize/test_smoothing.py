"""Smoothed inputs of matrix products, and tables of embeddings in integers."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk_converters.quantize import smoothing
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipes import load_recipe
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.tflite.lower import lower
from edgesdk_converters.variants.open import open_tflite

WORDS, WIDTH = 1100, 64


def _model() -> onnx.ModelProto:
    """A table of embeddings and a matrix product whose input has one channel a hundred times as large."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(WORDS, WIDTH)).astype(np.float32)
    table[:, 3] *= 100
    weight = rng.normal(size=(WIDTH, 300)).astype(np.float32)
    weight[3] /= 100
    constants = {"table": table, "weight": weight, "bias": np.ones(300, np.float32)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "rows"),
        helper.make_node("Gemm", ["rows", "weight", "bias"], ["y"], "product"),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 300])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _feeds() -> list[list[NDArray[np.int64]]]:
    rng = np.random.default_rng(2)
    return [[rng.integers(0, WORDS, 8)] for _ in range(6)]


def _error(model: onnx.ModelProto, other: onnx.ModelProto) -> float:
    a, b = ([OnnxRunner(one).run(feed)[0] for feed in _feeds()] for one in (model, other))
    return float(np.square(np.subtract(a, b)).mean() / np.square(a).mean())


def test_smooth__computes_the_same() -> None:
    model = _model()
    maxima = {name: np.linspace(0.0, 100.0, WIDTH) for name in smoothing.inputs(model)}
    assert list(maxima) == ["rows"]
    assert _error(model, smoothing.smooth(model, maxima, 0.8)) < 1e-9


def test_smooth__helps_ranges_found_at_run_time() -> None:
    import msgspec

    model, recipe = _model(), load_recipe("dynamic")
    quantizer = Quantizer(model, _feeds())
    pinned = {"rows": "float"}
    plain = quantizer.plan(recipe, schemes=pinned)  # type: ignore[arg-type]  # a dict of literals
    smooth = msgspec.structs.replace(plain, smooth=0.8)
    assert _error(model, quantizer.apply(smooth)) < 0.1 * _error(model, quantizer.apply(plain))


def test_table__is_stored_in_integers_in_both_formats() -> None:
    model = _model()
    quantizer = Quantizer(model)
    assert quantizer.plan(load_recipe("dynamic")).schemes == {"rows": "w8", "product": "dynamic"}
    plan = quantizer.plan(
        load_recipe("w8")
    )  # the arithmetic is float: each format rounds inputs at run time its own way
    quantized = quantizer.apply(plan)
    content = lower(quantized)
    size = WORDS * WIDTH + 300 * WIDTH
    assert quantized.ByteSize() < 1.2 * size
    assert len(content) < 1.3 * size
    session, runner = open_tflite(content, "words", ("ids",), ("y",)), OnnxRunner(quantized)
    for feed in _feeds():
        a, b = runner.run(feed)[0], np.array(session.run(feed)[0])
        assert float(np.square(a - b).mean() / np.square(a).mean()) < 1e-9
