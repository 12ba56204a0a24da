"""The steps of the lowering, in order."""

from __future__ import annotations

import onnx

from edgesdk.errors import ConversionError, EdgeSdkError, ModelFormatError, NodeProblem
from edgesdk_converters.graph.opset import raise_opset
from edgesdk_converters.tflite.lower import cleanup, expand, fusion, importer, quantized, quantized_weights, writer
from edgesdk_converters.tflite.lower.lowering import Lowering
from edgesdk_converters.tflite.lower.pixels import dequantize_directly
from edgesdk_converters.tflite.lower.problems import raise_all
from edgesdk_converters.tflite.lower.quantized_operators import pair_operators
from edgesdk_converters.tflite.lower.registry import rule_of

OLDEST_OPSET = 13
"""Of the operators that families read; older models are raised first."""


def lower(model: onnx.ModelProto, *, name: str = "model", half: bool = False) -> bytes:
    """A TFLite file that computes what the ONNX model computes.

    Args:
        model: Static input shapes; left as it is. Inputs and outputs keep names, shapes, types and order.
        name: For messages and the file's description.
        half: Keep float weights as float16 behind DEQUANTIZE: half the size, float32 arithmetic.

    Raises:
        NotExpressibleError: TFLite lacks what some nodes need; lists every one, and nothing was written.
    """
    try:
        return _written(model, name, half=half)
    except EdgeSdkError:
        raise
    except Exception as error:
        raise _fault(model, name, error) from error


def _written(model: onnx.ModelProto, name: str, *, half: bool) -> bytes:
    lowering, problems = _lowered(model, name)
    raise_all(name, problems)
    operators = dequantize_directly(quantized_weights.settle(lowering.operators))
    operators = cleanup.tidy(operators, lowering.outputs)
    if half:
        operators = cleanup.halve(operators)
    constants = {id(t): t.data.nbytes for o in operators for t in o.inputs if t is not None and t.data is not None}
    if sum(constants.values()) > importer.MAX_BYTES:
        reason = f"its constants take {sum(constants.values()):,} bytes, a TFLite file holds less than {importer.MAX_BYTES:,}"
        raise_all(name, [NodeProblem(name, "model", reason, "Quantize the weights or split the model")])
    return writer.write(operators, lowering.inputs, lowering.outputs, description=name)


def expressible(model: onnx.ModelProto, *, name: str = "model") -> tuple[NodeProblem, ...]:
    """What TFLite cannot express of a model; empty where `lower` will succeed."""
    try:
        return tuple(_lowered(model, name)[1])
    except EdgeSdkError:
        raise
    except Exception as error:
        raise _fault(model, name, error) from error


def _fault(model: onnx.ModelProto, name: str, error: Exception) -> ConversionError:
    """What to say where something breaks: the model, if onnx objects to it; else this converter."""
    if isinstance(error, UnicodeError):
        return ModelFormatError(f"{name}: a name in it is no UTF-8 text ({error}). Copy or download the file again.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as objection:  # noqa: BLE001 - onnx's own types, and what its C++ core raises
        first = (str(objection).strip().splitlines() or [type(objection).__name__])[0][:300]
        return ModelFormatError(f"{name}: the ONNX graph is not valid: {first}. Export the model again.")
    return ConversionError(
        f"{name}: lowering to TFLite failed with {type(error).__name__}: {error}. onnx finds no fault with the model, so it is one "
        "of edgesdk: please report it with the model. Until then convert with the formats that do not need TFLite."
    )


def _lowered(model: onnx.ModelProto, name: str) -> tuple[Lowering, list[NodeProblem]]:
    keep_float: frozenset[str] = frozenset()
    refused: frozenset[expand.Key] = frozenset()
    try:
        model = pair_operators(quantized_weights.unfold(_raised(model, name)))
    except ConversionError as error:
        problem = NodeProblem(name, "opset", str(error).partition(": ")[2].strip("."))
        return Lowering(importer.empty(name)), [problem]
    first: dict[expand.Key, NodeProblem] = {}
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
        for problem in lowering.problems:
            first.setdefault((problem.node, problem.op_type), problem)
        if not faulty and not spelled:
            break
    known = {(problem.node, problem.op_type) for problem in problems}
    problems += [problem for problem in lowering.problems if (problem.node, problem.op_type) not in known]
    return lowering, _of_the_model(problems, model, first)


def _raised(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with operators as the families know them: those of opset 12 and before say the same in other ways."""
    versions = [int(item.version) for item in model.opset_import if item.domain in ("", "ai.onnx")]
    return raise_opset(model, file=name)[0] if versions and versions[0] < OLDEST_OPSET else model


def _of_the_model(
    problems: list[NodeProblem], model: onnx.ModelProto, first: dict[expand.Key, NodeProblem]
) -> list[NodeProblem]:
    """Problems of nodes that expansions made, said of the model's node that was expanded; each problem once."""
    if any(problem.op_type != "output" for problem in problems):  # then it is these nodes that outputs wait for
        problems = [problem for problem in problems if problem.op_type != "output"]
    own = {importer.label(node): node.op_type for node in model.graph.node}
    kept: list[NodeProblem] = []
    told: set[str] = set()
    for problem in problems:
        parts = problem.node.split("/")
        ancestors = ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
        name = next((name for name in ancestors if name in own), None)
        if problem.node in own or name is None:
            # What the family said of it: a spelling knows less of what TFLite lacks.
            known = rule_of(problem.op_type) is not None
            kept.append(first.get((problem.node, problem.op_type), problem) if known else problem)
        elif name not in told:
            told.add(name)
            kept.append(first.get((name, own[name]), NodeProblem(name, own[name], problem.reason, problem.fix)))
    return kept
