"""TFLite files: reading, normalising, quantizing, inspecting."""

from edgesdk_converters.tflite.heads import head
from edgesdk_converters.tflite.inspect import Description, describe
from edgesdk_converters.tflite.normalize import normalize
from edgesdk_converters.tflite.quantize import float16, int8

__all__ = ["Description", "describe", "float16", "head", "int8", "normalize"]
