"""ONNX graphs: shapes pinned, operator set raised, simplified, and what each output is made of."""

from edgesdk_converters.graph.branches import find_branches
from edgesdk_converters.graph.opset import raise_opset
from edgesdk_converters.graph.shapes import pin_shapes
from edgesdk_converters.graph.simplify import simplify

__all__ = ["find_branches", "pin_shapes", "raise_opset", "simplify"]
