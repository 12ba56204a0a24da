"""Finds the operators of a TFLite graph that belong to one output alone: its head."""

from __future__ import annotations

from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.inspect import COMPUTE


def head(content: bytes, output: int, *, convolutions: int) -> frozenset[str]:
    """Operators from the output back to its last ``convolutions`` operators with weights.

    Args:
        content: A TFLite model.
        output: Index of the model's output.
        convolutions: How many operators with weights to go back on each path; 1 is the last one and all behind it.

    Returns:
        Names of their first output tensors, as ``float_outputs`` of :func:`edgesdk_converters.tflite.quantize.int8`
        takes them. Operators that other outputs depend on, too, are left out.
    """
    model = fb.read(content)
    graph = model.subgraphs[0]
    producer = {index: op for op in graph.operators for index in fb.ids(op.outputs)}
    outputs = fb.ids(graph.outputs)

    def behind(start: int, limit: int) -> set[int]:
        found: set[int] = set()
        queue = [(start, limit)]
        best: dict[int, int] = {}
        while queue:
            tensor, left = queue.pop()
            operator = producer.get(tensor)
            if operator is None or left <= best.get(tensor, 0):
                continue
            best[tensor] = left
            found.add(fb.ids(operator.outputs)[0])
            spent = fb.code_name(fb.code_of(model, operator)) in COMPUTE
            queue.extend((i, left - spent) for i in fb.ids(operator.inputs) if i >= 0)
        return found

    everything = len(graph.operators) + 1
    shared: set[int] = set()
    for index, tensor in enumerate(outputs):
        if index != output:
            shared |= behind(tensor, everything)
    own = behind(outputs[output], convolutions) - shared
    return frozenset(fb.text(graph.tensors[index].name) for index in own)
