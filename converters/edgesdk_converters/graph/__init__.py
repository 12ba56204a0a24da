"""ONNX graphs: shapes pinned, operator set raised, simplified, pre-processing folded in, and what each output is made of."""

from edgesdk_converters.graph.branches import find_branches
from edgesdk_converters.graph.fold import fold_input, source_input
from edgesdk_converters.graph.opset import raise_opset
from edgesdk_converters.graph.passes import Condition, Equal, Pass, Step, run_passes
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.shapes import pin_shapes
from edgesdk_converters.graph.simplify import simplify

__all__ = [
    "Condition",
    "Equal",
    "Pass",
    "Step",
    "find_branches",
    "fold_input",
    "pin_shapes",
    "prepare",
    "raise_opset",
    "run_passes",
    "simplify",
    "source_input",
]
