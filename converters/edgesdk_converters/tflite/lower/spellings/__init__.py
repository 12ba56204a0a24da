"""ONNX operators spelled out in other ONNX operators, one module for each kind; found by themselves (see `..sketch`)."""

__all__: list[str] = []
