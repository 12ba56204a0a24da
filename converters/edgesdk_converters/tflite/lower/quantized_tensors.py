"""Which tensors of a quantized graph are integers, and with which parameters.

uint8 becomes int8 by subtracting 128 from values and zero points, which changes no real number.
"""

from __future__ import annotations

import numpy as np

from edgesdk_converters.tflite.lower.folding import evaluate
from edgesdk_converters.tflite.lower.ir import Graph, Info, Node, Quantization

DOMAIN = "edgesdk.quantized"
"""Of the nodes that exist between reading and writing only: `Requantize` and `Dense`."""
Q, DQ = "QuantizeLinear", "DequantizeLinear"
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


def mark(graph: Graph) -> None:
    """Give every quantized tensor its parameters, and TFLite's type: uint8 becomes int8.

    What comes in or goes out as uint8 stays so at the boundary, with a QUANTIZE behind or before it.
    """
    _quantize_constants(graph)
    _own_constants(graph)
    unusable = {node.outputs[0] for node in graph.nodes if node.op_type == Q and _parameters(graph, node) is None}
    producers, consumers = graph.producers(), graph.consumers()
    kept: list[Node] = []
    inner: dict[str, str] = {}
    done: dict[str, Quantization] = {}
    given = {name: info.dtype for name, info in graph.infos.items()}
    for node in graph.nodes:
        name = {Q: node.outputs[0], DQ: node.inputs[0]}.get(node.op_type, "") if node.inputs else ""
        quantization = _parameters(graph, node) if name else None
        info = graph.infos.get(name)
        if quantization is None or info is None or name in unusable:
            kept.append(node)
            continue
        if node.op_type == DQ and info.data is None:
            computed = producers.get(name)
            # int32, a second way to read the same integers, channels with scales of their own: no DEQUANTIZE does these.
            wide = (info.dtype == "int32" and computed) or quantization.axis is not None
            if wide or (name in done and not equal(done[name], quantization)):
                moved = given[name] == "uint8" and info.dtype == "int8"
                kept += _arithmetic(graph, node, _shifted(quantization) if moved else quantization)
                continue
        maker = producers.get(name)
        itself = name in graph.outputs or maker is None or maker.op_type != Q
        itself = itself or any(reader.op_type != DQ for reader in consumers.get(name, []))
        done.setdefault(name, quantization)
        if info.data is None and itself:
            _trace(graph, producers, name, quantization)
        if info.data is None and itself and info.dtype == "uint8":
            if name not in inner:
                inner[name] = free(graph, f"{name}_int8")
                graph.infos[inner[name]] = Info(inner[name], info.shape, "int8", None, _shifted(quantization))
                if node.op_type == DQ:
                    kept.append(Node("Requantize", f"{name}_Requantize", [name], [inner[name]], domain=DOMAIN))
            if node.op_type == Q:
                node.outputs[0] = inner[name]
                kept += [node, Node("Requantize", f"{name}_Requantize", [inner[name]], [name], domain=DOMAIN)]
                continue
            node.inputs[0] = inner[name]
        elif done[name] is quantization:
            _retype(info, quantization)
        kept.append(node)
    graph.nodes = kept


def _quantize_constants(graph: Graph) -> None:
    """Weights that are stored in float in front of QuantizeLinear, as training with quantization exports them, become integers."""
    gone: list[Node] = []
    for node in graph.nodes:
        if node.op_type != Q or graph.constant(node.inputs[0]) is None or _parameters(graph, node) is None:
            continue
        name = node.outputs[0]
        data = evaluate(graph, [node], [name])[0]
        graph.infos[name] = Info(name, tuple(data.shape), data.dtype.name, data)
        gone.append(node)
    graph.remove(gone)


def _own_constants(graph: Graph) -> None:
    """Give constants that are read in several ways a copy for each: exporters store equal bytes once."""
    consumers = graph.consumers()
    read: dict[str, list[tuple[Quantization | None, str]]] = {}
    for node in graph.nodes:
        info = graph.infos.get(node.inputs[0]) if node.op_type == DQ else None
        if info is None or info.data is None:
            continue
        quantization = _parameters(graph, node)
        others = any(reader.op_type != DQ for reader in consumers[info.name])
        known = read.setdefault(info.name, [(None, info.name)] if others else [])
        name = next((name for had, name in known if equal(had, quantization)), None)
        if name is None:
            name = free(graph, info.name) if known else info.name
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
    parts = {part: free(graph, f"{name}/{part}") for part in ("integer", "moved", "zero", "scale")}
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
    if scale.dtype.kind != "f" or not (np.isfinite(scale) & (scale > 0)).all() or zero.size not in (1, scale.size):
        return None
    shape = graph.infos[node.inputs[0]].shape if node.inputs[0] in graph.infos else ()
    axis = int(node.attribute("axis", 1)) % max(len(shape), 1) if scale.ndim == 1 and scale.size > 1 else None
    if axis is not None and shape[axis : axis + 1] != (scale.size,):
        return None
    points = np.broadcast_to(zero.reshape(-1).astype(np.int64), (scale.size,))
    return Quantization(scale.reshape(-1).astype(np.float32), points, axis)


def free(graph: Graph, name: str) -> str:
    while name in graph.infos:
        name += "_"
    return name


def equal(one: Quantization | None, other: Quantization | None) -> bool:
    if one is None or other is None:
        return False
    return (
        np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
        and one.axis == other.axis
    )
