"""Smooths what goes into matrix products: a few channels of a transformer are a hundred times as large as the others.

The input is divided by a factor per channel, and the weights are multiplied by the same factors, so the float model stays
what it is. The division is a Mul of its own: behind a LayerNormalization a residual reads the same tensor.

Source: SmoothQuant, Xiao et al. (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute

Vector = NDArray[np.float64]
_LARGEST_FACTOR = 64.0
"""Bounds a channel's factor either way, so that a channel that calibration hardly saw cannot blow up its weights."""


def inputs(model: onnx.ModelProto) -> list[str]:
    """Tensors whose channel maxima :func:`smooth` wants to know."""
    return sorted(_products(GraphView(model)))


def smooth(model: onnx.ModelProto, channel_max: Mapping[str, Vector], alpha: float) -> onnx.ModelProto:
    """A copy of ``model`` that computes the same from smoother inputs.

    Args:
        model: Float model of static shapes.
        channel_max: Largest magnitude per channel (C,) of every tensor that :func:`inputs` names.
        alpha: Share of the unevenness that the weights take, in a logarithmic sense: 0 to 1.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = GraphView(copy)
    behind: dict[str, Any] = {}
    for name, nodes in _products(view).items():
        rows = {node.name: _rows(view, node) for node in nodes}
        largest = np.max([np.abs(weight).max(axis=1) for weight in rows.values()], axis=0)
        factor = _factors(channel_max[name], largest, alpha)
        copy.graph.initializer.append(
            numpy_helper.from_array((1 / factor)[None].astype(np.float32), f"{name}_smoothing")
        )
        behind[name] = helper.make_node("Mul", [name, f"{name}_smoothing"], [f"{name}_smoothed"], f"{name}_smooth")
        for node in nodes:
            weight = rows[node.name] * factor[:, None]
            scaled = np.ascontiguousarray(weight.T if _transposed(node) else weight, np.float32)
            copy.graph.initializer.append(numpy_helper.from_array(scaled, f"{node.name}_smoothed_weight"))
            node.input[0], node.input[1] = f"{name}_smoothed", f"{node.name}_smoothed_weight"
    ordered: list[Any] = [behind[name] for name in view.inputs if name in behind]
    for node in copy.graph.node:
        ordered += [node, *(behind[name] for name in node.output if name in behind)]
    used = {name for node in ordered for name in node.input} | set(view.outputs)
    made = helper.make_graph(ordered, "", [], [])
    del copy.graph.node[:]
    copy.graph.node.extend(made.node)
    kept = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy


def _factors(seen: Vector, weights: Vector, alpha: float) -> Vector:
    alive = (seen > 0) & (weights > 0)
    if not alive.any():
        return np.ones_like(seen)
    factor = np.where(alive, seen, 1.0) ** alpha / np.where(alive, weights, 1.0) ** (1 - alpha)
    middle = float(np.exp(np.log(factor[alive]).mean()))
    return np.clip(np.where(alive, factor / middle, 1.0), 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def _products(view: GraphView) -> dict[str, list[Any]]:
    """Matrix products with constant weights by the (rows, channels) that they read."""
    found: dict[str, list[Any]] = {}
    for node in view.graph.node:
        weight = view.constants.get(node.input[1]) if node.op_type == "Gemm" else None
        if weight is None or weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in view.constants:
            continue
        if not attribute(node, "transA", 0):
            found.setdefault(node.input[0], []).append(node)
    return found


def _transposed(node: Any) -> bool:
    return bool(attribute(node, "transB", 0))


def _rows(view: GraphView, node: Any) -> Vector:
    """Weights (channels in, channels out)."""
    weight = view.constant(node.input[1])
    assert weight is not None
    return np.asarray(weight.T if _transposed(node) else weight, np.float64)
