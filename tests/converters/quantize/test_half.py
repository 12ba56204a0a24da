"""Weights in float16: what shrinks, and what must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk_converters.quantize.half import MIN_ELEMENTS, halve
from edgesdk_converters.runner import OnnxRunner

WIDTH = MIN_ELEMENTS
RNG = np.random.default_rng(0)


def model(nodes: list[Any], weights: dict[str, NDArray[Any]], *, width: int = WIDTH) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def types(made: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in made.graph.initializer}


def floats(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
    return (scale * RNG.normal(size=shape)).astype(np.float32)


def test_halve__large_constants_shrink_and_the_rest_stays() -> None:
    whole = model(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "small"], ["y"])],
        {"w": floats(WIDTH, 4), "small": floats(4)},
    )
    before = whole.SerializeToString()
    made = halve(whole)
    assert whole.SerializeToString() == before
    assert types(made) == {"w_half": TensorProto.FLOAT16, "small": TensorProto.FLOAT}
    assert made.graph.node[0].op_type == "Cast"
    assert made.ByteSize() < 0.65 * whole.ByteSize()
    feed = [floats(1, WIDTH)]
    np.testing.assert_allclose(OnnxRunner(made).run(feed)[0], OnnxRunner(whole).run(feed)[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 7e4, -7e4])
def test_halve__what_float16_cannot_hold_stays(bad: float) -> None:
    weight = floats(WIDTH)
    weight[3] = bad
    made = halve(model([helper.make_node("Add", ["x", "w"], ["y"])], {"w": weight}))
    assert types(made) == {"w": TensorProto.FLOAT}


def test_halve__scales_of_qdq_stay() -> None:
    made = halve(
        model(
            [
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1),
                helper.make_node("MatMul", ["x", "w"], ["y"]),
            ],
            {
                "q": RNG.integers(-127, 127, (WIDTH, WIDTH)).astype(np.int8),
                "s": np.full(WIDTH, 0.01, np.float32),
                "z": np.zeros(WIDTH, np.int8),
            },
        )
    )
    assert types(made)["s"] == TensorProto.FLOAT
    assert np.isfinite(OnnxRunner(made).run([floats(1, WIDTH)])[0]).all()


def test_halve__scales_of_integer_weights_that_cast_makes_real_stay() -> None:
    # Weight-only: int8 weights, made real by a Cast and the product with a scale per column.
    whole = model(
        [
            helper.make_node("Cast", ["q"], ["r"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["r", "s"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Mul", ["m", "gain"], ["y"]),
        ],
        {
            "q": RNG.integers(-127, 127, (WIDTH, WIDTH)).astype(np.int8),
            # float16 would make nothing of them.
            "s": np.full(WIDTH, 1e-9, np.float32),
            "gain": np.full(WIDTH, 2.0, np.float32),
        },
    )
    made = halve(whole)
    assert types(made)["s"] == TensorProto.FLOAT
    assert types(made)["gain_half"] == TensorProto.FLOAT16  # any other product's constant is a weight
    feed = [floats(1, WIDTH)]
    assert np.abs(OnnxRunner(made).run(feed)[0]).max() > 0
    np.testing.assert_allclose(OnnxRunner(made).run(feed)[0], OnnxRunner(whole).run(feed)[0], rtol=1e-5)


def test_halve__scales_of_ranges_found_at_run_time_stay() -> None:
    made = halve(
        model(
            [
                helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
                helper.make_node("MatMulInteger", ["xq", "q", "xz"], ["i"]),
                helper.make_node("Cast", ["i"], ["r"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["xs", "s"], ["scale"]),
                helper.make_node("Mul", ["r", "scale"], ["y"]),
            ],
            {
                "q": RNG.integers(-127, 127, (WIDTH, WIDTH)).astype(np.int8),
                "s": np.full(WIDTH, 1e-3, np.float32),
            },
        )
    )
    assert types(made) == {"q": TensorProto.INT8, "s": TensorProto.FLOAT}


def test_halve__constants_of_sub_graphs_and_constant_nodes_shrink() -> None:
    def branch(name: str, value: float) -> Any:
        constant = numpy_helper.from_array(np.full(WIDTH, value, np.float32), f"{name}_value")
        return helper.make_graph(
            [helper.make_node("Constant", [], [name], value=constant)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [WIDTH])],
        )

    whole = model(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["up"]),
            helper.make_node("If", ["up"], ["y"], then_branch=branch("a", 1.5), else_branch=branch("b", 2.5)),
        ],
        {"zero": np.asarray(0, np.float32)},
    )
    made = halve(whole)
    assert made.ByteSize() < 0.65 * whole.ByteSize()
    assert OnnxRunner(made).run([np.ones((1, WIDTH), np.float32)])[0][0] == 1.5
    assert OnnxRunner(made).run([-np.ones((1, WIDTH), np.float32)])[0][0] == 2.5
