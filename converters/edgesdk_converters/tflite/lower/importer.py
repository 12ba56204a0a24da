"""Reads an ONNX model into the lowering's graph: static shapes, everything that depends on constants only computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgesdk.errors import NodeProblem
from edgesdk_converters.tflite.lower.folding import fold
from edgesdk_converters.tflite.lower.ir import Array, Graph, Info, Node

MAX_ELEMENTS = (1 << 31) - 1
MAX_BYTES = (1 << 31) - 1
"""A flatbuffer's offsets are signed 32-bit numbers."""
_LARGE = 1024
"""Elements; larger constants are never a shape, and shape inference is faster without them."""
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_DTYPES = frozenset(
    {
        "float32",
        "float64",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "int4",
        "uint4",
        "uint32",
        "uint16",
    }
)
_LIKE_INPUT = frozenset({"MeanVarianceNormalization"})
"""Operators whose result has the shape of their input, which onnx's inference does not know."""


Shapes = dict[str, tuple[str, tuple[int, ...] | None]]
"""Element type and shape (None where dynamic) by tensor."""


def read(
    model: onnx.ModelProto, *, name: str, refused: frozenset[tuple[str, str]] = frozenset()
) -> tuple[Graph, list[NodeProblem]]:
    """The graph, and what of it TFLite has no word for at all (control flow, custom domains, dynamic shapes, size).

    A node with such a problem stays in the graph only where its outputs have shapes.
    """
    problems: list[NodeProblem] = []
    weights = sum(_bytes(tensor) for tensor in model.graph.initializer)
    if weights > MAX_BYTES:
        reason = f"the weights take {weights:,} bytes, a TFLite file holds less than {MAX_BYTES:,}"
        return empty(name), [NodeProblem(name, "model", reason, "Quantize the weights or split the model")]
    for node in model.graph.node:
        if node.op_type in _CONTROL_FLOW or any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            fix = "Export the model without it (trace instead of script), or take a variant without branches"
            problems.append(NodeProblem(label(node), node.op_type, "control flow runs sub-graphs", fix))
    problems += _input_problems(model)
    if problems:
        return empty(name), [*problems, *_unknown_operators(model)]
    problems += _constant_problems(model) + _structure_problems(model)
    if problems:
        return empty(name), problems
    shapes = infer(model, problems)
    for tensor_name, (_, shape) in shapes.items():
        if shape is not None and float(np.prod([float(size) for size in shape])) > MAX_ELEMENTS:
            reason = (
                f"its shape {list(shape)} has more than {MAX_ELEMENTS:,} elements, and TFLite counts them in 32 bits"
            )
            problems.append(NodeProblem(tensor_name, "tensor", reason, "Make it smaller, or cut the model before it"))
    if problems:
        return empty(name), problems
    graph = Graph(
        name=name,
        nodes=[node_of(node) for node in model.graph.node],
        infos={},
        inputs=[],
        outputs=[value.name for value in model.graph.output],
        opset=next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 0),
    )
    for tensor in model.graph.initializer:
        graph.infos[tensor.name] = _constant_info(tensor.name, numpy_helper.to_array(tensor), tensor.data_type)
    graph.inputs = [value.name for value in model.graph.input if value.name not in graph.infos]
    _name_nodes(graph)
    fold(graph, shapes)
    _empty_tensors(graph, shapes)
    for tensor_name, (dtype, shape) in shapes.items():
        if tensor_name not in graph.infos and shape is not None:
            graph.infos[tensor_name] = Info(tensor_name, shape, dtype)
    from edgesdk_converters.tflite.lower.expand import expand

    unspelled = expand(graph, refused)
    problems += unspelled
    known = {problem.node for problem in unspelled}
    problems += [problem for problem in _node_problems(graph, shapes) if problem.node not in known]
    return graph, problems


def _empty_tensors(graph: Graph, shapes: Shapes) -> None:
    """What has no elements is a constant, whoever makes it."""
    for name, (dtype, shape) in shapes.items():
        if shape is not None and 0 in shape and name not in graph.inputs and dtype in _DTYPES - {"int4", "uint4"}:
            graph.infos.setdefault(name, Info(name, shape, dtype, np.zeros(shape, dtype)))
    graph.remove(
        [
            node
            for node in graph.nodes
            if any(node.outputs) and all(graph.constant(name) is not None for name in node.outputs if name)
        ]
    )


