"""What a TFLite file holds: boundary tensors, operators and the types that they really compute in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from edgesdk.backends.api import TensorInfo
from edgesdk.bundle.manifest import Quantization
from edgesdk_converters.tflite import flatbuffer as fb

COMPUTE = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"})
"""Operators that carry weights and nearly all multiplications."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of the main graph."""

    index: int
    name: str
    """Builtin name, for example ``CONV_2D``."""
    output: str
    """Name of its first output tensor, which is its scope in recipes."""
    input_type: str
    weight_type: str | None
    """Type of its constant weights; None where it has none."""
    output_type: str

    @property
    def integer(self) -> bool:
        """Whether data, weights and result are all 8-bit integers."""
        types = {self.input_type, self.output_type, *([self.weight_type] if self.weight_type else [])}
        return types <= {"int8", "uint8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A TFLite model."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    signatures: tuple[str, ...]
    subgraphs: int
    size_bytes: int

    @property
    def counts(self) -> dict[str, int]:
        """Operators by name."""
        return dict(Counter(operator.name for operator in self.operators))

    @property
    def compute(self) -> tuple[Operator, ...]:
        """The operators with weights."""
        return tuple(operator for operator in self.operators if operator.name in COMPUTE)

    @property
    def integer_share(self) -> float:
        """Share of the operators with weights that compute in 8-bit integers, 0..1."""
        return sum(o.integer for o in self.compute) / len(self.compute) if self.compute else 0.0


def describe(content: bytes, *, name: str = "model.tflite") -> Description:
    """Look into a TFLite file.

    Raises:
        ModelFormatError: It is no TFLite file, or damaged.
    """
    model = fb.read(content, name=name)
    graph = model.subgraphs[0]
    tensors = graph.tensors
    operators = []
    for index, operator in enumerate(graph.operators):
        inputs, outputs = fb.ids(operator.inputs), fb.ids(operator.outputs)
        weights = [tensors[i] for i in inputs[1:2] if i >= 0 and fb.constant(model, tensors[i]) is not None]
        kind = fb.code_name(fb.code_of(model, operator))
        operators.append(
            Operator(
                index=index,
                name=kind,
                output=fb.text(tensors[outputs[0]].name) if outputs else "",
                input_type=fb.type_name(tensors[inputs[0]].type) if inputs and inputs[0] >= 0 else "",
                weight_type=fb.type_name(weights[0].type) if weights and kind in COMPUTE else None,
                output_type=fb.type_name(tensors[outputs[0]].type) if outputs else "",
            )
        )
    return Description(
        inputs=tuple(_info(tensors[i]) for i in fb.ids(graph.inputs)),
        outputs=tuple(_info(tensors[i]) for i in fb.ids(graph.outputs)),
        operators=tuple(operators),
        signatures=tuple(fb.text(s.signatureKey) for s in model.signatureDefs or []),
        subgraphs=len(model.subgraphs),
        size_bytes=len(content),
    )


def _info(tensor: object) -> TensorInfo:
    shape = fb.ids(getattr(tensor, "shape", None))
    signature = fb.ids(getattr(tensor, "shapeSignature", None))
    # shape_signature has -1 where a dimension may be resized; shape then holds the size that was traced.
    dynamic = tuple(signature) if signature and len(signature) == len(shape) else tuple(shape)
    kind = fb.type_name(getattr(tensor, "type", 0))
    return TensorInfo(
        name=fb.text(getattr(tensor, "name", b"")),
        shape=dynamic,
        dtype=np.dtype({"string": "object"}.get(kind, kind)),
        quantization=_quantization(getattr(tensor, "quantization", None)),
    )


def _quantization(parameters: object) -> Quantization | None:
    scale = getattr(parameters, "scale", None)
    if scale is None or len(scale) == 0:
        return None
    zero = getattr(parameters, "zeroPoint", None)
    return Quantization(
        scale=tuple(float(s) for s in scale),
        zero_point=tuple(int(z) for z in zero) if zero is not None and len(zero) else (0,) * len(scale),
        axis=int(getattr(parameters, "quantizedDimension", 0)) if len(scale) > 1 else None,
    )
