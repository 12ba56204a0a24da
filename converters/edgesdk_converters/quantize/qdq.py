"""Writes a plan into a graph: QuantizeLinear / DequantizeLinear around every node that becomes integer.

The graph serves both formats: ONNX Runtime fuses each DequantizeLinear, operator, QuantizeLinear into its integer kernel,
and :mod:`edgesdk_converters.tflite.lower` writes the same integers as TFLite operators. What TFLite's specification asks of
scales is honoured here already (:mod:`edgesdk_converters.quantize.coverage`).

Activations are uint8, weights int8 (U8S8): MLAS has its fastest kernels for this pair on x86-64 with VNNI and on Arm with
the dot-product instructions, and for uint8 in the elementwise and pooling operators; TFLite's int8 is the same minus 128. 16-bit activations are int16 with zero point 0, as TFLite's int16 kernels want them; ONNX has them from
opset 21 on, to which the graph is then raised. ``reduce_range`` halves the weights' range for x86-64 CPUs without VNNI,
whose instruction saturates at 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, version_converter

from edgesdk.errors import ConversionError
from edgesdk_converters.graph.view import GraphView, attribute
from edgesdk_converters.quantize.linear import product
from edgesdk_converters.quantize.ranges import Range
from edgesdk_converters.quantize.recipe import Plan, Scheme
from edgesdk_converters.quantize.scales import TINY, Params, Scales, bits_of
from edgesdk_converters.quantize.units import INTEGER, Quantizable, Unit, effective, find_units, weight_axis
from edgesdk_converters.quantize.weight_formats import WeightQuantizer, WeightWriter, nearest, spread

__all__ = [
    "Quantizable",
    "WeightQuantizer",
    "activations",
    "candidates",
    "effective",
    "insert",
    "nearest",
    "quantizable",
]

WIDE_OPSET = 21
"""First one with 16-bit activations and 4-bit weights."""
_BLOCKWISE = frozenset({"MatMul", "Gemm"})
_WIDE_SCHEMES: frozenset[Scheme] = frozenset({"w8a16", "w4a8", "w4"})


def quantizable(model: onnx.ModelProto) -> tuple[Quantizable, ...]:
    """The nodes that can be something else than float, in graph order.

    Glue that would stay float although everything is asked to be integer (what decodes boxes and scores behind the last
    convolution, what normalises the input) is not among them.
    """
    units = find_units(model)
    wanted: dict[str, Scheme] = {unit.info.name: unit.info.schemes[0] for unit in units}
    schemes = effective(model, wanted, units)
    return tuple(unit.info for unit in units if schemes[unit.info.name] != "float")


def candidates(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes with constant weights that can be quantized, in graph order."""
    return [
        unit.info.name
        for unit in find_units(model)
        if unit.info.weight_elements and unit.node.op_type not in ("ConvTranspose", "Gather")
    ]


def activations(model: onnx.ModelProto, schemes: Mapping[str, Scheme] | None = None) -> set[str]:
    """Tensors whose ranges :func:`insert` may need; with ``schemes``, for that choice only."""
    units = find_units(model)
    wanted: dict[str, Scheme] = {unit.info.name: unit.info.schemes[0] for unit in units}
    chosen = effective(model, wanted if schemes is None else schemes, units)
    view = GraphView(model)
    names: set[str] = set()
    for unit in units:
        if chosen[unit.info.name] in INTEGER:
            names |= {name for i in unit.data if (name := unit.node.input[i]) not in view.constants}
            names |= {name for name in unit.outputs if name}
        elif chosen[unit.info.name] in ("w8", "w4") and unit.node.op_type == "Conv":
            names.add(unit.node.input[0])  # for its mean
    return names


