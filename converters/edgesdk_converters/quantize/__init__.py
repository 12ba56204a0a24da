"""Quantization of ONNX models: static int8 (QDQ), float16 weights, and the search for what the guard accepts."""

from edgesdk_converters.quantize.half import halve
from edgesdk_converters.quantize.static import Quantizer, int8

__all__ = ["Quantizer", "halve", "int8"]
