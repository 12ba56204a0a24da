"""Weights and biases of integer products, as TFLite's kernels demand them."""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node, Quantization
from edgesdk_converters.tflite.lower.quantized_tensors import DOMAIN, free

_BIAS_LIMIT = 2**31


def bias_of(graph: Graph, name: str, source: str | None, step: Array, channels: int, factor: float) -> Array | None:
    """A constant bias in steps of data times weights, as the kernels demand; None where that cannot be.

    The integers of the model are taken over where they count in these steps; others are rounded to them.
    """
    infos = graph.infos
    constant = infos[source or name].data if (source or name) in infos else None
    if constant is None or constant.size not in (1, channels) or (constant.shape or (1,))[-1] != constant.size:
        return None
    values = constant.reshape(-1).astype(np.float64)
    given = infos[source].quantization if source else None
    if given is not None:
        alike = np.allclose(given.scale, step, rtol=1e-6, atol=0) and not given.zero_point.any()
        if alike and infos[source or ""].dtype == "int32" and factor == 1.0:
            return np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.int64)
        values = (values - given.zero_point) * given.scale
    rounded = np.rint(np.broadcast_to(values * factor, (channels,)) / step)
    return rounded.astype(np.int64) if np.abs(rounded).max(initial=0) < _BIAS_LIMIT else None


def channels_of(node: Node) -> int | None:
    """The axis of a node's weights that its output channels lie along; None where its kernel has no such axis."""
    if node.op_type == "Gemm":
        plain = not node.attribute("transA", 0) and float(node.attribute("alpha", 1.0)) > 0
        return (0 if node.attribute("transB", 0) else 1) if plain else None
    if node.op_type == "ConvTranspose":
        flat = node.attribute("group", 1) == 1 and max(node.attribute("dilations") or [1]) == 1
        return 1 if flat else None
    return 0 if node.op_type == "Conv" else 1


def to_dense(graph: Graph, node: Node) -> None:
    """Weights (N, K), whatever MatMul and Gemm had."""
    info = graph.infos[node.inputs[1]]
    values = info.data
    assert values is not None
    alpha = float(node.attribute("alpha", 1.0)) if node.op_type == "Gemm" else 1.0
    if alpha != 1.0 and info.quantization is not None:
        scale = np.asarray(info.quantization.scale * np.float32(alpha), np.float32)
        scaled = Quantization(scale, info.quantization.zero_point, info.quantization.axis)
        info = Info(free(graph, f"{info.name}_scaled"), info.shape, info.dtype, values, scaled)
        graph.infos[info.name] = info
        node.inputs[1] = info.name
    if not (node.op_type == "Gemm" and node.attribute("transB", 0)):
        name = free(graph, f"{info.name}_transposed")
        quantization = info.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = Quantization(quantization.scale, quantization.zero_point, 1 - quantization.axis)
        data: Array = np.ascontiguousarray(values.T)
        graph.infos[name] = Info(name, tuple(data.shape), info.dtype, data, quantization)
        node.inputs[1] = name
    node.op_type, node.domain = "Dense", DOMAIN