def insert(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Mapping[str, Range],
    *,
    weights: WeightQuantizer = nearest,
    reduce_range: bool = False,
    means: Mapping[str, NDArray[np.float64]] | None = None,
) -> onnx.ModelProto:
    """A copy of ``model`` in which every node is what ``plan`` says.

    Args:
        model: Float model of opset >= 13, static shapes, unique node names.
        plan: Scheme of every node; those it does not name stay float, and so does glue that no integers surround
            (:func:`effective` tells). Its weight options are followed; calibrator and equalization are the caller's.
        ranges: Of every tensor that :func:`activations` names.
        weights: Finds the integers of the weights.
        reduce_range: 7-bit weights, for x86-64 CPUs without VNNI.
        means: Mean per channel (C,) of the convolutions' inputs. With them, and where the plan says so, biases take up the
            shift of the mean output that rounding the weights causes (bias correction, Nagel et al., arXiv 1906.04721).

    Raises:
        ConversionError: A scheme needs opset 21, and the graph cannot be raised to it.
    """
    copy = _widened(model) if _WIDE_SCHEMES & set(plan.schemes.values()) else onnx.ModelProto()
    if not copy.graph.node:
        copy.CopyFrom(model)
    units = find_units(copy)
    schemes = effective(copy, plan.schemes, units)
    writer = WeightWriter(
        copy, weights, per_channel=plan.per_channel, limit=63 if reduce_range else 127, block_size=plan.block_size
    )
    integer = [unit for unit in units if schemes[unit.info.name] in INTEGER]
    graph = _Graph(copy, Scales(copy, integer, schemes, ranges), writer, means or {} if plan.bias_correction else {})
    for unit in units:
        scheme = schemes[unit.info.name]
        if scheme in INTEGER:
            graph.integer(unit, scheme)
        elif scheme == "dynamic":
            graph.replace(unit, writer.dynamic(unit, graph.view))
        elif scheme in ("w8", "w4"):
            graph.store(unit, 8 if scheme == "w8" else 4)
    graph.finish()
    return copy


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of opset 21 or later, with the same names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    entry = next(entry for entry in copy.opset_import if entry.domain in ("", "ai.onnx"))
    if entry.version >= WIDE_OPSET:
        return copy
    try:
        raised = version_converter.convert_version(copy, WIDE_OPSET)
    except Exception as error:  # the converter's C++ core raises RuntimeError and its own types
        first = str(error).strip().splitlines()[0][:200]
        raise ConversionError(
            f"{model.graph.name}: 16-bit activations and 4-bit weights need opset {WIDE_OPSET}, and onnx's version converter "
            f"cannot raise this graph to it: {first}. Use w8a8, w8 or dynamic, or export the model with opset {WIDE_OPSET}."
        ) from error
    raised.ir_version = max(int(raised.ir_version), 10)  # belongs to opset 21
    del raised.metadata_props[:]
    raised.metadata_props.extend(model.metadata_props)
    return raised


