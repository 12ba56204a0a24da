from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.errors import ConversionError
from edgesdk_converters.graph import raise_opset, simplify
from edgesdk_converters.graph.simplify import EQUAL_DB, equal_limit, first_equal
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
