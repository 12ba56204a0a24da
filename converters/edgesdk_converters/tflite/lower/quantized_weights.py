"""Weights that are integers while the activations are not: weight-only and dynamic quantization, as :mod:`edgesdk_converters.quantize` writes them.

These patterns consist of constants mostly, and would be computed away into float weights when the graph is read. Here they become
DequantizeLinear, which stays, before that happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.tflite.lower.ir import Operator, Quantization, Tensor
from edgesdk_converters.tflite.lower.quantized import HYBRID

Array = NDArray[Any]
_INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT4})
_FOUND = frozenset({"Cast", "MatMulInteger", "MatMulNBits"})


def unfold(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with DequantizeLinear in front of integer weights; the model itself where there are none."""
    if not any(node.op_type in _FOUND for node in model.graph.node):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    editor = _Editor(copy)
    for node in list(copy.graph.node):
        if node.op_type == "Cast":
            editor.weight_only(node)
        elif node.op_type == "MatMulInteger" and node.domain in ("", "ai.onnx"):
            editor.dynamic(node)
        elif node.op_type == "MatMulNBits":
            editor.blockwise(node)
    return editor.finish()


def settle(operators: list[Operator]) -> list[Operator]:
    """Integer weights are brought into their layout as constants: a TRANSPOSE or RESHAPE of what DEQUANTIZE makes of them goes."""
    made = {id(operator.outputs[0]): operator for operator in operators if operator.code == "DEQUANTIZE"}
    kept: list[Operator] = []
    for operator in operators:
        kept.append(operator)
        source = operator.inputs[0] if operator.inputs else None
        maker = made.get(id(source)) if operator.code in ("TRANSPOSE", "RESHAPE") else None
        weights = maker.inputs[0] if maker is not None else None
        if weights is None or weights.data is None or weights.quantization is None:
            continue
        target = operator.outputs[0]
        if operator.code == "TRANSPOSE":
            order = operator.inputs[1]
            assert order is not None
            assert order.data is not None
            moved = tuple(int(axis) for axis in order.data)
            data, axes = weights.data.transpose(moved), {old: new for new, old in enumerate(moved)}
        else:
            data, axes = weights.data.reshape(target.shape), _kept_axes(weights.shape, target.shape)
        axis = weights.quantization.axis
        if axis is not None and axis not in axes:
            continue
        quantization = Quantization(
            weights.quantization.scale, weights.quantization.zero_point, None if axis is None else axes[axis]
        )
        settled = Tensor(f"{target.name}_{weights.dtype}", target.shape, weights.dtype, np.array(data), quantization)
        kept[-1] = Operator("DEQUANTIZE", [settled], [target], {}, operator.node)
        made[id(target)] = kept[-1]
    return kept


def _kept_axes(before: tuple[int, ...], after: tuple[int, ...]) -> dict[int, int]:
    """Axes that a reshape leaves alone, old to new."""
    return {
        old: new
        for old, size in enumerate(before)
        for new, other in enumerate(after)
        if size == other and np.prod(before[:old]) == np.prod(after[:new])
    }