def _unknown_operators(model: onnx.ModelProto) -> list[NodeProblem]:
    """Nodes that cannot be said whatever their shapes are, for a graph that is not looked at any further."""
    from edgesdk_converters.tflite.lower.expand import expandable
    from edgesdk_converters.tflite.lower.registry import rule_of

    problems = []
    for proto in model.graph.node:
        node = node_of(proto)
        constant = node.op_type in ("Constant", "ConstantOfShape", "Shape", "Size", "Range") and not node.domain
        known = rule_of(node.op_type, node.domain) is not None or expandable(node) or constant
        if not known and node.op_type not in _CONTROL_FLOW:
            where = f" of domain {node.domain!r}" if node.domain else ""
            fix = "Replace it, or cut the model before it"
            reason = f"there is no TFLite operator for it{where}"
            problems.append(NodeProblem(label(proto), node.op_type, reason, fix))
    return problems


def _structure_problems(model: onnx.ModelProto) -> list[NodeProblem]:
    """What onnx's shape inference does not survive, or would read in two ways."""
    problems, made = [], set[str]()
    fix = "Check the model with onnx.checker and export it again"
    for node in model.graph.node:
        for name in node.output:
            if name and name in made:
                problems.append(NodeProblem(label(node), node.op_type, f"tensor {name!r} is made twice", fix))
            made.add(name)
        parts = next((a.i for a in node.attribute if a.name == "num_outputs"), len(node.output))
        if node.op_type == "Split" and parts != len(node.output):
            reason = f"it says {parts} parts and has {len(node.output)} outputs"
            problems.append(NodeProblem(label(node), node.op_type, reason, fix))
    return problems


def _constant_problems(model: onnx.ModelProto) -> list[NodeProblem]:
    """Initializers whose bytes are not what their type and shape say."""
    problems = []
    for tensor in model.graph.initializer:
        try:
            if min(tensor.dims, default=0) < 0:
                raise ValueError(f"its shape is {list(tensor.dims)}")  # noqa: TRY301 - reported with what numpy_helper says
            numpy_helper.to_array(tensor)
        except Exception as error:  # noqa: BLE001 - whatever onnx raises for bytes that make no tensor
            reason = f"its bytes are no tensor ({_first_line(error)})"
            fix = "Copy or download the file again, with its external data beside it"
            problems.append(NodeProblem(tensor.name, "initializer", reason, fix))
    return problems


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def infer(model: onnx.ModelProto, problems: list[NodeProblem] | None = None) -> Shapes:
    """Element type and shape (None where dynamic) of every tensor.

    Args:
        model: Left as it is.
        problems: Gets an entry where onnx's inference fails altogether.
    """
    light = onnx.ModelProto()
    light.CopyFrom(_without_weights(model))
    found: Shapes = {}
    try:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except Exception as error:  # noqa: BLE001 - onnx's own types, RuntimeError, MemoryError
        if problems is not None:
            reason = f"onnx cannot infer its shapes ({_first_line(error)})"
            problems.append(
                NodeProblem("graph", "model", reason, "Check the model with onnx.checker and export it again")
            )
        return found
    for value in (*model.graph.output, *light.graph.input, *light.graph.value_info, *light.graph.output):
        kind = value.type.tensor_type
        static = kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim)
        shape = tuple(int(d.dim_value) for d in kind.shape.dim) if static else None
        # What the file says of its outputs counts where nothing is inferred.
        if kind.elem_type and (shape is not None or value.name not in found):
            found[value.name] = (type_name(kind.elem_type), shape)
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    light = onnx.ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name or "graph"
    light.graph.node.extend(model.graph.node)
    for node in light.graph.node:
        if node.op_type in _LIKE_INPUT and not node.domain:
            node.op_type = "Relu"
            del node.attribute[:]
    light.graph.input.extend(model.graph.input)
    # What the file says of its outputs may contradict what is inferred; it counts where nothing is.
    light.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    imported = {"ai.onnx" if not item.domain else item.domain for item in light.opset_import}
    for domain in {node.domain or "ai.onnx" for node in light.graph.node} - imported:
        light.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    named = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) <= _LARGE:
            light.graph.initializer.append(tensor)
        elif tensor.name not in named:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return light


