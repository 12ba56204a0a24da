"""What a model holds that no board can run, or that runs in ONNX alone: named node by node, with the fix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgesdk_converters.graph.conditions import CONTROL_FLOW, MAIN, weights_of
from edgesdk_converters.graph.view import GraphView, attribute, inputs_of, shape_of

_RUNTIME_DOMAINS = frozenset({*MAIN, "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview.training"})
"""Domains whose operators ONNX Runtime brings along."""
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "BatchNormalization"})
"""Here an infinite weight is an accident; elsewhere it masks (attention, maxima)."""
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_MOST_LISTED = 20
_LARGEST_ELEMENTS = 2**31
_DEEPEST = 32


def all_tensors(model: onnx.ModelProto) -> Iterator[Any]:
    """Every constant tensor of a model: initializers and attributes, in sub-graphs, too."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def structure_problems(model: onnx.ModelProto) -> list[str]:
    """What makes a graph unreadable: constants whose bytes do not fit their shape, and what would send onnx's C++ parts astray."""
    if _depth(model.graph) > _DEEPEST:
        return [f"its sub-graphs are nested more than {_DEEPEST} deep"]
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf hands out bytes where they are no UTF-8
        return ["one of its names is no text"]
    known = set(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type.elem_type
        if value.type.WhichOneof("value") == "tensor_type" and kind not in known:
            return [f"{value.name!r} is of an unknown type ({kind})"]
    for tensor in all_tensors(model):
        dims = list(tensor.dims)
        words = f"constant {tensor.name!r} of shape {dims}"
        if any(size < 0 for size in dims) or math.prod(dims) > _LARGEST_ELEMENTS:
            return [f"{words} has an impossible size"]
        if tensor.data_type not in known:
            return [f"{words} is of an unknown type ({tensor.data_type})"]
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # noqa: BLE001 - numpy and onnx raise ValueError, TypeError, KeyError, UnicodeDecodeError ...
            return [f"{words} does not fit its own data: {' '.join(str(error).split())[:160] or type(error).__name__}"]
        if list(array.shape) != dims:
            return [f"{words} does not fit its own data"]
    return []


def content_problems(model: onnx.ModelProto) -> list[str]:
    """What no board runs, or not twice alike: operators of unknown domains, string inputs, weights that are not numbers, dice."""
    problems = [
        f"input {value.name!r} takes strings; a board delivers numbers. Cut the graph behind its tokenizer or table, and make the ids "
        "its input"
        for value in inputs_of(model)
        if value.type.tensor_type.elem_type == onnx.TensorProto.STRING
    ]
    problems += [
        f"input {value.name!r} is a {value.type.WhichOneof('value') or 'value without a type'}, expected a tensor. Export the model with "
        "tensors as inputs"
        for value in inputs_of(model)
        if value.type.WhichOneof("value") != "tensor_type"
    ]
    foreign = [(words, node) for words, node in _nodes(model.graph) if node.domain not in _RUNTIME_DOMAINS]
    problems += [
        f"{words} is operator {node.op_type!r} of domain {node.domain!r}, which no runtime of a board knows. Export the model with "
        "standard ONNX operators only (opset 17)"
        for words, node in foreign[:_MOST_LISTED]
    ]
    unknown = [
        (words, node)
        for words, node in _nodes(model.graph)
        if node.domain in MAIN and not onnx.defs.has(node.op_type, "")
    ]
    problems += [
        f"{words} is operator {node.op_type!r}, which ONNX does not have. Replace it in the model by standard operators, or, if it is a "
        "TensorFlow one, convert the model to TFLite and give that file"
        for words, node in unknown[:_MOST_LISTED]
    ]
    problems += _not_repeatable(model)[:_MOST_LISTED]
    bad = _not_numbers(model)
    if bad is not None:
        problems.append(
            f"{bad}. Training went astray, or the file is damaged: export a checkpoint whose weights are finite"
        )
    return [f"{problem}." for problem in problems]


def control_flow(model: onnx.ModelProto) -> tuple[str, ...]:
    """If, Loop and Scan nodes, each with its name and what to do where they cannot stay."""
    fixes = {
        "If": "export one branch: the condition as a constant, for example the sample rate",
        "Loop": "export with a fixed number of steps, unrolled",
        "Scan": "export with a fixed number of steps, unrolled",
        "SequenceMap": "export with a fixed number of steps, unrolled",
    }
    return tuple(
        f"{words} is control flow; TFLite has none that its kernels run. To have TFLite, {fixes[node.op_type]}."
        for words, node in _nodes(model.graph)
        if node.op_type in CONTROL_FLOW and node.domain in MAIN
    )


def remarks(model: onnx.ModelProto) -> list[str]:
    """What is worth knowing of a model that is fine for ONNX: control flow, integer inputs."""
    said = list(control_flow(model)[:_MOST_LISTED])
    said += [
        f"input {value.name!r} takes whole numbers ({kind}{list(shape_of(value))}): it stays as it is, nothing of it is quantized"
        for value in inputs_of(model)
        if (
            kind := {onnx.TensorProto.INT64: "int64", onnx.TensorProto.INT32: "int32"}.get(
                value.type.tensor_type.elem_type
            )
        )
    ]
    return said


def _not_numbers(model: onnx.ModelProto) -> str | None:
    for words, name, tensor in weights_of(model.graph):
        if tensor.data_type not in {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}:
            continue
        array = np.asarray(numpy_helper.to_array(tensor))
        op_type = words.rpartition("(")[2].rstrip(")")
        for label, wrong in (("NaN", np.isnan(array)), ("infinite", np.isinf(array))):
            if wrong.any() and (label == "NaN" or op_type in _WEIGHTED):
                return f"{words} takes {name!r}, in which {int(wrong.sum())} of {array.size} values are {label}"
    return None


def _not_repeatable(model: onnx.ModelProto) -> list[str]:
    """Nodes that answer one input differently from run to run: nothing that is made of them could be compared with them."""
    constants = GraphView(model)
    found = []
    for words, node in _nodes(model.graph):
        if node.domain not in MAIN:
            continue
        if node.op_type in RANDOM:
            found.append(f"{words} ({node.op_type}) draws random numbers. Export the model with the noise as an input")
        elif node.op_type == "BatchNormalization" and attribute(node, "training_mode", 0):
            # ONNX Runtime writes the new means into the weights, run by run.
            found.append(f"{words} (BatchNormalization) is in training mode. Export the model after MODEL.eval()")
        elif node.op_type == "Dropout" and len(node.input) > 2 and np.any(constants.constant(node.input[2])):
            found.append(f"{words} (Dropout) is in training mode. Export the model after MODEL.eval()")
    return found


def _nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    for index, node in enumerate(graph.node):
        yield f"node {node.name or f'{node.op_type}_{index}'!r}", node
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(item.g)


def _texts(model: onnx.ModelProto) -> Iterator[Any]:
    """Every name in a model."""
    yield from (opset.domain for opset in model.opset_import)
    yield from (part for item in model.metadata_props for part in (item.key, item.value))
    yield from _graph_texts(model.graph)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        for node in function.node:
            yield from _node_texts(node)


def _graph_texts(graph: Any) -> Iterator[Any]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    for tensor in graph.initializer:
        yield tensor.name
        yield from (part for entry in tensor.external_data for part in (entry.key, entry.value))
    for node in graph.node:
        yield from _node_texts(node)


def _node_texts(node: Any) -> Iterator[Any]:
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for item in node.attribute:
        yield item.name
        if item.HasField("g"):
            yield from _graph_texts(item.g)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t
            yield from item.tensors
            if item.HasField("g"):
                yield from _tensors(item.g)
            for graph in item.graphs:
                yield from _tensors(graph)


def _depth(graph: Any) -> int:
    return 1 + max((_depth(a.g) for node in graph.node for a in node.attribute if a.HasField("g")), default=0)
