from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.errors import ConversionError
from edgesdk_converters.graph import raise_opset, simplify
from edgesdk_converters.graph.simplify import first_equal
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
