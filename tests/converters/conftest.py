"""Small models for the converters' tests, as ONNX text or built from numpy weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

KWS = Path(__file__).resolve().parents[3] / "shared" / "data" / "mlperf-tiny-kws"


@pytest.fixture
def kws() -> Path:
    """Folder of the DS-CNN keyword spotter."""
    if not (KWS / "ds_cnn_fp32.onnx").is_file():
        pytest.skip(f"needs the DS-CNN of MLPerf Tiny in {KWS} (mlcommons/tiny)")
    return KWS


@pytest.fixture
def parse() -> Callable[[str], onnx.ModelProto]:
    """Parses ONNX text."""

    def _parse(text: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(text)

    return _parse


def conv_model(*, opset: int = 17, channels: int = 48, dynamic: bool = False, classes: int = 0) -> onnx.ModelProto:
    """Three convolutions with a residual; with ``classes`` a pooled Softmax head."""
    rng = np.random.default_rng(1)
    weights: dict[str, NDArray[Any]] = {
        "w0": rng.normal(0, 0.3, (channels, 3, 3, 3)),
        "b0": rng.normal(0, 0.1, channels),
        "w1": rng.normal(0, 0.3, (channels, 1, 3, 3)),
        "b1": rng.normal(0, 0.1, channels),
        "w2": rng.normal(0, 0.1, (channels, channels, 1, 1)),
        "b2": rng.normal(0, 0.1, channels),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "depthwise", pads=[1, 1, 1, 1], group=channels),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "last"),
        helper.make_node("Add", ["c2", "r0"], ["sum" if classes else "y"], "residual"),
    ]
    shape: list[Any] = [1, channels, 16, 16]
    if classes:
        weights["w3"] = rng.normal(0, 0.5, (classes, channels))
        weights["b3"] = rng.normal(0, 0.5, classes)
        nodes += [
            helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], "flat"),
            helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], "head", transB=1),
            helper.make_node("Softmax", ["logits"], ["y"], "softmax", axis=1),
        ]
        shape = [1, classes]
    if dynamic:
        shape = ["batch", *shape[1:2], "h", "w"] if not classes else ["batch", classes]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", 1, ["batch", 3, "height", "width"] if dynamic else [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", 1, shape)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def yolo_model() -> onnx.ModelProto:
    """Boxes 0..320 and scores 0..1 behind one final Concat: (1, 4 + 2, 64), one scale for all of it kills the scores."""
    rng = np.random.default_rng(2)
    anchors = 64
    arrays = {
        "w0": rng.normal(0, 0.4, (16, 3, 3, 3)),
        "b0": rng.normal(0, 0.1, 16),
        "wb": rng.normal(0, 1.0, (4, 16, 1, 1)),
        "bb": np.full(4, 0.5),
        "wc": rng.normal(0, 0.6, (2, 16, 1, 1)),
        "bc": np.full(2, -3.0),
        "size": np.asarray(320.0),
        "flat_b": np.asarray([1, 4, anchors], np.int64),
        "flat_c": np.asarray([1, 2, anchors], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "wb", "bb"], ["box_map"], "boxes_conv"),
        helper.make_node("Conv", ["r0", "wc", "bc"], ["score_map"], "scores_conv"),
        helper.make_node("Reshape", ["box_map", "flat_b"], ["box_flat"], "box_flat_node"),
        helper.make_node("Sigmoid", ["box_flat"], ["box_unit"], "box_sigmoid"),
        helper.make_node("Mul", ["box_unit", "size"], ["boxes"], "box_scale"),
        helper.make_node("Reshape", ["score_map", "flat_c"], ["score_flat"], "score_flat_node"),
        helper.make_node("Sigmoid", ["score_flat"], ["scores"], "score_sigmoid"),
        helper.make_node("Concat", ["boxes", "scores"], ["output0"], "final_concat", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "yolo",
        [helper.make_tensor_value_info("images", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output0", 1, [1, 6, anchors])],
        [
            numpy_helper.from_array(value if value.dtype == np.int64 else value.astype(np.float32), name)
            for name, value in arrays.items()
        ],
    )
    graph.node[0].input[0] = "images"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def small() -> onnx.ModelProto:
    return conv_model()


@pytest.fixture
def classifier() -> onnx.ModelProto:
    return conv_model(classes=5)


@pytest.fixture
def yolo() -> onnx.ModelProto:
    return yolo_model()


@pytest.fixture
def make_conv() -> Callable[..., onnx.ModelProto]:
    return conv_model


def samples(count: int, shape: tuple[int, ...] = (1, 3, 16, 16)) -> list[list[NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    return [[rng.uniform(0, 1, shape).astype(np.float32)] for _ in range(count)]


@pytest.fixture
def feeds() -> list[list[NDArray[np.float32]]]:
    """Thirty inputs of the small models."""
    return samples(30)


@pytest.fixture
def calibration(tmp_path: Path, feeds: list[list[NDArray[np.float32]]]) -> Path:
    """The same as a calibration folder."""
    folder = tmp_path / "calibration"
    folder.mkdir()
    np.save(folder / "samples.npy", np.concatenate([feed[0] for feed in feeds]))
    return folder
