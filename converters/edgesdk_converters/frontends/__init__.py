"""What reads source models: ONNX, TFLite, PyTorch, TensorFlow and Keras, scikit-learn."""

from edgesdk_converters.frontends.api import Frontend, SourceModel, Tensor, read_source

__all__ = ["Frontend", "SourceModel", "Tensor", "read_source"]
