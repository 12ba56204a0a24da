"""Small models with a known weakness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import OutputSpec

Feeds = list[list[NDArray[Any]]]


def chain(layers: int, *, planted: int | None, channels: int = 8) -> onnx.ModelProto:
    """Convolutions with ReLU between them; the ``planted`` one has a huge weight for an input that is always zero.

    In float that weight does nothing. In int8 it decides the scale of its row, and all other weights become zero.
    """
    rng = np.random.default_rng(4)
    nodes, weights = [], []
    for index in range(layers):
        width = 4 if index == 0 else channels
        weight = rng.normal(0, 1 / np.sqrt(width * 9), (channels, width, 3, 3))
        bias = rng.normal(0.2, 0.1, channels)
        if index > 0:
            weight[:, 0] = 0  # nobody needs channel 0 of a hidden layer
        if index + 1 < layers:
            bias[0] = -100  # and ReLU makes it zero
        if index == planted:
            weight[:, 0, 1, 1] = 500
        weights += [
            numpy_helper.from_array(weight.astype(np.float32), f"w{index}"),
            numpy_helper.from_array(bias.astype(np.float32), f"b{index}"),
        ]
        source = "x" if index == 0 else f"r{index - 1}"
        last = index == layers - 1
        nodes.append(
            helper.make_node(
                "Conv", [source, f"w{index}", f"b{index}"], ["y" if last else f"c{index}"], f"conv{index}", pads=[1] * 4
            )
        )
        if not last:
            nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", 1, [1, 4, 10, 10])],
        [helper.make_tensor_value_info("y", 1, [1, channels, 10, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def planted() -> onnx.ModelProto:
    """Five convolutions; the first cannot be quantized."""
    return chain(5, planted=0)


@pytest.fixture
def make_chain() -> Callable[..., onnx.ModelProto]:
    return chain


@pytest.fixture
def plain() -> onnx.ModelProto:
    """Five convolutions that int8 does not hurt."""
    return chain(5, planted=None)


@pytest.fixture
def dense() -> onnx.ModelProto:
    """One Gemm."""
    rng = np.random.default_rng(8)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "layer")],
        "layer",
        [helper.make_tensor_value_info("x", 1, [16, 64])],
        [helper.make_tensor_value_info("y", 1, [16, 32])],
        [numpy_helper.from_array(rng.normal(0, 0.1, (64, 32)).astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def dead_feeds() -> Feeds:
    """Thirty inputs whose first channel is zero."""
    rng = np.random.default_rng(5)
    feeds = [[rng.uniform(0, 1, (1, 4, 10, 10)).astype(np.float32)] for _ in range(30)]
    for feed in feeds:
        feed[0][:, 0] = 0
    return feeds


@pytest.fixture
def outputs() -> tuple[OutputSpec, ...]:
    return (OutputSpec(name="y", shape=(1, 8, 10, 10), dtype="float32"),)