class _Graph:
    """Changes operands as units become integer, then puts the new nodes in their place."""

    def __init__(
        self, model: onnx.ModelProto, scales: Scales, writer: WeightWriter, means: Mapping[str, NDArray[np.float64]]
    ) -> None:
        self.view = GraphView(model)
        self._graph = model.graph
        self._scales, self._writer, self._means = scales, writer, means
        self._behind: dict[str, list[Any]] = {}
        """Tensor -> the nodes to write behind the one that makes it."""
        self._read: dict[tuple[str, Params], str] = {}
        self._replaced: dict[str, list[Any]] = {}
        for name, params in scales.given.items():
            self._read[name, params] = name
        for name in scales.made:
            self._read[name, scales.of_result(name)] = self._pair(name, name, name, scales.of_result(name))

    def integer(self, unit: Unit, scheme: Scheme) -> None:
        """Let a unit read integers and make integers."""
        node, bits = unit.node, bits_of(scheme)
        source = node.input[unit.data[0]]
        taken: dict[int, Params] = {}
        for index in unit.data:
            params = taken[index] = self._scales.of_operand(unit, index, bits)
            name = node.input[index]
            node.input[index] = (
                self._constant(unit, index, name, params)
                if name in self.view.constants
                else self._operand(name, params)
            )
        if unit.info.weight_elements:
            self._weights(unit, source, taken[unit.data[0]].scale, 4 if scheme == "w4a8" else 8)

    def store(self, unit: Unit, bits: int) -> None:
        """Keep a unit's arithmetic in float, and its weights in integers."""
        if unit.node.op_type == "Gather":
            self.replace(unit, self._writer.table(unit, self.view))
            return
        weight = self.view.constant(unit.node.input[1])
        assert weight is not None
        if bits == 4 and unit.node.op_type in _BLOCKWISE:
            self.replace(unit, self._writer.blockwise(unit, weight))
            return
        node = unit.node
        q, scale, axis = self._writer.quantize(unit, weight, bits=bits, computed=False)
        bias = self._bias(unit)
        if bias is not None and unit.bias_add is None:
            shifted = bias + self._shift(unit, node.input[0], weight - q * spread(scale, q.ndim, axis))
            self._writer.add(f"{unit.info.name}_bias", np.asarray(shifted, np.float32))
            node.input[2] = f"{unit.info.name}_bias"
        node.input[1] = self._writer.stored(unit, q, scale, axis, bits=bits)

    def replace(self, unit: Unit, nodes: list[Any]) -> None:
        """Write other nodes in place of the unit's first."""
        self._replaced[unit.node.output[0]] = nodes

    def finish(self) -> None:
        """Write everything in order; drop constants that nobody reads any more."""
        for name in self._scales.made:
            # Whoever stays float reads the dequantized value; inside a unit the float one never leaves it.
            for reader in self.view.consumers.get(name, []):
                for node in self._replaced.get(reader.output[0], [reader]) if reader.output else [reader]:
                    for i, taken in enumerate(node.input):
                        if taken == name:
                            node.input[i] = f"{name}_dequantized"
        ordered = list(self._writer.nodes)
        for name, nodes in self._behind.items():
            if name not in self.view.producer:
                ordered += nodes
        for node in self.view.graph.node:
            ordered += self._replaced.get(node.output[0], [node]) if node.output else [node]
            for name in node.output:
                ordered += self._behind.get(name, [])
        self._rename_outputs(ordered)
        del self._graph.node[:]
        self._graph.node.extend(ordered)
        used = {name for node in ordered for name in node.input} | set(self.view.outputs)
        keep = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(keep)

    def _operand(self, name: str, params: Params) -> str:
        """The dequantized value of ``name`` as integers of ``params``; quantized (again) where it is not yet."""
        if (name, params) not in self._read:
            known = sum(1 for tensor, _ in self._read if tensor == name)
            source = f"{name}_dequantized" if name in self._scales.made else name
            stem = name if known == 0 else f"{name}_requantized{known}"
            self._read[name, params] = self._pair(name, source, stem, params)
        return self._read[name, params]

    def _pair(self, behind: str, source: str, stem: str, params: Params) -> str:
        parameters = self._parameters(stem, params)
        self._behind.setdefault(behind, []).extend(
            [
                helper.make_node(
                    "QuantizeLinear", [source, *parameters], [f"{stem}_quantized"], f"{stem}_QuantizeLinear"
                ),
                helper.make_node(
                    "DequantizeLinear",
                    [f"{stem}_quantized", *parameters],
                    [f"{stem}_dequantized"],
                    f"{stem}_DequantizeLinear",
                ),
            ]
        )
        return f"{stem}_dequantized"

    def _constant(self, unit: Unit, index: int, name: str, params: Params) -> str:
        value = self.view.constant(name)
        assert value is not None
        stem = f"{unit.info.name}_operand{index}"
        self._writer.add(f"{stem}_quantized", params.quantize(value))
        self._writer.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{stem}_quantized", *self._parameters(stem, params)],
                [f"{stem}_dequantized"],
                f"{stem}_DequantizeLinear",
            )
        )
        return f"{stem}_dequantized"

    def _parameters(self, stem: str, params: Params) -> list[str]:
        self._writer.add(f"{stem}_scale", np.asarray(params.scale, np.float32))
        self._writer.add(f"{stem}_zero_point", np.asarray(params.zero_point, params.dtype))
        return [f"{stem}_scale", f"{stem}_zero_point"]

    def _weights(self, unit: Unit, source: str, input_scale: float, bits: int) -> None:
        node = unit.node
        weight = self.view.constant(node.input[1])
        assert weight is not None
        q, scale, axis = self._writer.quantize(unit, weight, bits=bits)
        bias = self._bias(unit)
        if bias is not None:
            # The bias is int32 in units of input scale times weight scale: it must neither overflow nor vanish.
            needed = np.abs(bias.astype(np.float64)) / (input_scale * 2.0**30)
            needed = (
                np.maximum(needed, TINY).astype(np.float32)
                if scale.ndim
                else np.asarray(needed.max(initial=TINY), np.float32)
            )
            if (needed > scale).any():
                larger = np.maximum(scale, needed)
                q = np.rint(q * spread(scale / larger, q.ndim, axis)).astype(np.int8)
                scale = larger
            bias = bias + self._shift(unit, source, weight - q * spread(scale, q.ndim, axis))
            bias_scale = (scale.astype(np.float64) * input_scale).astype(np.float32)
            q_bias = np.clip(np.rint(bias / bias_scale), -(2**31) + 1, 2**31 - 1).astype(np.int32)
            name = self._writer.bias(unit, q_bias, bias_scale)
            if unit.bias_add is None:
                node.input[2] = name
            else:
                at = 0 if unit.bias_add.input[0] in self.view.constants else 1
                unit.bias_add.input[at] = name
        node.input[1] = self._writer.integer(unit, q, scale, axis, bits=bits)

    def _bias(self, unit: Unit) -> NDArray[Any] | None:
        """(C,), or None without one."""
        node, add = unit.node, unit.bias_add
        if add is not None:
            return self.view.constant(add.input[0] if add.input[0] in self.view.constants else add.input[1])
        index = unit.row.bias
        value = (
            self.view.constant(node.input[index])
            if index is not None and len(node.input) > index and node.input[index]
            else None
        )
        if value is None:
            return None
        groups = int(attribute(node, "group", 1)) if node.op_type == "ConvTranspose" else 1
        channels = self.view.constants[node.input[1]].dims[weight_axis(node)] * groups
        return np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float32)

    def _shift(self, unit: Unit, source: str, lost: NDArray[Any]) -> NDArray[np.float64] | float:
        """Mean output that the rounded-away part of a convolution's weights would have made."""
        mean = self._means.get(source)
        if mean is None or unit.node.op_type != "Conv":
            return 0.0
        kernel = lost.astype(np.float64).sum(axis=tuple(range(2, lost.ndim)))
        if int(attribute(unit.node, "group", 1)) == 1:
            return product(kernel, mean[:, None])[:, 0]
        depthwise = kernel.shape[1] == 1 and kernel.shape[0] == mean.size
        return np.asarray(kernel[:, 0] * mean) if depthwise else 0.0

    def _rename_outputs(self, ordered: list[Any]) -> None:
        """A quantized graph output keeps its name for the dequantized value."""
        for name in self.view.outputs:
            if name not in self._scales.made:
                continue
            for node in ordered:
                for names in (node.input, node.output):
                    for i, other in enumerate(names):
                        if other == name:
                            names[i] = f"{name}_float"
                        elif other == f"{name}_dequantized":
                            names[i] = name
