from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgesdk_converters.guard import peak_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's peak")


def dense(width: int) -> bytes:
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, width])],
        [helper.make_tensor_value_info("y", 1, [1, width])],
        [weight],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content


def test_peak_memory__grows_with_the_weights() -> None:
    small = peak_memory(dense(64), "onnx", ["x"], [np.ones((1, 64), np.float32)])
    large = peak_memory(dense(4096), "onnx", ["x"], [np.ones((1, 4096), np.float32)])
    assert small is not None
    assert large is not None
    assert large - small > 0.9 * 4096 * 4096 * 4
    assert small < 40 * 2**20


def test_peak_memory__of_what_does_not_load_is_unknown() -> None:
    assert peak_memory(onnx.ModelProto().SerializeToString(), "onnx", [], []) is None


def test_peak_memory__of_tflite(small: onnx.ModelProto) -> None:
    from edgesdk_converters.tflite.lower import lower

    peak = peak_memory(lower(small), "tflite", ["x"], [np.ones((1, 3, 16, 16), np.float32)])
    assert peak is not None
    assert 0 < peak < 100 * 2**20
