"""TFLite to ONNX without TensorFlow, so that a TFLite source takes the same road as any other.

`builder` keeps every 4-D tensor channels-last or channels-first, whichever its maker had, and transposes on demand and once;
`operators` finds the function for a TFLite operator, and the files beside it hold them, a family each. A new one is a function
``(graph: Builder, op: Op) -> None`` with the decorator ``@lifts("NAME")``.
"""

from edgesdk_converters.tflite.lift.lift import lift

__all__ = ["lift"]
