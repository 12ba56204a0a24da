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
_MATRIX = 2
_BIAS_LIMIT = 2**31
_MOVES = frozenset(
    {
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "MaxPool",
        "Slice",
        "Gather",
        "Concat",
        "Expand",
    }
)
"""Operators whose results are numbers of their operands."""
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
    _own_constants(graph)
    producers, consumers = graph.producers(), graph.consumers()
    kept: list[Node] = []
    inner: dict[str, str] = {}
    done: dict[str, Quantization] = {}
    for node in graph.nodes:
        name = {_Q: node.outputs[0], _DQ: node.inputs[0]}.get(node.op_type, "") if node.inputs else ""
        quantization = _parameters(graph, node) if name else None
        info = graph.infos.get(name)
        if quantization is None or info is None:
            kept.append(node)
            continue
        if node.op_type == _DQ and info.data is None:
            computed = producers.get(name)
            if (name in done and not _equal(done[name], quantization)) or (info.dtype == "int32" and computed):
                kept += _arithmetic(graph, node, quantization)
                continue
        maker = producers.get(name)
        itself = name in graph.outputs or maker is None or maker.op_type != _Q
        itself = itself or any(reader.op_type != _DQ for reader in consumers.get(name, []))
        done.setdefault(name, quantization)
        if info.data is None and itself:
            _trace(graph, producers, name, quantization)
        if info.data is None and itself and info.dtype == "uint8":
            if name not in inner:
                inner[name] = _free(graph, f"{name}_int8")
                graph.infos[inner[name]] = Info(inner[name], info.shape, "int8", None, _shifted(quantization))
                if node.op_type == _DQ:
                    kept.append(Node("Requantize", f"{name}_Requantize", [name], [inner[name]], domain=DOMAIN))
            if node.op_type == _Q:
                node.outputs[0] = inner[name]
                kept += [node, Node("Requantize", f"{name}_Requantize", [inner[name]], [name], domain=DOMAIN)]
                continue
            node.inputs[0] = inner[name]
        elif done[name] is quantization:
            _retype(info, quantization)
        kept.append(node)
    graph.nodes = kept


def _own_constants(graph: Graph) -> None:
    """Give constants that are read in several ways a copy for each: exporters store equal bytes once."""
    consumers = graph.consumers()
    read: dict[str, list[tuple[Quantization | None, str]]] = {}
    for node in graph.nodes:
        info = graph.infos.get(node.inputs[0]) if node.op_type == _DQ else None
        if info is None or info.data is None:
            continue
        quantization = _parameters(graph, node)
        others = any(reader.op_type != _DQ for reader in consumers[info.name])
        known = read.setdefault(info.name, [(None, info.name)] if others else [])
        name = next((name for had, name in known if _equal(had, quantization)), None)
        if name is None:
            name = _free(graph, info.name) if known else info.name
            known.append((quantization, name))
            if name != info.name:
                graph.infos[name] = Info(name, info.shape, info.dtype, info.data)
        node.inputs[0] = name


def _arithmetic(graph: Graph, node: Node, quantization: Quantization) -> list[Node]:
    """A DequantizeLinear that no tensor's parameters can say: of int32, or of integers read in a second way."""
    name, shape = node.outputs[0], graph.infos[node.outputs[0]].shape
    along = [1] * len(shape)
    if quantization.axis is not None:
        along[quantization.axis] = -1
    parts = {part: _free(graph, f"{name}/{part}") for part in ("integer", "moved", "zero", "scale")}
    for part in ("integer", "moved"):
        graph.infos[parts[part]] = Info(parts[part], shape, "float32")
    for part, value in (("zero", quantization.zero_point), ("scale", quantization.scale)):
        data = np.asarray(value, np.float32).reshape(along if quantization.axis is not None else ())
        graph.infos[parts[part]] = Info(parts[part], tuple(data.shape), "float32", data)
    return [
        Node("Cast", f"{node.name}/cast", [node.inputs[0]], [parts["integer"]], {"to": 1}),
        Node("Sub", f"{node.name}/move", [parts["integer"], parts["zero"]], [parts["moved"]]),
        Node("Mul", node.name, [parts["moved"], parts["scale"]], [name]),
    ]


