"""Integers through the lowering: DequantizeLinear, operator, QuantizeLinear become one operator on int8 or int16 tensors.

The integers of the ONNX graph are taken over as they are: uint8 becomes int8 by subtracting 128 from values and zero points,
which changes no real number. Where TFLite has no integer kernel, or the graph's parameters do not satisfy it, the
pair stays and is written as DEQUANTIZE and QUANTIZE around the float operator.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgesdk_converters.quantize.coverage import Row, coverage
from edgesdk_converters.tflite.lower.fusion import drop_dead
from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node, Operator, Quantization
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.registry import Int8, rule_of

DOMAIN = "edgesdk.quantized"
"""Of the nodes that exist between reading and writing only: `Requantize` and `Dense`."""
HYBRID = "/hybrid"
"""Ends the name of a DequantizeLinear whose weights a hybrid operator takes as integers, and quantizes its input as it comes."""
_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
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
    if not any(node.op_type in (_Q, _DQ) for node in graph.nodes):
        return frozenset()
    _mark(graph)
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


def _mark(graph: Graph) -> None:
    """Give every quantized tensor its parameters, and TFLite's type: uint8 becomes int8.

    What comes in or goes out as uint8 stays so at the boundary, with a QUANTIZE behind or before it.
    """
    producers = graph.producers()
    kept: list[Node] = []
    inner: dict[str, str] = {}
    done: set[str] = set()
    for node in graph.nodes:
        name = {_Q: node.outputs[0], _DQ: node.inputs[0]}.get(node.op_type, "") if node.inputs else ""
        quantization = _parameters(graph, node) if name else None
        info = graph.infos.get(name)
        if quantization is None or info is None:
            kept.append(node)
            continue
        maker = producers.get(name)
        outside = info.data is None and (name in graph.outputs or maker is None or maker.op_type != _Q)
        if outside and info.dtype == "uint8":
            if name not in inner:
                inner[name] = f"{name}_int8"
                graph.infos[inner[name]] = Info(inner[name], info.shape, "int8", None, _shifted(quantization))
                _trace(graph, producers, name, quantization)
                if node.op_type == _DQ:
                    kept.append(Node("Requantize", f"{name}_Requantize", [name], [inner[name]], domain=DOMAIN))
            if node.op_type == _Q:
                node.outputs[0] = inner[name]
                kept += [node, Node("Requantize", f"{name}_Requantize", [inner[name]], [name], domain=DOMAIN)]
                continue
            node.inputs[0] = inner[name]
        elif name not in done:
            done.add(name)
            _retype(info, quantization)
        kept.append(node)
    graph.nodes = kept


def _trace(graph: Graph, producers: dict[str, Node], name: str, quantization: Quantization) -> None:
    """A tensor and those that it is moved from stand for the same real numbers."""
    while True:
        graph.infos[name].quantization = quantization
        maker = producers.get(name)
        if maker is None or maker.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
            return
        name = maker.inputs[0]


def _retype(info: Info, quantization: Quantization) -> None:
    if info.dtype == "uint8":
        quantization = _shifted(quantization)
        info.dtype = "int8"
        if info.data is not None:
            info.data = (info.data.astype(np.int16) - 128).astype(np.int8)
    info.quantization = quantization


def _shifted(quantization: Quantization) -> Quantization:
    return Quantization(quantization.scale, quantization.zero_point - 128, quantization.axis)


def _parameters(graph: Graph, node: Node) -> Quantization | None:
    """Scale and zero point where they are constant, per tensor or along one axis."""
    scale = graph.constant(node.input(1))
    if scale is None or scale.ndim > 1:
        return None
    zero = graph.constant(node.input(2)) if node.input(2) else np.zeros(scale.shape, np.int64)
    if zero is None:
        return None
    rank = graph.infos[node.inputs[0]].rank if node.inputs[0] in graph.infos else 0
    axis = int(node.attribute("axis", 1)) % max(rank, 1) if scale.ndim == 1 and scale.size > 1 else None
    return Quantization(scale.reshape(-1).astype(np.float32), zero.reshape(-1).astype(np.int64), axis)


def _join_requantized(graph: Graph) -> None:
    """DequantizeLinear, QuantizeLinear in a row: nothing where the parameters are the same, else one QUANTIZE."""
    producers = graph.producers()
    replace: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = [replace.get(name, name) for name in node.inputs]
        maker = producers.get(node.inputs[0]) if node.op_type == _Q else None
        if maker is None or maker.op_type != _DQ:
            kept.append(node)
            continue
        source, target = graph.infos[maker.inputs[0]], graph.infos[node.outputs[0]]
        if (
            source.dtype == target.dtype
            and _equal(source.quantization, target.quantization)
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
        maker = producers.get(node.inputs[0]) if node.op_type == _Q else None
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
        if maker is None or maker.op_type != _DQ or not maker.name.endswith(HYBRID):
            continue
        node.inputs[1] = maker.inputs[0]
        _to_dense(graph, node)


def _fold_biases(graph: Graph) -> None:
    """DEQUANTIZE takes no int32: what is left of the biases becomes float again."""
    gone: list[Node] = []
    for node in graph.nodes:
        info = graph.infos.get(node.inputs[0]) if node.op_type == _DQ else None
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
        quantizers = [self._quantizer(name) for name in last.outputs if name]
        outputs = [q.outputs[0] for q in quantizers if q is not None]
        if len(outputs) < len(quantizers) or not outputs:
            return None
        data, weights = self._places(node, row)
        sources = {place: self._integer(node.inputs[place]) for place in (*data, *weights)}
        if any(source is None for source in sources.values()):
            return None
        inputs = [sources.get(place) or name for place, name in enumerate(node.inputs)]
        if bias is not None:
            inputs.append(bias)
        infos = self._graph.infos
        kind = infos[outputs[0]].dtype
        if kind not in _INTEGERS or any(infos[name].dtype != kind for name in (*outputs, *(inputs[p] for p in data))):
            return None
        dense = node.op_type in ("MatMul", "Gemm") and weights
        rule = rule_of("Dense", DOMAIN) if dense else rule_of(node.op_type)
        if rule is None or rule.int8 is None or (kind == "int16" and not rule.int8.int16):
            return None
        if not self._satisfied(rule.int8, row, [inputs[p] for p in data], outputs):
            return None
        if weights and not self._symmetric(inputs[weights[0]]):
            return None
        if kind == "int16":
            inputs = [
                self._widened(name) if infos.get(name) and infos[name].dtype == "int32" else name for name in inputs
            ]
        node.inputs, node.outputs, node.activation = (
            inputs,
            outputs,
            last.activation if last is not node else node.activation,
        )
        if dense:
            _to_dense(self._graph, node)
        return [*(q for q in quantizers if q is not None), *([last] if last is not node else [])]

    def _places(self, node: Node, row: Row) -> tuple[list[int], list[int]]:
        """Which inputs are activations, and which weights and bias."""
        count = len(node.inputs)
        weights = [p for p in (row.weight, row.bias) if p is not None and p < count and node.inputs[p]]
        data = [p for p in (range(count) if row.data == "all" else row.data) if p < count]
        if node.op_type == "MatMul" and self._graph.constant(self._integer(node.inputs[1]) or "") is None:
            return [0, 1], []
        return data, weights

    def _with_bias(self, node: Node) -> tuple[Node, str | None]:
        """The Add of an int32 constant behind a MatMul, and that constant."""
        readers = self._consumers.get(node.outputs[0], [])
        if node.op_type != "MatMul" or len(readers) != 1 or readers[0].op_type != "Add":
            return node, None
        add = readers[0]
        other = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
        bias = self._integer(other)
        info = self._graph.infos.get(bias or "")
        if bias is None or info is None or info.dtype != "int32" or info.data is None:
            return node, None
        return add, bias

    def _quantizer(self, name: str) -> Node | None:
        readers = self._consumers.get(name, [])
        if len(readers) != 1 or readers[0].op_type != _Q:
            return None
        info = self._graph.infos[readers[0].outputs[0]]
        return readers[0] if info.quantization is not None and info.quantization.axis is None else None

    def _integer(self, name: str) -> str | None:
        """The integer tensor behind a dequantized one."""
        maker = self._producers.get(name)
        if maker is None or maker.op_type != _DQ:
            return None
        return maker.inputs[0] if self._graph.infos[maker.inputs[0]].quantization is not None else None

    def _satisfied(self, int8: Int8, row: Row, inputs: Iterable[str], outputs: Iterable[str]) -> bool:
        infos = self._graph.infos
        made = [infos[name].quantization for name in outputs]
        if int8.kind == "same" or row.scale == "same":
            return all(_equal(infos[name].quantization, made[0]) for name in inputs) and all(
                _equal(other, made[0]) for other in made
            )
        if int8.kind == "fixed" and row.fixed is not None:
            wide = infos[next(iter(outputs))].dtype == "int16"
            scale, zero = (row.fixed.scale(16), 0) if wide else (int8.scale, int8.zero_point)
            wanted = Quantization(np.asarray([scale], np.float32), np.asarray([zero], np.int64))
            return all(_equal(other, wanted) for other in made)
        return True

    def _symmetric(self, name: str) -> bool:
        """Whether a tensor can be weights.

        4-bit ones stay in int8: TFLite's kernels for int4 convolutions unpack them in every inference and took 1.8
        (EfficientNet-Lite0) and 2.6 times (DS-CNN) float's time; a bundle is compressed, and 15 of 256 values compress well.
        """
        info = self._graph.infos[name]
        constant = info.data is not None and info.quantization is not None and info.dtype == "int8"
        return constant and info.quantization is not None and not info.quantization.zero_point.any()

    def _widened(self, name: str) -> str:
        """A bias as the int16 kernels take it in every version: int64."""
        info = self._graph.infos[name]
        if info.quantization is None or info.data is None:
            return name
        wide = f"{name}_int64"
        data = info.data.astype(np.int64)
        self._graph.infos[wide] = Info(wide, info.shape, "int64", data, info.quantization)
        return wide


def _to_dense(graph: Graph, node: Node) -> None:
    """Weights (N, K), whatever MatMul and Gemm had."""
    info = graph.infos[node.inputs[1]]
    assert info.data is not None
    if not (node.op_type == "Gemm" and node.attribute("transB", 0)):
        name = f"{info.name}_transposed"
        quantization = info.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = Quantization(quantization.scale, quantization.zero_point, 1 - quantization.axis)
        data: Array = np.ascontiguousarray(info.data.T)
        graph.infos[name] = Info(name, tuple(data.shape), info.dtype, data, quantization)
        node.inputs[1] = name
    node.op_type, node.domain = "Dense", DOMAIN


def _equal(one: Quantization | None, other: Quantization | None) -> bool:
    if one is None or other is None:
        return False
    return (
        np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
        and one.axis == other.axis
    )
