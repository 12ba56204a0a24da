"""Ranges end where a HardSwish behind them does."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgesdk_converters.quantize.floors import HARD_SWISH_FLOOR, floors
from edgesdk_converters.quantize.ranges import Observer


def _model(*readers: str, outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
    nodes = [helper.make_node("Neg", ["x"], ["y"], "make")]
    nodes += [helper.make_node(op, ["y"], [f"z{i}"], f"read{i}") for i, op in enumerate(readers)]
    names = [*(f"z{i}" for i in range(len(readers))), *outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_floors__only_hard_swish_reads() -> None:
    assert floors(_model("HardSwish", "HardSwish")) == {"y": HARD_SWISH_FLOOR}


@pytest.mark.parametrize("model", [_model("HardSwish", "Relu"), _model("HardSwish", outputs=("y",))])
def test_floors__something_else_sees_what_is_below(model: onnx.ModelProto) -> None:
    assert floors(model) == {}


@pytest.mark.parametrize("calibrator", ["minmax", "moving-average", "percentile", "entropy", "mse"])
def test_observer__cuts_at_the_floor(calibrator: str) -> None:
    rng = np.random.default_rng(0)
    feeds = [[rng.normal(0, 8, (1, 4, 8, 8)).astype(np.float32)] for _ in range(4)]
    span = Observer(_model("HardSwish"), feeds, {"y"}, calibrator).ranges()["y"]
    assert HARD_SWISH_FLOOR <= span.low <= 0 < span.high


def test_observer__least_error_spends_what_it_saved_on_the_upper_end() -> None:
    rng = np.random.default_rng(1)
    feeds = [[rng.normal(0, 8, (1, 4, 8, 8)).astype(np.float32)] for _ in range(4)]
    cut, whole = (Observer(model, feeds, {"y"}, "mse").ranges()["y"] for model in (_model("HardSwish"), _model("Neg")))
    assert cut.high >= whole.high
    assert whole.low < cut.low == HARD_SWISH_FLOOR
