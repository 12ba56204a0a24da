from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from edgesdk_converters.graph.canonical import canonical, canonical_pass
from edgesdk_converters.graph.passes import run_passes
from edgesdk_converters.graph.simplify import difference
from edgesdk_converters.runner import OnnxRunner

TEXT = """<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    c = Conv<pads=[1,1,1,1]>(x, w)
    m = Mul(c, scale)
    a = Add(m, offset)
    a3 = Add(a, three)
    k = Clip(a3, zero, six)
    p = Mul(a, k)
    h = Div(p, six)
    y = Conv(h, v)
}"""


def model() -> onnx.ModelProto:
    made = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    numbers = {"scale": 1.3, "offset": 0.2, "three": 3, "zero": 0, "six": 6}
    arrays = {name: np.asarray(value, np.float32) for name, value in numbers.items()}
    arrays |= {
        "w": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(4, 8, 1, 1)).astype(np.float32),
    }
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in arrays.items())
    for index, node in enumerate(made.graph.node):
        node.name = f"n{index}"
    return made


def feed() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return [np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)]


def test_canonical__folds_scales_offsets_and_hard_swish() -> None:
    before = model()
    content = before.SerializeToString(deterministic=True)
    after = canonical(before)
    assert before.SerializeToString(deterministic=True) == content
    onnx.checker.check_model(after, full_check=True)
    assert Counter(node.op_type for node in after.graph.node) == {"Conv": 2, "HardSwish": 1}
    assert {"a", "h"} <= {name for node in after.graph.node for name in node.output}
    assert difference(after, OnnxRunner(content, name="m"), [feed()]) > 100


def test_canonical__leaves_what_it_cannot_read() -> None:
    dynamic = model()
    dynamic.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert canonical(dynamic) is dynamic


def test_canonical_pass__runs_with_its_conditions() -> None:
    before = model()
    reference = OnnxRunner(before.SerializeToString(), name="m")
    notes: list[str] = []
    after = run_passes(before, [canonical_pass(reference, feed())], notes=notes)
    assert len(after.graph.node) == 3
    assert notes == []
