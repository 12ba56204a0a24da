"""Quantization of ONNX models: recipes, plans, the quantizer that carries them out, and float16 weights."""

from edgesdk_converters.quantize.half import halve
from edgesdk_converters.quantize.quantizer import Quantizer

__all__ = ["Quantizer", "halve"]
