"""Brings old TFLite files into the shape of today's.

Files of 2019-2021 set only the deprecated operator code, keep float16 weights behind DEQUANTIZE operators, carry
tensors that nothing uses, and have no SignatureDef. The result computes exactly what the source did.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesdk_converters.tflite import flatbuffer as fb

SIGNATURE = "serving_default"


def normalize(content: bytes, *, name: str = "model.tflite") -> bytes:
    """Return an equal model with new operator codes, folded weights, no orphans and a signature.

    Args:
        content: A TFLite flatbuffer.
        name: For messages.

    Raises:
        ModelFormatError: The file is no TFLite model, or damaged.
    """
    model = fb.read(content, name=name)
    raise_operator_codes(model)
    for graph in model.subgraphs:
        fold_float16_weights(model, graph)
        drop_orphan_tensors(model, graph)
        pin_shapes(graph)
    drop_orphan_buffers(model)
    add_signature(model)
    return fb.write(model)


def raise_operator_codes(model: Any) -> None:
    """Write ``builtin_code`` as the larger of both fields; the deprecated one stays, for old readers."""
    for code in model.operatorCodes:
        code.builtinCode = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # int8 in the schema; 127 says "look at the other"


def fold_float16_weights(model: Any, graph: Any) -> None:
    """Replace DEQUANTIZE of a constant float16 tensor by the float32 constant that it computes."""
    schema = fb.schema()
    kept = []
    for operator in graph.operators:
        if fb.code_of(model, operator) == schema.BuiltinOperator.DEQUANTIZE:
            source = graph.tensors[fb.ids(operator.inputs)[0]]
            target = graph.tensors[fb.ids(operator.outputs)[0]]
            raw = fb.constant(model, source)
            if raw is not None and source.type == schema.TensorType.FLOAT16 and source.sparsity is None:
                fb.set_constant(model, target, np.frombuffer(raw, dtype=np.float16).astype(np.float32))
                continue
        kept.append(operator)
    graph.operators = kept


def drop_orphan_tensors(model: Any, graph: Any) -> None:
    """Remove tensors that no operator and no boundary uses, and renumber the rest."""
    used = {*fb.ids(graph.inputs), *fb.ids(graph.outputs)}
    number_of_graph = next(index for index, other in enumerate(model.subgraphs) if other is graph)
    signatures = [one for one in model.signatureDefs or [] if one.subgraphIndex == number_of_graph]
    for operator in graph.operators:
        used.update(fb.ids(operator.inputs), fb.ids(operator.outputs), fb.ids(operator.intermediates))
    for signature in signatures:
        used.update(entry.tensorIndex for entry in (*(signature.inputs or []), *(signature.outputs or [])))
    used.discard(-1)
    order = sorted(used)
    number = {old: new for new, old in enumerate(order)} | {-1: -1}
    graph.tensors = [graph.tensors[old] for old in order]
    graph.inputs = [number[old] for old in fb.ids(graph.inputs)]
    graph.outputs = [number[old] for old in fb.ids(graph.outputs)]
    for operator in graph.operators:
        operator.inputs = [number[old] for old in fb.ids(operator.inputs)]
        operator.outputs = [number[old] for old in fb.ids(operator.outputs)]
        if operator.intermediates is not None:
            operator.intermediates = [number[old] for old in fb.ids(operator.intermediates)]
    for signature in signatures:
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            entry.tensorIndex = number[entry.tensorIndex]


def pin_shapes(graph: Any) -> None:
    """Make the traced shape (batch 1) the only one: a shape signature with -1 promises what a board never asks for."""
    for tensor in graph.tensors:
        tensor.shapeSignature = None


def drop_orphan_buffers(model: Any) -> None:
    """Remove buffers that no tensor and no metadata uses (the weights that were folded), and renumber the rest."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    used = {0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in model.metadata or [])}
    order = sorted(used)
    number = {old: new for new, old in enumerate(order)}
    model.buffers = [model.buffers[old] for old in order]
    for tensor in tensors:
        tensor.buffer = number[tensor.buffer]
    for entry in model.metadata or []:
        entry.buffer = number[entry.buffer]
    if model.metadataBuffer is not None:  # superseded by `metadata`; its numbers would be wrong now
        model.metadataBuffer = None


def add_signature(model: Any) -> None:
    """Give the main graph a SignatureDef whose names are the tensors' own, where it has none."""
    if model.signatureDefs:
        return
    schema = fb.schema()
    graph = model.subgraphs[0]

    def entries(indices: list[int]) -> list[Any]:
        made = []
        for index in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[index].name, index
            made.append(entry)
        return made

    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.subgraphIndex = 0
    signature.inputs = entries(fb.ids(graph.inputs))
    signature.outputs = entries(fb.ids(graph.outputs))
    model.signatureDefs = [signature]
