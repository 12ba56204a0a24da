"""Writes QDQ: 8-bit asymmetric activations per tensor, int8 symmetric weights per output channel, int32 biases.

Only the operators that do the work are quantized (Conv, Gemm, MatMul); what lies between them stays float. On the
models tried (PP-OCR, EfficientNet, DS-CNN) that is as fast as quantizing everything, and closer to the float model.

Activations are uint8, weights int8 (U8S8): MLAS has its fastest kernels for this pair on x86-64 with VNNI and on Arm with
the dot-product instructions, and int8 activations took twice as long in the elementwise and pooling operators.
``reduce_range`` halves the weights' range for x86-64 CPUs without VNNI, whose instruction saturates at 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.quantize.ranges import Range

QUANTIZED_OPS = frozenset({"Conv", "Gemm", "MatMul"})
_FUSED_ACTIVATIONS = frozenset({"Relu", "Clip"})
"""ONNX Runtime folds these into the QuantizeLinear that follows, so their output is quantized instead of the input."""
_TINY = 1e-12


def candidates(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that can be quantized: float, with constant weights that no other node shares, in graph order."""
    view = GraphView(model)
    return [node.name for node in view.graph.node if _quantizable(view, node)]


def activations(model: onnx.ModelProto) -> set[str]:
    """Tensors whose ranges :func:`insert` may need."""
    view = GraphView(model)
    names: set[str] = set()
    for node in view.graph.node:
        if _quantizable(view, node):
            names |= {node.input[0], _quantized_output(view, node)}
    return names


