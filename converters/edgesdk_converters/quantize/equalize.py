"""Equalizes channels before quantization: one scale per tensor serves channels of very different size badly.

The input of a convolution is divided by a factor per channel, and its weights are multiplied by the same factors, so the
float model stays what it is. The division is merged into what makes the input: a constant Mul / Add (the learned
scale-and-shift of PP-LCNet, a folded normalisation), or a convolution before it, through ReLU.

Source: cross-layer equalization, Nagel et al., Data-Free Quantization (arXiv 1906.04721); the square-root split for dense
weights is SmoothQuant's with alpha 0.5 (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute

Vector = NDArray[np.float64]
_LARGEST_FACTOR = 64.0
"""Bounds a channel's factor either way, so that a channel that calibration hardly saw cannot blow up its weights."""


def inputs(model: onnx.ModelProto) -> list[str]:
    """Tensors whose channel maxima :func:`equalize` wants to know."""
    view = GraphView(model)
    return sorted(
        {node.input[0] for node in view.graph.node if _convolution(view, node) and _absorber(view, node.input[0])}
    )


def equalize(model: onnx.ModelProto, channel_max: Mapping[str, Vector]) -> onnx.ModelProto:
    """A copy of ``model`` that computes the same with better balanced channels.

    Args:
        model: Float model of static shapes.
        channel_max: Largest magnitude per channel (C,) of every tensor that :func:`inputs` names.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    editor = _Editor(copy)
    for node in list(copy.graph.node):
        view = GraphView(copy)
        if not _convolution(view, node) or node.input[0] not in channel_max:
            continue
        chain = _absorber(view, node.input[0])
        if chain is None:
            continue
        weight = view.constant(node.input[1])
        assert weight is not None
        factor = _factors(weight, int(attribute(node, "group", 1)), channel_max[node.input[0]])
        for maker in chain:
            editor.divide(view, maker, factor)
        editor.multiply(node, weight, factor)
    return copy


def _factors(weight: NDArray[Any], group: int, largest: Vector) -> Vector:
    if group > 1:
        factor = largest.copy()  # one weight channel per input channel: its own scale takes up all of it
    else:
        columns = np.abs(weight.astype(np.float64)).max(axis=(0, *range(2, weight.ndim)))
        factor = np.sqrt(largest / np.maximum(columns, 1e-9))
    alive = factor > 0
    if not alive.any():
        return np.ones_like(factor)
    middle = float(np.exp(np.log(factor[alive]).mean()))
    return np.clip(np.where(alive, factor / middle, 1.0), 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def _convolution(view: GraphView, node: Any) -> bool:
    if node.op_type != "Conv" or node.input[1] not in view.constants:
        return False
    weight = view.constants[node.input[1]]
    group = int(attribute(node, "group", 1))
    depthwise = weight.dims[1] == 1 and group == weight.dims[0]
    return weight.data_type == onnx.TensorProto.FLOAT and (group == 1 or depthwise)


def _absorber(view: GraphView, name: str) -> list[Any] | None:
    """The nodes whose constants must be divided so that ``name`` comes out divided; None where that is impossible."""
    chain: list[Any] = []
    while True:
        if view.only_consumer(name) is None:
            return None
        maker = view.producer.get(name)
        if maker is None:
            return None
        if maker.op_type == "Relu":
            name = maker.input[0]
            continue
        if maker.op_type == "Conv":
            bias = len(maker.input) > 2 and maker.input[2] and maker.input[2] not in view.constants
            if maker.input[1] not in view.constants or bias:
                return None
            return [*chain, maker]
        if maker.op_type not in ("Mul", "Add"):
            return None
        at = _constant_side(view, maker)
        if at is None:
            return None
        chain.append(maker)
        if maker.op_type == "Mul":
            return chain
        name = maker.input[1 - at]


def _constant_side(view: GraphView, node: Any) -> int | None:
    """Which operand of a Mul or Add is one number, or one number per channel."""
    for at in (0, 1):
        value = view.constant(node.input[at])
        if value is None or value.dtype != np.float32:
            continue
        if value.size == 1 or (value.ndim in (3, 4) and value.size == value.shape[-3]):
            return at
    return None


class _Editor:
    """Replaces constants by new ones, never in place: several nodes may share one."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._count = 0

    def divide(self, view: GraphView, node: Any, factor: Vector) -> None:
        """Divide what ``node`` makes, per channel."""
        if node.op_type == "Conv":
            weight = view.constant(node.input[1])
            assert weight is not None
            node.input[1] = self._add(weight / factor.reshape(-1, *[1] * (weight.ndim - 1)))
            if len(node.input) > 2 and node.input[2]:
                bias = view.constant(node.input[2])
                assert bias is not None
                node.input[2] = self._add(bias / factor)
            return
        at = _constant_side(view, node)
        assert at is not None
        value = view.constant(node.input[at])
        assert value is not None
        node.input[at] = self._add((value.reshape(-1) / factor).reshape(1, -1, 1, 1))

    def multiply(self, node: Any, weight: NDArray[Any], factor: Vector) -> None:
        """Multiply the weights of ``node`` along its input channels."""
        depthwise = int(attribute(node, "group", 1)) > 1
        shape = (-1, *[1] * (weight.ndim - 1)) if depthwise else (1, -1, *[1] * (weight.ndim - 2))
        node.input[1] = self._add(weight * factor.reshape(shape))

    def _add(self, value: NDArray[Any]) -> str:
        name = f"equalized_{self._count}"
        self._count += 1
        self._graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name
