"""The steps of the lowering, in order."""

from __future__ import annotations

import onnx

from edgesdk.errors import NodeProblem
from edgesdk_converters.tflite.lower import cleanup, expand, fusion, importer, quantized, quantized_weights, writer
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.pixels import dequantize_directly
from edgesdk_converters.tflite.lower.problems import raise_all


def lower(model: onnx.ModelProto, *, name: str = "model", half: bool = False) -> bytes:
    """A TFLite file that computes what the ONNX model computes.

    Args:
        model: Opset 13 or later, static input shapes; left as it is. Inputs and outputs keep names, shapes, types and order.
        name: For messages and the file's description.
        half: Keep float weights as float16 behind DEQUANTIZE: half the size, float32 arithmetic.

    Raises:
        NotExpressibleError: TFLite lacks what some nodes need; lists every one, and nothing was written.
    """
    lowering, problems = _lowered(model, name)
    raise_all(name, problems)
    operators = dequantize_directly(quantized_weights.settle(lowering.operators))
    operators = cleanup.tidy(operators, lowering.outputs)
    if half:
        operators = cleanup.halve(operators)
    return writer.write(operators, lowering.inputs, lowering.outputs, description=name)


def expressible(model: onnx.ModelProto, *, name: str = "model") -> tuple[NodeProblem, ...]:
    """What TFLite cannot express of a model; empty where `lower` will succeed."""
    return tuple(_lowered(model, name)[1])


def _lowered(model: onnx.ModelProto, name: str) -> tuple[Lowering, list[NodeProblem]]:
    keep_float: frozenset[str] = frozenset()
    refused: frozenset[expand.Key] = frozenset()
    model = quantized_weights.unfold(model)
    while True:
        graph, problems = importer.read(model, name=name, refused=refused)
        fusion.fuse(graph)
        absorbed = quantized.absorb(graph, keep_float)
        lowering = Lowering(graph)
        lowering.run()
        # Nodes whose family cannot write them with integers get DEQUANTIZE and QUANTIZE around them instead.
        faulty = quantized.faults(lowering, absorbed)
        keep_float |= faulty
        # What a family cannot write may have a longer spelling.
        spelled = {
            (node.name, node.op_type)
            for node in graph.nodes
            if expand.expandable(node)
            and any(p.node == node.name and p.op_type == node.op_type for p in lowering.problems)
        } - refused
        refused |= spelled
        if not faulty and not spelled:
            break
    known = {(problem.node, problem.op_type) for problem in problems}
    problems += [problem for problem in lowering.problems if (problem.node, problem.op_type) not in known]
    return lowering, problems