class _Editor:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._view = GraphView(model)
        self._instead: dict[str, list[Any]] = {}
        """First output of a node -> what is written in its place."""

    def weight_only(self, cast: Any) -> None:
        """Integer constant, Cast, Mul by its scale."""
        view = self._view
        tensor = view.constants.get(cast.input[0])
        mul = view.only_consumer(cast.output[0])
        if tensor is None or tensor.data_type not in _INTEGERS or mul is None or mul.op_type != "Mul":
            return
        other = mul.input[1] if mul.input[0] == cast.output[0] else mul.input[0]
        scale = view.constant(other)
        if scale is None or scale.dtype != np.float32:
            return
        axis = _axis(scale, len(tensor.dims))
        if axis is None:
            return
        name = mul.output[0]
        values = np.asarray(numpy_helper.to_array(tensor)).astype(np.int8)
        self._instead[cast.output[0]] = []
        self._instead[name] = [self._dequantize(name, values, scale.reshape(-1), axis)]

    def dynamic(self, product: Any) -> None:
        """DynamicQuantizeLinear, MatMulInteger, Cast, Mul by the scales: one hybrid operator of TFLite."""
        view = self._view
        dynamic, weight = view.producer.get(product.input[0]), view.constant(product.input[1])
        cast = view.only_consumer(product.output[0])
        if cast is None or cast.op_type != "Cast" or weight is None:
            return
        mul = view.only_consumer(cast.output[0])
        if dynamic is None or dynamic.op_type != "DynamicQuantizeLinear" or mul is None or mul.op_type != "Mul":
            return
        scales = view.producer.get(mul.input[1] if mul.input[0] == cast.output[0] else mul.input[0])
        if scales is None or scales.op_type != "Mul" or weight.dtype != np.int8 or weight.ndim != 2:
            return
        scale = next((value for name in scales.input if (value := view.constant(name)) is not None), None)
        if scale is None or (len(product.input) > 3 and product.input[3]):
            return
        name = mul.output[0]
        source = f"{name}_weights"
        made = [
            self._dequantize(source, weight, scale.reshape(-1), 1, HYBRID),
            helper.make_node("MatMul", [dynamic.input[0], source], [name], product.name),
        ]
        for node in (product, cast, scales):
            self._instead[node.output[0]] = []
        self._instead[name] = made
        if all(reader in (product, scales) for output in dynamic.output for reader in view.consumers.get(output, [])):
            self._instead[dynamic.output[0]] = []

    def blockwise(self, node: Any) -> None:
        """MatMulNBits of symmetric 4-bit blocks: each block is a channel of a tensor that is reshaped behind DEQUANTIZE."""
        view = self._view
        packed, scale = view.constant(node.input[1]), view.constant(node.input[2])
        if packed is None or scale is None or attribute(node, "bits", 4) != 4 or any(node.input[3:]):
            return
        inner, columns, size = (int(attribute(node, key)) for key in ("K", "N", "block_size"))
        values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1, size).astype(np.int16) - 8
        name = node.output[0]
        blocks, flat, whole, turned = (f"{name}_{part}" for part in ("blocks", "flat", "whole", "weights"))
        self._add(f"{flat}_shape", np.asarray([columns, -1], np.int64))
        made = [
            self._dequantize(blocks, values.astype(np.int8), scale.reshape(-1), 0),
            helper.make_node("Reshape", [blocks, f"{flat}_shape"], [flat], f"{name}_flat_node"),
        ]
        if values.size // columns != inner:
            for part, value in (("starts", 0), ("ends", inner), ("axes", 1)):
                self._add(f"{whole}_{part}", np.asarray([value], np.int64))
            parts = [f"{whole}_{part}" for part in ("starts", "ends", "axes")]
            made.append(helper.make_node("Slice", [flat, *parts], [whole], f"{name}_slice"))
        made += [
            helper.make_node("Transpose", [whole if len(made) > 2 else flat], [turned], f"{name}_turn", perm=[1, 0]),
            helper.make_node("MatMul", [node.input[0], turned], [name], node.name),
        ]
        self._instead[name] = made

    def finish(self) -> onnx.ModelProto:
        """The model with all replacements."""
        graph = self._model.graph
        nodes = [new for node in graph.node for new in self._instead.get(node.output[0] if node.output else "", [node])]
        del graph.node[:]
        graph.node.extend(nodes)
        return self._model

    def _dequantize(self, name: str, values: Array, scale: Array, axis: int, mark: str = "") -> Any:
        self._add(f"{name}_int8", values)
        self._add(f"{name}_int8_scale", np.asarray(scale if scale.size > 1 else scale.reshape(()), np.float32))
        operands = [f"{name}_int8", f"{name}_int8_scale"]
        return helper.make_node("DequantizeLinear", operands, [name], f"{name}_DequantizeLinear{mark}", axis=axis)

    def _add(self, name: str, value: Array) -> None:
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(value, order="C"), name))


def _axis(scale: Array, rank: int) -> int | None:
    """The one axis along which a scale that multiplies a tensor of ``rank`` axes differs; 0 for a single scale."""
    if scale.size == 1:
        return 0
    long = [axis for axis, size in enumerate(scale.shape) if size > 1]
    return long[0] + rank - scale.ndim if len(long) == 1 else None
