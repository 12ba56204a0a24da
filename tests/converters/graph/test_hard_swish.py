from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgesdk_converters.graph.hard_swish import hard_swish_pass, join_hard_swish
from edgesdk_converters.runner import OnnxRunner

HEAD = '<ir_version: 8, opset_import: ["": {opset}]> g (float[1, 4, 8] x) => (float[1, 4, 8] y)'
NUMBERS = "<float three = {3}, float low = {0}, float high = {6}, float six = {6}, float sixth = {0.16666667}>"


@pytest.mark.parametrize(
    "body",
    [
        "a = Add (x, three) c = Clip (a, low, high) m = Mul (x, c) y = Div (m, six)",
        "a = Add (three, x) c = Clip (a, low, high) m = Mul (c, x) y = Mul (sixth, m)",
    ],
)
def test_join_hard_swish__is_one_node_that_computes_the_same(
    body: str, parse: Callable[[str], onnx.ModelProto]
) -> None:
    model = parse(f"{HEAD.format(opset=17)} {NUMBERS} {{ {body} }}")
    joined = join_hard_swish(model)
    assert [node.op_type for node in joined.graph.node] == ["HardSwish"]
    onnx.checker.check_model(joined, full_check=True)
    x = np.linspace(-5, 5, 32, dtype=np.float32).reshape(1, 4, 8)
    np.testing.assert_allclose(OnnxRunner(joined).run([x])[0], OnnxRunner(model).run([x])[0], atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "a = Add (x, six) c = Clip (a, low, high) m = Mul (x, c) y = Div (m, six)",
        "a = Add (x, three) c = Clip (a, low, high) m = Mul (a, c) y = Div (m, six)",
        "a = Add (x, three) c = Clip (a, low, high) m = Mul (x, c) y = Div (six, m)",
    ],
)
def test_join_hard_swish__leaves_what_only_looks_like_it(body: str, parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse(f"{HEAD.format(opset=17)} {NUMBERS} {{ {body} }}")
    assert join_hard_swish(model) is model


def test_hard_swish_pass__old_operator_set(parse: Callable[[str], onnx.ModelProto]) -> None:
    body = "a = Add (x, three) c = Clip (a, low, high) m = Mul (x, c) y = Div (m, six)"
    model = parse(f"{HEAD.format(opset=13)} {NUMBERS} {{ {body} }}")
    assert hard_swish_pass()(model)[0] is model
