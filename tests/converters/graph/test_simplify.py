from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.errors import ConversionError
from edgesdk_converters.graph import raise_opset, simplify
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.simplify import (
    EQUAL_DB,
    closeness,
    difference,
    equal_limit,
    first_equal,
    name_nodes,
    random_feed,
)
from edgesdk_converters.runner import OnnxRunner

Feeds = list[list[NDArray[np.float32]]]


def test_raise_opset__from_11(make_conv: Callable[..., onnx.ModelProto]) -> None:
    raised, notes = raise_opset(make_conv(opset=11), file="m.onnx")
    assert raised.opset_import[0].version == 17
    assert raised.ir_version >= 8
    assert notes == []


def test_raise_opset__newer_stays(make_conv: Callable[..., onnx.ModelProto]) -> None:
    model = make_conv(opset=19)
    assert raise_opset(model, file="m.onnx")[0].opset_import[0].version == 19


def test_simplify__folds_and_computes_the_same(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4] x) => (float[4, 1] y) {
          two = Constant <value = float {2.0}> ()
          three = Constant <value = float {3.0}> ()
          six = Mul (two, three)
          scaled = Mul (x, six)
          same = Identity (scaled)
          shape = Constant <value = int64[2] {4, 1}> ()
          y = Reshape (same, shape)
        }"""
    )
    feed = [np.asarray([[1, 2, 3, 4]], np.float32)]
    slim, notes = simplify(model, OnnxRunner(model), [feed])
    assert notes == []
    assert [node.op_type for node in slim.graph.node] == ["Mul", "Reshape"]
    assert len({node.name for node in slim.graph.node}) == 2
    np.testing.assert_allclose(OnnxRunner(slim).run(feed)[0], [[6], [12], [18], [24]])


def test_simplify__weights_among_the_inputs_and_an_input_that_nothing_takes(
    parse: Callable[[str], onnx.ModelProto],
) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4] x, float[1, 4] spare, float k) => (float[1, 4] y) <float k = {2.0}> {
          three = Constant <value = float {3.0}> ()
          six = Mul (k, three)
          y = Mul (x, six)
        }"""
    )
    feed = [np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)]
    made, notes = prepare(model, {"x": (1, 4), "spare": (1, 4)}, OnnxRunner(model), feed, file="m.onnx")
    assert notes == []
    assert [node.op_type for node in made.graph.node] == ["Mul"]
    assert [value.name for value in made.graph.input] == ["x", "spare"]


def test_name_nodes__first_of_its_name_keeps_it(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1] x) => (float[1] y) { a = Relu (x) [Relu_0] b = Relu (a) [Relu_0] c = Relu (b) y = Relu (c) }"""
    )
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["Relu_0_0", "Relu_0", "Relu_0_2", "Relu_3"]


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], True),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([1.0, np.inf], [1.0, -np.inf], False),
        ([1.0, np.inf], [1.0, 3e38], False),
    ],
)
def test_closeness__what_is_no_number_counts(expected: list[float], got: list[float], same: bool) -> None:
    pair = [np.asarray(values, np.float32) for values in (expected, got)]
    assert (closeness(*pair) >= EQUAL_DB) is same


def test_closeness__whole_numbers_are_equal_or_not() -> None:
    ids = np.arange(2000, dtype=np.int64)
    other = ids.copy()
    other[:2] += 1  # two classes that the last bit of a float decided
    assert closeness(ids, other) == math.inf
    other[:3] += 1
    assert closeness(ids, other) == -math.inf
    pixels = np.arange(200, dtype=np.uint8)
    assert closeness(pixels, pixels + np.uint8(1)) == math.inf
    assert closeness(pixels, pixels + np.uint8(2)) == -math.inf


def test_difference__another_output(small: onnx.ModelProto, feeds: Feeds) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(small)
    other.graph.node[-1].output[0] = other.graph.output[0].name = "z"
    assert difference(other, OnnxRunner(small), feeds[:1]) == -math.inf


def test_first_equal__falls_back_with_the_reason(small: onnx.ModelProto, feeds: Feeds) -> None:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(small)
    wrong.graph.initializer[0].raw_data = b"\0" * len(wrong.graph.initializer[0].raw_data)
    attempts: list[tuple[str, Callable[[], onnx.ModelProto]]] = [
        ("", lambda: wrong),
        ("opset stays", lambda: small),
    ]
    model, notes = first_equal(attempts, OnnxRunner(small), feeds[0])
    assert model is small
    assert "opset stays (it computes something else then" in notes[0]


def test_first_equal__nothing_works(small: onnx.ModelProto, feeds: Feeds) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(small)
    broken.graph.node[0].op_type = "Convolve"
    with pytest.raises(ConversionError, match=r"cannot be prepared\. Export it again with opset 17 and static shapes"):
        first_equal([("", lambda: broken)], OnnxRunner(small, name="m.onnx"), feeds[0])


def test_equal_limit__ordinary_model_is_held_to_all_of_it(small: onnx.ModelProto, feeds: Feeds) -> None:
    assert equal_limit(small, OnnxRunner(small), feeds[0]) == EQUAL_DB


def test_equal_limit__model_that_is_far_from_itself(small: onnx.ModelProto, feeds: Feeds) -> None:
    """The same with weights of half precision stands for a model whose rounding depends on who runs it."""
    other = onnx.ModelProto()
    other.CopyFrom(small)
    weight = numpy_helper.to_array(other.graph.initializer[0])
    noise = np.random.default_rng(0).normal(0, 2e-3 * weight.std(), weight.shape)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array((weight + noise).astype(np.float32), "w0"))
    assert 40.0 <= equal_limit(other, OnnxRunner(small), feeds[0]) < EQUAL_DB


def test_random_feed__whole_numbers_are_zeros_and_ones() -> None:
    ids, length, flag = random_feed([((1, 64), "int64", None), ((), "int32", None), ((4,), "bool", None)])
    assert set(ids.reshape(-1)) == {0, 1}
    assert ids[0, 0] == 1
    assert [str(value.dtype) for value in (ids, length, flag)] == ["int64", "int32", "bool"]
    assert length == 1
    again = random_feed([((1, 64), "int64", None)])[0]
    np.testing.assert_array_equal(ids, again)