def insert(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    exclude: frozenset[str] = frozenset(),
    reduce_range: bool = False,
    means: Mapping[str, NDArray[np.float64]] | None = None,
) -> onnx.ModelProto:
    """A copy of ``model`` with QuantizeLinear / DequantizeLinear pairs around its candidates.

    Args:
        model: Float model of opset >= 13 with unique node names.
        ranges: Of every tensor that :func:`activations` names.
        exclude: Names of nodes that stay float.
        reduce_range: 7-bit weights, for x86-64 CPUs without VNNI.
        means: Mean per channel (C,) of the convolutions' inputs. With them, biases take up the shift of the mean output
            that rounding the weights causes (bias correction, Nagel et al., arXiv 1906.04721).
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = GraphView(copy)
    writer = _Writer(copy, ranges, 63 if reduce_range else 127, means or {})
    for node in list(copy.graph.node):
        if node.name in exclude or not _quantizable(view, node):
            continue
        source, target = node.input[0], _quantized_output(view, node)
        scale = writer.activation(source)
        writer.activation(target)
        writer.weights(node, view, scale)
        writer.take(node, source)
    writer.finish(view)
    return copy


class _Writer:
    """Collects the new nodes and initializers, then puts them in their place."""

    def __init__(
        self,
        model: onnx.ModelProto,
        ranges: Mapping[str, Range],
        weight_max: int,
        means: Mapping[str, NDArray[np.float64]],
    ) -> None:
        self._means = means
        self._graph = model.graph
        self._ranges = ranges
        self._weight_max = weight_max
        self._scales: dict[str, float] = {}
        self._weight_nodes: list[Any] = []
        self._taken: list[tuple[Any, str]] = []

    def activation(self, name: str) -> float:
        """Mark a tensor as quantized; its scale."""
        if name not in self._scales:
            span = self._ranges[name]
            self._scales[name] = max((span.high - span.low) / 255, _TINY)
        return self._scales[name]

    def take(self, node: Any, name: str) -> None:
        """Let ``node`` read the dequantized ``name``."""
        self._taken.append((node, name))

    def weights(self, node: Any, view: GraphView, input_scale: float) -> None:
        """Quantize the weights and the bias of ``node``."""
        weight = view.constant(node.input[1])
        assert weight is not None
        axis = _channel_axis(node)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight.astype(np.float64)).max(axis=others)
        scale = largest / self._weight_max
        bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if bias is not None:
            # The bias is int32 in units of input scale times weight scale: it must neither overflow nor vanish.
            needed = np.abs(np.broadcast_to(bias.reshape(-1), scale.shape).astype(np.float64)) / (input_scale * 2.0**30)
            scale = np.maximum(scale, needed)
        scale = np.maximum(scale, _TINY).astype(np.float32)
        shape = [1] * weight.ndim
        shape[axis] = -1
        q = np.clip(np.rint(weight / scale.reshape(shape)), -self._weight_max, self._weight_max).astype(np.int8)
        if bias is not None:
            bias = bias.reshape(-1) + self._shift(node, weight - q * scale.reshape(shape))
        node.input[1] = self._constant(f"{node.name}_weight", q, scale, np.int8, axis)
        if bias is not None:
            bias_scale = (scale.astype(np.float64) * input_scale).astype(np.float32)
            flat = np.broadcast_to(bias.reshape(-1), scale.shape).astype(np.float64)
            q_bias = np.clip(np.rint(flat / bias_scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            node.input[2] = self._constant(f"{node.name}_bias", q_bias, bias_scale, np.int32, 0)

    def _shift(self, node: Any, lost: NDArray[Any]) -> NDArray[np.float64] | float:
        """Mean output that the rounded-away part of a convolution's weights would have made."""
        mean = self._means.get(node.input[0])
        if mean is None or node.op_type != "Conv":
            return 0.0
        kernel = lost.astype(np.float64).sum(axis=tuple(range(2, lost.ndim)))
        if int(attribute(node, "group", 1)) == 1:
            return np.asarray(kernel @ mean)
        depthwise = kernel.shape[1] == 1 and kernel.shape[0] == mean.size
        return np.asarray(kernel[:, 0] * mean) if depthwise else 0.0

    def finish(self, view: GraphView) -> None:
        """Write the pairs behind the producers of the quantized tensors, and drop constants nobody reads any more."""
        pairs: dict[str, list[Any]] = {name: self._pair(name) for name in self._scales}
        for node, name in self._taken:
            node.input[0] = f"{name}_dequantized"
        for name in self._scales:
            # Readers that stay float read the dequantized value too, where an integer operator makes it.
            if name in view.outputs:
                continue
            for reader in view.consumers.get(name, []):
                for i, taken in enumerate(reader.input):
                    if taken == name and self._made_by_integer(view, name):
                        reader.input[i] = f"{name}_dequantized"
        ordered = list(self._weight_nodes)
        for name in self._scales:
            if name not in view.producer:
                ordered += pairs[name]
        for node in view.graph.node:
            ordered.append(node)
            for name in node.output:
                ordered += pairs.get(name, [])
        self._rename_outputs(view, ordered)
        del self._graph.node[:]
        self._graph.node.extend(ordered)
        used = {name for node in ordered for name in node.input}
        keep = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(keep)

    def _made_by_integer(self, view: GraphView, name: str) -> bool:
        node = view.producer.get(name)
        if node is not None and node.op_type in _FUSED_ACTIVATIONS:
            node = view.producer.get(node.input[0])
        return node is not None and any(node is taken for taken, _ in self._taken)

    def _rename_outputs(self, view: GraphView, ordered: list[Any]) -> None:
        """A quantized graph output keeps its name for the dequantized value."""
        for name in view.outputs:
            if name not in self._scales or not self._made_by_integer(view, name):
                continue
            for node in ordered:
                for names in (node.input, node.output):
                    for i, other in enumerate(names):
                        if other == name:
                            names[i] = f"{name}_float"
                        elif other == f"{name}_dequantized":
                            names[i] = name

    def _pair(self, name: str) -> list[Any]:
        span = self._ranges[name]
        scale = self._scales[name]
        zero = int(np.clip(np.rint(-span.low / scale), 0, 255))
        self._add(f"{name}_scale", np.asarray(scale, np.float32))
        self._add(f"{name}_zero_point", np.asarray(zero, np.uint8))
        parameters = [f"{name}_scale", f"{name}_zero_point"]
        return [
            helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}_quantized"], f"{name}_QuantizeLinear"),
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_quantized", *parameters],
                [f"{name}_dequantized"],
                f"{name}_DequantizeLinear",
            ),
        ]

    def _constant(self, name: str, q: NDArray[Any], scale: NDArray[np.float32], dtype: type, axis: int) -> str:
        self._add(f"{name}_quantized", q)
        self._add(f"{name}_scale", scale)
        self._add(f"{name}_zero_point", np.zeros(scale.shape, dtype))
        self._weight_nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"],
                [f"{name}_dequantized"],
                f"{name}_DequantizeLinear",
                axis=axis,
            )
        )
        return f"{name}_dequantized"

    def _add(self, name: str, value: NDArray[Any]) -> None:
        self._graph.initializer.append(numpy_helper.from_array(value, name))


def _channel_axis(node: Any) -> int:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1


def _quantizable(view: GraphView, node: Any) -> bool:
    if node.op_type not in QUANTIZED_OPS or node.domain not in ("", "ai.onnx"):
        return False
    weight = view.constants.get(node.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT or node.input[0] in view.constants:
        return False
    if node.op_type == "MatMul" and len(weight.dims) != 2:
        return False
    if node.op_type == "Gemm" and (
        attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0 or attribute(node, "transA", 0)
    ):
        return False
    return not (len(node.input) > 2 and node.input[2] and node.input[2] not in view.constants)


def _quantized_output(view: GraphView, node: Any) -> str:
    name: str = node.output[0]
    follower = view.only_consumer(name)
    if (
        follower is not None
        and follower.op_type in _FUSED_ACTIVATIONS
        and all(extra == "" or extra in view.constants for extra in follower.input[1:])
    ):
        return str(follower.output[0])
    return name
