"""Integers through the lowering: DequantizeLinear, operator, QuantizeLinear become one operator on int8 or int16 tensors.

The integers of the ONNX graph are taken over as they are: uint8 becomes int8 by subtracting 128 from values and zero points,
which changes no real number. Where TFLite has no integer kernel, or the graph's parameters do not satisfy it, the
pair stays and is written as DEQUANTIZE and QUANTIZE around the float operator.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgesdk_converters.quantize.coverage import Row, coverage
from edgesdk_converters.tflite.lower.fusion import complete, drop_dead
from edgesdk_converters.tflite.lower.ir import Graph, Info, Node, Operator, Quantization
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.quantized_products import bias_of, channels_of, to_dense
from edgesdk_converters.tflite.lower.quantized_tensors import DOMAIN, DQ, Q, equal, free, mark
from edgesdk_converters.tflite.lower.registry import Int8, rule_of

HYBRID = "/hybrid"
"""Ends the name of a DequantizeLinear whose weights a hybrid operator takes as integers, and quantizes its input as it comes."""
_MATRIX = 2
_INTEGERS = frozenset({"int8", "int16"})
_FREE_CODES = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})


def absorb(graph: Graph, keep_float: frozenset[str] = frozenset()) -> frozenset[str]:
    """Rewrite the graph onto integer tensors; in place.

    Args:
        graph: As read and fused.
        keep_float: Names of nodes that are computed in float although they stand between DequantizeLinear and QuantizeLinear.

    Returns:
        Names of the nodes that compute on integers now.
    """
    if not complete(graph) or not any(node.op_type in (Q, DQ) for node in graph.nodes):
        return frozenset()
    mark(graph)
    _drop_clamps(graph)
    _join_requantized(graph)
    names = _Absorber(graph, keep_float).run()
    _to_hybrid(graph)
    drop_dead(graph)
    _fold_biases(graph)
    return names


def faults(lowering: Lowering, absorbed: frozenset[str]) -> frozenset[str]:
    """Absorbed nodes that were refused, or whose TFLite operators mix float and integers: these are to stay float."""
    wrong = {problem.node for problem in lowering.problems}
    wrong |= {operator.node for operator in lowering.operators if _mixed(operator)}
    return frozenset(wrong & absorbed)


def _mixed(operator: Operator) -> bool:
    if operator.code in _FREE_CODES:
        return False
    tensors = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor is not None]
    kinds = {tensor.dtype for tensor in tensors}
    integer = [tensor for tensor in tensors if tensor.dtype in _INTEGERS]
    if (
        operator.inputs
        and operator.inputs[0] is not None
        and operator.inputs[0].dtype == "float32"
        and operator.outputs[0].dtype == "float32"
    ):
        return False  # hybrid: float activations, integer weights
    return bool(integer) and ("float32" in kinds or any(tensor.quantization is None for tensor in integer))


def _join_requantized(graph: Graph) -> None:
    """DequantizeLinear, QuantizeLinear in a row: nothing where the parameters are the same, else one QUANTIZE."""
    producers = graph.producers()
    replace: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = [replace.get(name, name) for name in node.inputs]
        maker = producers.get(node.inputs[0]) if node.op_type == Q else None
        if maker is None or maker.op_type != DQ:
            kept.append(node)
            continue
        source, target = graph.infos[maker.inputs[0]], graph.infos[node.outputs[0]]
        if (
            source.dtype == target.dtype
            and equal(source.quantization, target.quantization)
            and target.name not in graph.outputs
        ):
            replace[target.name] = source.name
            continue
        kept.append(Node("Requantize", node.name, [source.name], [target.name], domain=DOMAIN))
    graph.nodes = kept


def _drop_clamps(graph: Graph) -> None:
    """A Relu or Clip whose bounds lie outside what the integers behind it can say is their saturation."""
    producers, consumers = graph.producers(), graph.consumers()
    gone: list[Node] = []
    for node in graph.nodes:
        maker = producers.get(node.inputs[0]) if node.op_type == Q else None
        if maker is None or maker.op_type not in ("Relu", "Clip") or len(consumers[maker.outputs[0]]) != 1:
            continue
        info = graph.infos[node.outputs[0]]
        if info.quantization is None or info.dtype not in _INTEGERS:
            continue
        step, zero = float(info.quantization.scale[0]), int(info.quantization.zero_point[0])
        limits = np.iinfo(info.dtype)
        low, high = _bounds(graph, maker)
        if (limits.min - zero + 0.5) * step >= low and (limits.max - zero - 0.5) * step <= high:
            node.inputs[0] = maker.inputs[0]
            gone.append(maker)
    graph.remove(gone)


def _bounds(graph: Graph, node: Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    low = graph.constant(node.input(1)) if node.input(1) else np.asarray(-np.inf)
    high = graph.constant(node.input(2)) if node.input(2) else np.asarray(np.inf)
    if low is None or high is None:
        return np.inf, -np.inf
    return float(low.reshape(-1)[0]), float(high.reshape(-1)[0])


def _to_hybrid(graph: Graph) -> None:
    """Matrix products that quantize their input as it comes take the weights as they are."""
    producers = graph.producers()
    for node in graph.nodes:
        maker = producers.get(node.input(1)) if node.op_type == "MatMul" and not node.domain else None
        if maker is None or maker.op_type != DQ or not maker.name.endswith(HYBRID):
            continue
        node.inputs[1] = maker.inputs[0]
        to_dense(graph, node)


def _fold_biases(graph: Graph) -> None:
    """DEQUANTIZE takes no int32: what is left of the biases becomes float again."""
    gone: list[Node] = []
    for node in graph.nodes:
        info = graph.infos.get(node.inputs[0]) if node.op_type == DQ else None
        if info is None or info.data is None or info.quantization is None or info.dtype != "int32":
            continue
        shape = [1] * info.rank
        if info.quantization.axis is not None:
            shape[info.quantization.axis] = -1
        name = node.outputs[0]
        data = np.asarray(info.data * info.quantization.scale.reshape(shape), np.float32)
        graph.infos[name] = Info(name, tuple(data.shape), "float32", data)
        gone.append(node)
    graph.remove(gone)


class _Absorber:
    """Takes the pairs around one node after the other away."""

    def __init__(self, graph: Graph, keep_float: frozenset[str]) -> None:
        self._graph, self._keep_float = graph, keep_float
        self._producers, self._consumers = graph.producers(), graph.consumers()

    def run(self) -> frozenset[str]:
        names: set[str] = set()
        gone: list[Node] = []
        for node in self._graph.nodes:
            row = coverage().operators.get(node.op_type)
            if row is None or not row.tflite or node.domain or node.name in self._keep_float:
                continue
            taken = self._absorb(node, row)
            if taken is not None:
                names.add(node.name)
                gone += taken
        self._graph.remove(gone)
        return frozenset(names)

    def _absorb(self, node: Node, row: Row) -> list[Node] | None:
        """Nodes that became part of this one, or None where it stays float."""
        last, bias = self._with_bias(node)
        if row.bias is not None and node.input(row.bias):
            bias = node.input(row.bias)
        quantizers = [self._quantizer(name) for name in last.outputs if name]
        outputs = [q.outputs[0] for q in quantizers if q is not None]
        if len(outputs) < len(quantizers) or not outputs:
            return None
        data, weights = self._places(node, row)
        sources = {place: self._integer(node.inputs[place]) for place in (*data, *weights)}
        if any(source is None for source in sources.values()):
            return None
        inputs = [sources.get(place) or name for place, name in enumerate(node.inputs)]
        infos = self._graph.infos
        kind = infos[outputs[0]].dtype
        if kind not in _INTEGERS or any(infos[name].dtype != kind for name in (*outputs, *(inputs[p] for p in data))):
            return None
        dense = node.op_type in ("MatMul", "Gemm") and weights
        rule = rule_of("Dense", DOMAIN) if dense else rule_of(node.op_type)
        if rule is None or rule.int8 is None or (kind == "int16" and not rule.int8.int16):
            return None
        if kind == "int16" and any(_shifts(infos[name]) for name in (*outputs, *(inputs[p] for p in data))):
            return None
        if not self._satisfied(rule.int8, row, [inputs[p] for p in data], outputs):
            return None
        if weights:
            biased = self._weighted(node, inputs[data[0]], inputs[weights[0]], bias)
            if biased is None:
                return None
            inputs = [*inputs[: weights[0] + 1], *biased]
        node.inputs, node.outputs, node.activation = (
            inputs,
            outputs,
            last.activation if last is not node else node.activation,
        )
        if dense:
            to_dense(self._graph, node)
        return [*(q for q in quantizers if q is not None), *([last] if last is not node else [])]

    def _places(self, node: Node, row: Row) -> tuple[list[int], list[int]]:
        """Which inputs are activations, and which the weights."""
        count = len(node.inputs)
        weights = [row.weight] if row.weight is not None and row.weight < count else []
        data = [p for p in (range(count) if row.data == "all" else row.data) if p < count]
        if node.op_type == "MatMul":
            constant = self._graph.constant(self._integer(node.inputs[1]) or "")
            if constant is None or constant.ndim != _MATRIX:
                return [0, 1], []
        return data, weights

    def _weighted(self, node: Node, data: str, weights: str, bias: str | None) -> list[str] | None:
        """The bias as the kernel takes it ([] for none); None where weights or bias do not allow integers."""
        infos = self._graph.infos
        channels, scale = channels_of(node), infos[weights].quantization
        if not self._symmetric(weights) or scale is None or channels is None or scale.axis not in (None, channels):
            return None
        if bias is None or node.attribute("beta", 1.0) == 0.0:
            return []
        step = infos[data].quantization
        assert step is not None
        product = np.asarray(step.scale[0] * scale.scale * np.float32(node.attribute("alpha", 1.0)), np.float32)
        made = bias_of(
            self._graph,
            bias,
            self._integer(bias),
            product,
            infos[weights].shape[channels],
            float(node.attribute("beta", 1.0)),
        )
        if made is None:
            return None
        name = free(self._graph, f"{node.name}/bias_int32")
        kind = "int64" if infos[data].dtype == "int16" else "int32"  # int64 is what int16 kernels take in every version
        axis = 0 if product.size > 1 else None
        quantization = Quantization(product, np.zeros(product.shape, np.int64), axis)
        infos[name] = Info(name, made.shape, kind, made.astype(kind), quantization)
        return [name]

    def _with_bias(self, node: Node) -> tuple[Node, str | None]:
        """The Add of a constant vector behind a MatMul, and that constant."""
        readers = self._consumers.get(node.outputs[0], [])
        if node.op_type != "MatMul" or len(readers) != 1 or readers[0].op_type != "Add":
            return node, None
        add = readers[0]
        other = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
        info = self._graph.infos.get(self._integer(other) or other)
        shape = self._graph.infos[node.outputs[0]].shape
        if info is None or info.data is None or self._graph.infos[add.outputs[0]].shape != shape:
            return node, None
        vector = info.shape == shape[-1:] and (info.dtype == "int32" or info.quantization is None)
        return (add, other) if vector else (node, None)

    def _quantizer(self, name: str) -> Node | None:
        readers = self._consumers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != Q:
            return None
        info = self._graph.infos[readers[0].outputs[0]]
        return readers[0] if info.quantization is not None and info.quantization.axis is None else None

    def _integer(self, name: str) -> str | None:
        """The integer tensor behind a dequantized one."""
        maker = self._producers.get(name)
        if maker is None or maker.op_type != DQ:
            return None
        return maker.inputs[0] if self._graph.infos[maker.inputs[0]].quantization is not None else None

    def _satisfied(self, int8: Int8, row: Row, inputs: Iterable[str], outputs: Iterable[str]) -> bool:
        infos = self._graph.infos
        made = [infos[name].quantization for name in outputs]
        if int8.kind == "same" or row.scale == "same":
            return all(equal(infos[name].quantization, made[0]) for name in inputs) and all(
                equal(other, made[0]) for other in made
            )
        if int8.kind == "fixed" and row.fixed is not None:
            wide = infos[next(iter(outputs))].dtype == "int16"
            scale, zero = (row.fixed.scale(16), 0) if wide else (int8.scale, int8.zero_point)
            wanted = Quantization(np.asarray([scale], np.float32), np.asarray([zero], np.int64))
            return all(equal(other, wanted) for other in made)
        return True

    def _symmetric(self, name: str) -> bool:
        """Whether a tensor can be weights.

        4-bit ones stay in int8: TFLite's kernels for int4 convolutions unpack them in every inference and took 1.8
        (EfficientNet-Lite0) and 2.6 times (DS-CNN) float's time; a bundle is compressed, and 15 of 256 values compress well.
        """
        info = self._graph.infos[name]
        constant = info.data is not None and info.quantization is not None and info.dtype == "int8"
        return constant and info.quantization is not None and not info.quantization.zero_point.any()


def _shifts(info: Info) -> bool:
    """Whether a zero point moves the integers: the int16 kernels have none."""
    return info.quantization is not None and bool(info.quantization.zero_point.any())
