"""Computes what depends on constants only, with ONNX Runtime, in as few runs as possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node

_KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Never folded: the quantized lowering reads them."""
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_NEWEST = 23
"""Opset that ONNX Runtime computes constants in: newer ones it may refuse, and what constants need has not changed since."""
_LARGEST = 1 << 28
"""Elements of a constant that is computed: a gigabyte of float32. A file that asks for more is damaged."""
Shapes = Mapping[str, tuple[str, tuple[int, ...] | None]]


def fold(graph: Graph, shapes: Shapes) -> None:
    """Replace nodes whose inputs are constant (and Shape, Size of static tensors) by their values; in place."""
    known = {name for name, info in graph.infos.items() if info.data is not None}
    foldable: list[Node] = []
    for node in graph.nodes:
        value = _direct(graph, node, shapes)
        if value is not None:
            _store(graph, node.outputs[0], value)
            foldable.append(node)
            known.add(node.outputs[0])
        elif (
            node.op_type not in _KEPT | _RANDOM
            and not node.domain
            and node.inputs
            and not (node.op_type == "Dropout" and node.input(2))
            and all(not name or name in known for name in node.inputs)
            and all(_small(shapes.get(name)) for name in node.outputs)
        ):
            foldable.append(node)
            known.update(name for name in node.outputs if name)
    heavy = [node for node in foldable if node.outputs[0] not in graph.infos]
    gone = {id(node) for node in foldable}
    wanted = {name for node in graph.nodes if id(node) not in gone for name in node.inputs} | set(graph.outputs)
    outputs = [name for node in heavy for name in node.outputs if name and name in wanted]
    try:
        values = _run(graph, heavy, outputs)
    except Exception:  # noqa: BLE001 - ONNX Runtime raises its own types for what it has no kernel for
        graph.remove([node for node in foldable if node not in heavy])
        graph.remove([node for node in heavy if _folded_alone(graph, node)])
        return
    graph.remove(foldable)
    for name, value in zip(outputs, values, strict=True):
        _store(graph, name, value)


def _small(known: tuple[str, tuple[int, ...] | None] | None) -> bool:
    """Whether a tensor may be computed here, as far as its shape is known."""
    return known is None or known[1] is None or float(np.prod([float(size) for size in known[1]])) <= _LARGEST


def _folded_alone(graph: Graph, node: Node) -> bool:
    """Compute one node, by ONNX's reference where ONNX Runtime has no kernel; False where neither can."""
    if any(name and graph.constant(name) is None for name in node.inputs):
        return False
    outputs = [name for name in node.outputs if name]
    try:
        values = _run(graph, [node], outputs)
    except Exception:  # noqa: BLE001 - as above; the families are asked then
        return False
    for name, value in zip(outputs, values, strict=True):
        _store(graph, name, value)
    return True


def evaluate(graph: Graph, nodes: list[Node], outputs: list[str]) -> list[Array]:
    """The values of ``outputs``, which ``nodes`` compute from constants of the graph."""
    return _run(graph, nodes, outputs)


def _store(graph: Graph, name: str, value: Array) -> None:
    graph.infos[name] = Info(name, tuple(value.shape), str(value.dtype.name), value)


def _direct(graph: Graph, node: Node, shapes: Shapes) -> Array | None:
    """Constants and shapes, which need no runtime."""
    if node.op_type == "Constant":
        for key, kind in (
            ("value_float", np.float32),
            ("value_floats", np.float32),
            ("value_int", np.int64),
            ("value_ints", np.int64),
        ):
            if key in node.attributes:
                return np.asarray(node.attributes[key], kind)
        value = node.attributes.get("value")
        return np.asarray(value) if isinstance(value, np.ndarray) else None
    if node.op_type in ("Shape", "Size") and node.inputs[0]:
        info = graph.infos.get(node.inputs[0])
        shape = info.shape if info else shapes.get(node.inputs[0], ("", None))[1]
        if shape is None:
            return None
        if node.op_type == "Size":
            return np.asarray(int(np.prod(shape, dtype=np.int64)), np.int64)
        return np.asarray(shape, np.int64)[node.attribute("start", 0) : node.attribute("end", None)]
    return None


def _run(graph: Graph, nodes: list[Node], outputs: list[str]) -> list[Array]:
    """Evaluate a constant sub-graph; constants go in as inputs, so nothing is serialised."""
    import onnxruntime

    if not outputs:
        return []
    made = {name for node in nodes for name in node.outputs}
    feeds: dict[str, Array] = {}
    for node in nodes:
        for name in node.inputs:
            data = graph.constant(name)
            if name and name not in made and data is not None:
                feeds[name] = data
    model = helper.make_model(
        helper.make_graph(
            [proto(node) for node in nodes],
            "constants",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for n, v in feeds.items()
            ],
            [onnx.ValueInfoProto(name=name) for name in outputs],
        ),
        opset_imports=[helper.make_opsetid("", min(graph.opset, _NEWEST))],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(outputs, feeds)]


def proto(node: Node) -> Any:
    """The ONNX node."""
    attributes = {
        key: numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    return helper.make_node(node.op_type, node.inputs, node.outputs, node.name, **attributes)
