from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.errors import NotExpressibleError
from edgesdk_converters.tflite.lower import lower

Check = Callable[..., Any]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def weight(*shape: int, seed: int = 1) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(0, 0.4, shape).astype(np.float32)


def cell(
    onnx_graph: Check, op_type: str, *, steps: int = 3, direction: str = "forward", attributes: str = ""
) -> onnx.ModelProto:
    count, gates = 2 if direction == "bidirectional" else 1, GATES[op_type]
    memory = op_type == "LSTM"
    text = f"""g (float[{steps},2,4] x, float[{count},2,5] h{f", float[{count},2,5] c" if memory else ""})
        => (float[{steps},{count},2,5] y, float[{count},2,5] yh{f", float[{count},2,5] yc" if memory else ""}) {{
        y, yh{", yc" if memory else ""} = {op_type}<hidden_size=5, direction="{direction}"{attributes}>(x, w, r, b, , h{", c" if memory else ""})
    }}"""
    weights = {
        "w": weight(count, gates * 5, 4),
        "r": weight(count, gates * 5, 5, seed=2),
        "b": weight(count, gates * 10, seed=3),
    }
    model: onnx.ModelProto = onnx_graph(text, weights)
    return model


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("steps", [1, 3])
def test_recurrent__steps_and_directions(
    check: Check, onnx_graph: Check, op_type: str, direction: str, steps: int
) -> None:
    check(cell(onnx_graph, op_type, steps=steps, direction=direction))


def test_recurrent__gru_resets_after_the_product(check: Check, onnx_graph: Check) -> None:
    check(cell(onnx_graph, "GRU", attributes=", linear_before_reset=1"))


def test_recurrent__too_long(onnx_graph: Check) -> None:
    with pytest.raises(NotExpressibleError, match=r"200 steps would be written out .*Run it in shorter chunks"):
        lower(cell(onnx_graph, "LSTM", steps=200))