def _trace(graph: Graph, producers: dict[str, Node], name: str, quantization: Quantization) -> None:
    """A tensor and those that it is moved from stand for the same real numbers."""
    waiting = [name]
    while waiting:
        name = waiting.pop()
        info = graph.infos[name]
        if info.quantization is not None or info.data is not None:
            continue
        info.quantization = quantization
        maker = producers.get(name)
        if maker is not None and maker.op_type in _MOVES and not maker.domain:
            waiting += maker.inputs if maker.op_type == "Concat" else maker.inputs[:1]


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
    if scale is None or scale.ndim > 1 or node.attribute("block_size", 0):
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
            _to_dense(self._graph, node)
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
        channels, scale = _channels(node), infos[weights].quantization
        if not self._symmetric(weights) or scale is None or channels is None or scale.axis not in (None, channels):
            return None
        if bias is None or node.attribute("beta", 1.0) == 0.0:
            return []
        step = infos[data].quantization
        assert step is not None
        product = np.asarray(step.scale[0] * scale.scale * np.float32(node.attribute("alpha", 1.0)), np.float32)
        made = self._bias(bias, product, infos[weights].shape[channels], float(node.attribute("beta", 1.0)))
        if made is None:
            return None
        name = _free(self._graph, f"{node.name}/bias_int32")
        kind = "int64" if infos[data].dtype == "int16" else "int32"  # int64 is what int16 kernels take in every version
        axis = 0 if product.size > 1 else None
        quantization = Quantization(product, np.zeros(product.shape, np.int64), axis)
        infos[name] = Info(name, made.shape, kind, made.astype(kind), quantization)
        return [name]

    def _bias(self, name: str, step: Array, channels: int, factor: float) -> Array | None:
        """A constant bias in steps of data times weights, as the kernels demand; None where that cannot be.

        The integers of the model are taken over where they count in these steps; others are rounded to them.
        """
        infos = self._graph.infos
        source = self._integer(name)
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


def _shifts(info: Info) -> bool:
    """Whether a zero point moves the integers: the int16 kernels have none."""
    return info.quantization is not None and bool(info.quantization.zero_point.any())


def _channels(node: Node) -> int | None:
    """The axis of a node's weights that its output channels lie along; None where its kernel has no such axis."""
    if node.op_type == "Gemm":
        plain = not node.attribute("transA", 0) and float(node.attribute("alpha", 1.0)) > 0
        return (0 if node.attribute("transB", 0) else 1) if plain else None
    if node.op_type == "ConvTranspose":
        flat = node.attribute("group", 1) == 1 and max(node.attribute("dilations") or [1]) == 1
        return 1 if flat else None
    return 0 if node.op_type == "Conv" else 1


def _to_dense(graph: Graph, node: Node) -> None:
    """Weights (N, K), whatever MatMul and Gemm had."""
    info = graph.infos[node.inputs[1]]
    values = info.data
    assert values is not None
    alpha = float(node.attribute("alpha", 1.0)) if node.op_type == "Gemm" else 1.0
    if alpha != 1.0 and info.quantization is not None:
        scale = np.asarray(info.quantization.scale * np.float32(alpha), np.float32)
        scaled = Quantization(scale, info.quantization.zero_point, info.quantization.axis)
        info = Info(_free(graph, f"{info.name}_scaled"), info.shape, info.dtype, values, scaled)
        graph.infos[info.name] = info
        node.inputs[1] = info.name
    if not (node.op_type == "Gemm" and node.attribute("transB", 0)):
        name = _free(graph, f"{info.name}_transposed")
        quantization = info.quantization
        if quantization is not None and quantization.axis is not None:
            quantization = Quantization(quantization.scale, quantization.zero_point, 1 - quantization.axis)
        data: Array = np.ascontiguousarray(values.T)
        graph.infos[name] = Info(name, tuple(data.shape), info.dtype, data, quantization)
        node.inputs[1] = name
    node.op_type, node.domain = "Dense", DOMAIN


def _free(graph: Graph, name: str) -> str:
    while name in graph.infos:
        name += "_"
    return name


def _equal(one: Quantization | None, other: Quantization | None) -> bool:
    if one is None or other is None:
        return False
    return (
        np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
        and one.axis == other.axis
    )
