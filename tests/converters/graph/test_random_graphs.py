"""Random small graphs with every odd thing that exporters write go through the frontend and all passes, and compute what they did."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk_converters.frontends.onnx import OnnxFrontend, describe
from edgesdk_converters.graph.conditions import NO_WEIGHT_INPUTS, SORTED, STATIC_SHAPES, UNIQUE_NAMES
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec

Array = NDArray[Any]
OPSETS = (7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 20, 22)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 6.0, 1e-8, 1e4, float("inf"), float("-inf"))
SIZE = 6


@dataclass
class Made:
    """A graph under construction; tensors by name with their shapes."""

    draw: Any
    opset: int
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    floats: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def node(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        names = [self.fresh() for _ in range(outputs)]
        # Names: none, one for several nodes, one that a generated name would take.
        name = self.draw(st.sampled_from(["", "", "same", f"{kind}_0", f"{kind}_{len(self.nodes) + 1}", names[0]]))
        self.nodes.append(helper.make_node(kind, inputs, names, name, **attributes))
        return names

    def constant(self, value: Array) -> str:
        """An initializer, or a Constant node."""
        if self.draw(st.booleans()):
            name = self.fresh()
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name)))
            return name
        for name, known in self.constants.items():  # shared with others
            if known.shape == value.shape and known.dtype == value.dtype and known.tobytes() == value.tobytes():
                return name
        name = self.fresh()
        self.constants[name] = value
        return name

    def numbers(self, shape: tuple[int, ...]) -> Array:
        rng = np.random.default_rng(self.draw(st.integers(0, 5)))
        return rng.normal(0, 0.6, shape).astype(np.float32)

    def keep(self, name: str, shape: tuple[int, ...]) -> str:
        self.shapes[name] = shape
        self.floats.append(name)
        return name

    def sizes(self, name: str, batch: int | str) -> list[int | str]:
        """As an exporter would declare an output; a constant keeps its own."""
        if name in self.constants:
            return list(self.constants[name].shape)
        return [batch, *self.shapes[name][1:]]

    def pick(self) -> str:
        return str(self.draw(st.sampled_from(self.floats[-4:])))


def _conv(g: Made, x: str) -> None:
    n, c, h, w = g.shapes[x]
    o = g.draw(st.sampled_from([1, 2, 4]))
    group = c if o % c == 0 and g.draw(st.booleans()) else 1
    inputs = [x, g.constant(g.numbers((o, c // group, 1, 1)))]
    if g.draw(st.booleans()):
        inputs.append(g.constant(g.numbers((o,))))
    pads = g.draw(st.sampled_from([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]]))
    (y,) = g.node("Conv", inputs, pads=pads, group=group)
    g.keep(y, (n, o, h + pads[0] + pads[2], w + pads[1] + pads[3]))


def _batch_norm(g: Made, x: str) -> None:
    c = g.shapes[x][1]
    inputs = [
        x,
        *(g.constant(g.numbers((c,))) for _ in range(3)),
        g.constant(np.abs(g.numbers((c,))) + np.float32(0.5)),
    ]
    g.keep(g.node("BatchNormalization", inputs)[0], g.shapes[x])


def _arithmetic(g: Made, x: str) -> None:
    kind = g.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    shape = g.shapes[x]
    if g.draw(st.booleans()):
        value: Array = np.asarray(g.draw(st.sampled_from(NUMBERS)), np.float32)
        value = value.reshape(g.draw(st.sampled_from([(), (1,), (1, 1, 1, 1)])))
    else:
        value = g.numbers((shape[1], 1, 1)) if g.draw(st.booleans()) else g.numbers((shape[3],))
    order = [x, g.constant(value)]
    if g.draw(st.booleans()):
        order.reverse()
    g.keep(g.node(kind, order)[0], shape)


def _activation(g: Made, x: str) -> None:
    kind = g.draw(
        st.sampled_from(
            ["Relu", "Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu", "Identity", "Neg", "Abs", "Sqrt", "Exp"]
        )
    )
    g.keep(g.node(kind, [x])[0], g.shapes[x])


def _hard_swish(g: Made, x: str) -> None:
    (a,) = g.node("Add", [x, g.constant(np.float32(3.0) * np.ones((), np.float32))])
    if g.opset < 11:
        (b,) = g.node("Clip", [a], min=0.0, max=6.0)
    else:
        low, high = g.constant(np.asarray(0.0, np.float32)), g.constant(np.asarray(6.0, np.float32))
        (b,) = g.node("Clip", [a, low, high])
    (c,) = g.node("Mul", [x, b] if g.draw(st.booleans()) else [b, x])
    (d,) = g.node("Div", [c, g.constant(np.asarray(6.0, np.float32))])
    for name in (a, b, c, d):
        g.keep(name, g.shapes[x])


def _two(g: Made, x: str) -> None:
    same = [name for name in g.floats if g.shapes[name] == g.shapes[x]]
    g.keep(g.node(g.draw(st.sampled_from(["Add", "Mul", "Sub"])), [x, g.draw(st.sampled_from(same))])[0], g.shapes[x])


def _dropout(g: Made, x: str) -> None:
    masked = g.opset >= 12 and g.draw(st.booleans())
    made = g.node("Dropout", [x], 2 if masked else 1)
    g.keep(made[0], g.shapes[x])
    if masked:
        g.keep(g.node("Cast", [made[1]], to=TensorProto.FLOAT)[0], g.shapes[x])


def _pool(g: Made, x: str) -> None:
    n, c, h, w = g.shapes[x]
    indices = g.opset >= 8 and g.draw(st.booleans())
    made = g.node("MaxPool", [x], 2 if indices else 1, kernel_shape=[2, 2])
    g.keep(made[0], (n, c, h - 1, w - 1))
    if indices:
        g.keep(g.node("Cast", [made[1]], to=TensorProto.FLOAT)[0], (n, c, h - 1, w - 1))


def _concat(g: Made, x: str) -> None:
    n, _, h, w = g.shapes[x]
    same = [name for name in g.floats if g.shapes[name][2:] == (h, w)]
    parts = [x, g.draw(st.sampled_from(same))]
    g.keep(g.node("Concat", parts, axis=1)[0], (n, sum(g.shapes[p][1] for p in parts), h, w))


def _split(g: Made, x: str) -> None:
    n, c, h, w = g.shapes[x]
    if c < 2:
        return
    sizes = [1, c - 1]
    if g.opset < 13:
        made = g.node("Split", [x], 2, axis=1, split=sizes)
    else:
        made = g.node("Split", [x, g.constant(np.asarray(sizes, np.int64))], 2, axis=1)
    for name, size in zip(made, sizes, strict=True):
        g.keep(name, (n, size, h, w))


def _slices(g: Made, x: str) -> None:
    """Two slices that make up the whole, or that do not."""
    n, c, h, w = g.shapes[x]
    if c < 2:
        return
    for start, stop in ((0, 1), (1, g.draw(st.sampled_from([c, 2**31 - 1, 2**63 - 1])))):
        if g.opset < 10:
            (y,) = g.node("Slice", [x], axes=[1], starts=[start], ends=[stop])
        else:
            numbers = [g.constant(np.asarray([v], np.int64)) for v in (start, stop, 1)]
            (y,) = g.node("Slice", [x, *numbers])
        g.keep(y, (n, min(stop, c) - start, h, w))


def _reshape(g: Made, x: str) -> None:
    """There and back; the way back through Shape."""
    n, c, h, w = g.shapes[x]
    (flat,) = g.node(
        "Reshape", [x, g.constant(np.asarray([0, -1] if g.draw(st.booleans()) else [n, c * h * w], np.int64))]
    )
    (shape,) = g.node("Shape", [x])
    g.keep(g.node("Reshape", [flat, shape])[0], (n, c, h, w))


def _transpose(g: Made, x: str) -> None:
    n, c, h, w = g.shapes[x]
    (y,) = g.node("Transpose", [x], perm=[0, 1, 3, 2])
    g.keep(y, (n, c, w, h))


def _overflow(g: Made, x: str) -> None:
    """Whole numbers that wrap around in constant arithmetic."""
    a, b = (np.asarray(g.draw(st.sampled_from([2**62, -(2**63), 2**31, 3, -7, 0])), np.int64) for _ in range(2))
    (c,) = g.node(g.draw(st.sampled_from(["Add", "Mul", "Sub"])), [g.constant(a), g.constant(b)])
    (d,) = g.node("Cast", [c], to=g.draw(st.sampled_from([TensorProto.INT32, TensorProto.INT64])))
    (e,) = g.node("Cast", [d], to=TensorProto.FLOAT)
    g.keep(g.node("Add", [x, e])[0], g.shapes[x])


def _whole(g: Made, x: str) -> None:
    (y,) = g.node("Cast", [x], to=TensorProto.INT32)
    g.keep(g.node("Cast", [y], to=TensorProto.FLOAT)[0], g.shapes[x])


def _pad(g: Made, x: str) -> None:
    n, c, h, w = g.shapes[x]
    value = g.draw(st.sampled_from([0.0, 1.5, float("-inf")]))
    pads = [0, 0, 1, 0, 0, 0, 0, 1]
    if g.opset < 11:
        (y,) = g.node("Pad", [x], pads=pads, value=value)
    else:
        (y,) = g.node("Pad", [x, g.constant(np.asarray(pads, np.int64)), g.constant(np.asarray(value, np.float32))])
    g.keep(y, (n, c, h + 1, w + 1))


def _mean(g: Made, x: str) -> None:
    n, c, _, w = g.shapes[x]
    if g.opset < 18:
        (y,) = g.node("ReduceMean", [x], axes=[2], keepdims=1)
    else:
        (y,) = g.node("ReduceMean", [x, g.constant(np.asarray([2], np.int64))], keepdims=1)
    g.keep(y, (n, c, 1, w))


def _squeeze(g: Made, x: str) -> None:
    if g.opset < 13:
        (y,) = g.node("Unsqueeze", [x], axes=[1])
        (z,) = g.node("Squeeze", [y], axes=[1])
    else:
        (y,) = g.node("Unsqueeze", [x, g.constant(np.asarray([1], np.int64))])
        (z,) = g.node("Squeeze", [y, g.constant(np.asarray([1], np.int64))])
    g.keep(z, g.shapes[x])


def _branch(g: Made, x: str) -> None:
    """If whose branches take a tensor and a constant from outside."""
    scale = g.constant(g.numbers(()))
    condition = g.constant(np.asarray(g.draw(st.booleans())))
    if g.draw(st.booleans()) and g.opset >= 9:  # decided by the input
        zero = g.constant(np.zeros((), np.float32))
        least = g.node("ReduceMax", [x], keepdims=0)[0]
        condition = g.node("Greater", [least, zero])[0]
    graphs = []
    for index, kind in enumerate(("Mul", "Add")):
        out = f"{g.fresh()}_{index}"
        graphs.append(
            helper.make_graph(
                [helper.make_node(kind, [x, scale], [out], g.draw(st.sampled_from(["", "same"])))],
                "branch",
                [],
                [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
            )
        )
    (y,) = g.node("If", [condition], then_branch=graphs[0], else_branch=graphs[1])
    g.keep(y, g.shapes[x])


MAKERS = (
    _conv, _batch_norm, _arithmetic, _activation, _hard_swish, _two, _dropout, _pool, _concat, _split, _slices, _reshape,
    _transpose, _overflow, _whole, _pad, _mean, _squeeze, _branch,
)  # fmt: skip


@st.composite
def graphs(draw: Any) -> onnx.ModelProto:
    """A model with one or two float inputs of (1, C, 6, 6), sometimes with a batch that is dynamic."""
    opset = draw(st.sampled_from(OPSETS))
    g = Made(draw, opset)
    inputs = [("x", (1, draw(st.sampled_from([1, 2, 3])), SIZE, SIZE))]
    if draw(st.booleans()):
        inputs.append(("z", inputs[0][1]))
    for name, shape in inputs:
        g.keep(name, shape)
    for _ in range(draw(st.integers(1, 9))):
        x = g.pick()
        maker = draw(st.sampled_from(MAKERS))
        if min(g.shapes[x][2:]) > 1:
            maker(g, x)
    made = {name for node in g.nodes for name in node.output}
    computed = [name for name in g.floats if name in made] or [g.node("Relu", ["x"])[0]]
    g.shapes.setdefault(computed[-1], inputs[0][1])
    outputs = [computed[-1], *draw(st.lists(st.sampled_from(computed), max_size=2))]
    outputs = list(dict.fromkeys(outputs))
    weights = [name for name, value in g.constants.items() if value.dtype == np.float32]
    if weights and draw(st.integers(0, 4)) == 0:  # a constant is an output, too
        outputs.append(draw(st.sampled_from(weights)))
    batch: Any = draw(st.sampled_from([1, "batch"]))
    old = draw(st.booleans())  # weights are listed among the inputs, as until 2019
    values = [helper.make_tensor_value_info(name, 1, [batch, *shape[1:]]) for name, shape in inputs]
    if old:
        values += [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in g.constants.items()
        ]
    graph = helper.make_graph(
        g.nodes,
        "random",
        values,
        [helper.make_tensor_value_info(name, 1, g.sizes(name, batch)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in g.constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if old else 8)


SOAK = bool(os.environ.get("EDGESDK_SOAK"))
EXAMPLES = 2000 if SOAK else 60


def unnamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that ONNX Runtime loads: it refuses two nodes of one name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.name = ""
    return copy


def assert_same(a: NDArray[np.float32], b: NDArray[np.float32], name: str) -> None:
    assert a.shape == b.shape, name
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    np.testing.assert_array_equal(a[odd], b[odd], err_msg=name)
    scale = float(np.abs(a[~odd]).max(initial=1e-6))
    assert np.abs(a[~odd].astype(np.float64) - b[~odd]).max(initial=0) <= 1e-4 * scale, name


@pytest.mark.timeout(3600 if SOAK else 300)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_prepare__computes_what_the_source_does(model: onnx.ModelProto) -> None:
    content = model.SerializeToString(deterministic=True)
    source = describe(OnnxFrontend.check(onnx.load_from_string(content), "m.onnx"), file="m.onnx", sha256="")
    shapes, _ = resolve_shapes(source, ModelSpec())
    before = OnnxRunner(unnamed(model))
    feed = random_feed([(shapes[tensor.name], tensor.dtype, None) for tensor in source.inputs])
    parsed = onnx.load_from_string(source.content)
    made, _ = prepare(parsed, shapes, OnnxRunner(source.content), feed, file="m.onnx")
    assert parsed.SerializeToString(deterministic=True) == source.content
    for condition in (STATIC_SHAPES, UNIQUE_NAMES, NO_WEIGHT_INPUTS, SORTED):
        assert condition.violation(made) is None
    after = OnnxRunner(made)
    assert after.inputs == [tensor.name for tensor in source.inputs]
    assert after.outputs == before.outputs
    rng = np.random.default_rng(3)
    for spread in (1.0, 4.0):  # other numbers than those that the passes were proved on
        values = {name: rng.normal(0, spread, shapes[name]).astype(np.float32) for name in after.inputs}
        feeds = [[values[name] for name in runner.inputs] for runner in (before, after)]
        for a, b, name in zip(before.run(feeds[0]), after.run(feeds[1]), before.outputs, strict=True):
            assert_same(a, b, name)