def type_name(elem_type: int) -> str:
    """``1`` -> ``float32``."""
    if elem_type == onnx.TensorProto.STRING:
        return "string"
    return str(onnx.TensorProto.DataType.Name(elem_type)).lower() if elem_type in _SMALL else _numpy_name(elem_type)


_SMALL = frozenset({onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.BFLOAT16})


def _numpy_name(elem_type: int) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).name)


def elem_type(dtype: str) -> int:
    """``float32`` -> ``1``."""
    return int(onnx.TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper())))


def _constant_info(name: str, data: Array, elem_type: int) -> Info:
    array = np.asarray(data)
    if elem_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        array = array.astype(np.int8 if elem_type == onnx.TensorProto.INT4 else np.uint8)
    return Info(name, tuple(array.shape), type_name(elem_type), array)


def node_of(node: Any) -> Node:
    """A node of ours."""
    return Node(
        op_type=node.op_type,
        name=node.name,
        inputs=list(node.input),
        outputs=list(node.output),
        attributes={a.name: _attribute(a) for a in node.attribute},
        domain="" if node.domain == "ai.onnx" else node.domain,
    )


def _attribute(attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == attribute.TENSOR:
        return np.asarray(numpy_helper.to_array(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if attribute.type in (attribute.INTS, attribute.FLOATS):
        return list(value)
    if attribute.type == attribute.STRINGS:
        return [item.decode("utf-8", "replace") for item in value]
    return value


def _name_nodes(graph: Graph) -> None:
    for node in graph.nodes:
        node.name = node.name or next((name for name in node.outputs if name), node.op_type)


def label(node: Any) -> str:
    """What a node is called in messages: its name, else that of its first output, else its operator."""
    return str(node.name or next((name for name in node.output if name), node.op_type))


def _bytes(tensor: Any) -> int:
    size = int(np.prod(tensor.dims, dtype=np.int64))
    return len(tensor.raw_data) or size * 4


def empty(name: str) -> Graph:
    """A graph of nothing, where there is nothing to look at."""
    return Graph(name, [], {}, [], [], 0)


def _input_problems(model: onnx.ModelProto) -> list[NodeProblem]:
    problems = []
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        kind = value.type.tensor_type
        if value.name in constants:
            continue
        if not kind.elem_type:
            problems.append(NodeProblem(value.name, "input", "is no tensor", "Take the sequence or map apart"))
            continue
        if kind.elem_type not in onnx.TensorProto.DataType.values():
            reason = f"its type {kind.elem_type} is none that onnx {onnx.__version__} knows"
            problems.append(NodeProblem(value.name, "input", reason, "Export the model in float32"))
            continue
        sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim]
        if not kind.HasField("shape") or not all(isinstance(size, int) and size > 0 for size in sizes):
            reason = f"its shape {[str(size) for size in sizes]} is dynamic; TFLite plans memory for static shapes"
            problems.append(
                NodeProblem(value.name, "input", reason, "Pin its shape in the spec (inputs: ... shape: [...])")
            )
    return problems


def _node_problems(graph: Graph, shapes: Shapes) -> list[NodeProblem]:
    problems = []
    for node in graph.nodes:
        for name in (*node.inputs, *node.outputs):
            if name and name in graph.infos and graph.infos[name].dtype not in _DTYPES:
                reason = f"tensor {name!r} is {graph.infos[name].dtype}, for which TFLite has no kernels"
                problems.append(NodeProblem(node.name, node.op_type, reason, "Export the model in float32"))
                break
        else:
            missing = [name for name in node.outputs if name and name not in graph.infos]
            if missing and all(not name or name in graph.infos for name in node.inputs):
                known = shapes.get(missing[0])
                what = "its output's size depends on values" if known else "the shape of its output is not known"
                if node.domain:
                    what = f"domain {node.domain!r} is not part of ONNX"
                fix = (
                    "Replace it, or cut the model before it"
                    if node.domain
                    else "Pin shapes, or cut the model before it"
                )
                problems.append(NodeProblem(node.name, node.op_type, what, fix))
    return problems
