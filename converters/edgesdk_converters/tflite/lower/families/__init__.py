"""One module for each family of ONNX operators; every module in here is imported and registers itself."""

__all__: list[str] = []
