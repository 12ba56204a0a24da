"""TFLite files: reading, normalising, inspecting; `lower` makes them from ONNX, `lift` makes ONNX of them."""

from edgesdk_converters.tflite.inspect import Description, describe
from edgesdk_converters.tflite.normalize import normalize

__all__ = ["Description", "describe", "normalize"]
