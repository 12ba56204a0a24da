from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.quantize import moments as moments_module
from edgesdk_converters.quantize.moments import Layer, collect, layer_of, upstream
from edgesdk_converters.quantize.rounding import foremost, split
from edgesdk_converters.quantize.units import find_units, weight_axis
from edgesdk_converters.quantize.weights import as_matrix
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]

LAYERS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("Conv", (1, 4, 9, 7), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("Conv", (1, 4, 9, 8), (6, 4, 3, 2), {"strides": [2, 3], "pads": [0, 1, 2, 0]}),
    ("Conv", (1, 4, 9, 9), (6, 4, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    ("Conv", (1, 4, 9, 9), (4, 1, 3, 3), {"group": 4}),
    ("Conv", (1, 4, 8, 8), (6, 2, 3, 3), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (1, 4, 8, 8), (6, 4, 2, 2), {"auto_pad": "SAME_LOWER"}),
    ("Conv", (1, 4, 20), (6, 4, 5), {"pads": [2, 2]}),
    ("MatMul", (1, 5, 8), (8, 3), {}),
    ("Gemm", (4, 8), (3, 8), {"transB": 1}),
    ("Gemm", (4, 8), (8, 3), {}),
]


def one(op: str, shape: tuple[int, ...], dims: tuple[int, ...], attributes: dict[str, Any]) -> onnx.ModelProto:
    weight = np.random.default_rng(1).normal(size=dims).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def only(model: onnx.ModelProto) -> Layer:
    layer = layer_of(GraphView(model), model.graph.node[0])
    assert layer is not None
    return layer


@pytest.mark.parametrize(("op", "shape", "dims", "attributes"), LAYERS)
def test_rows__times_weights_is_the_layer(
    op: str, shape: tuple[int, ...], dims: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    model = one(op, shape, dims, attributes)
    layer = only(model)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rows = layer.rows(x)
    weight = as_matrix(numpy_helper.to_array(model.graph.initializer[0]), weight_axis(layer.node))
    made = rows @ weight.reshape(layer.groups, -1, layer.width).transpose(0, 2, 1)
    flat = np.moveaxis(made, 0, 1).reshape(-1, layer.outputs)
    expected = OnnxRunner(model).run([x])[0]
    channels = 1 if op == "Conv" else -1
    np.testing.assert_allclose(flat, np.moveaxis(expected, channels, -1).reshape(-1, layer.outputs), atol=1e-5)


def test_collect__mean_of_products() -> None:
    model = one(*LAYERS[0])
    rng = np.random.default_rng(2)
    feeds = [[rng.normal(size=(1, 4, 9, 7)).astype(np.float32)] for _ in range(3)]
    moments = collect({"layer": only(model)}, model, None, feeds, {"layer": 6.0})["layer"]
    rows = np.concatenate([only(model).rows(feed[0])[0] for feed in feeds])
    np.testing.assert_allclose(moments.second[0], rows.T @ rows / len(rows), atol=1e-2)
    np.testing.assert_allclose(moments.mean[0], rows.mean(axis=0), atol=1e-3)
    assert moments.cross is None


def test_positions__fewer_of_each_where_there_are_many() -> None:
    layer = only(one(*LAYERS[0]))
    assert layer.positions(10) == 1024
    assert layer.positions(256) == 384
    value = np.zeros((1, 4, 90, 70), np.float32)
    assert len(layer.rows(value, 384)[0]) in range(192, 384 + 1)


def test_collect__batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = one(*LAYERS[3])
    rng = np.random.default_rng(2)
    feeds = [[rng.normal(size=LAYERS[3][1]).astype(np.float32)] for _ in range(7)]

    def collected() -> Array:
        found = collect({"layer": only(model)}, model, model, feeds, {"layer": 6.0}, repairing={"layer"})["layer"].cross
        assert found is not None
        return found

    whole = collected()
    monkeypatch.setattr(moments_module, "_HELD_BYTES", 1)
    assert np.array_equal(collected(), whole)


def test_collect__sums_are_exact() -> None:
    # Whatever the order of the samples (and of the threads' sums): the same bits.
    model = one(*LAYERS[0])
    rng = np.random.default_rng(3)
    feeds = [[rng.normal(size=(1, 4, 9, 7)).astype(np.float32)] for _ in range(9)]
    one_way, other = (
        collect({"layer": only(model)}, model, model, order, {"layer": 5.0}, repairing={"layer"})["layer"]
        for order in (feeds, feeds[::-1])
    )
    assert one_way.cross is not None
    assert other.cross is not None
    assert one_way.second.tobytes() == other.second.tobytes()
    assert one_way.cross.tobytes() == other.cross.tobytes()


def test_layer_of__too_wide_or_not_constant() -> None:
    assert (
        layer_of(
            GraphView(one("MatMul", (1, 4000), (4000, 2), {})), one("MatMul", (1, 4000), (4000, 2), {}).graph.node[0]
        )
        is None
    )
    assert layer_of(GraphView(onnx.ModelProto()), helper.make_node("MatMul", ["a", "b"], ["c"])) is None


def test_stages__only_the_foremost_repair(small: onnx.ModelProto) -> None:
    view = GraphView(small)
    found = {unit.info.name: layer_of(view, unit.node) for unit in find_units(small) if unit.info.weight_elements}
    layers = {name: layer for name, layer in found.items() if layer is not None}
    assert [list(stage) for stage in split(layers, 2)] == [["first", "depthwise"], ["last"]]
    assert foremost(view, layers) == {"first"}
    assert foremost(view, {"last": layers["last"]}) == {"last"}


def test_upstream__keeps_only_what_is_needed(classifier: onnx.ModelProto) -> None:
    part = upstream(classifier, ["r0"])
    assert [node.name for node in part.graph.node] == ["first", "relu0"]
    assert {tensor.name for tensor in part.graph.initializer} == {"w0", "b0"}
    assert OnnxRunner(part).outputs == ["r0"]
