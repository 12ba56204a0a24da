"""Constants of a TFLite file that are not numbers: NaN, infinite weights, scales that are no scales."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.inspect import COMPUTE

_FLOATS = {"float32": np.float32, "float16": np.float16, "float64": np.float64}


def not_numbers(content: bytes, *, name: str) -> str | None:
    """The first operator, in order, that takes a constant with such values, in words; None where there is none.

    Infinity is an accident in a convolution or matrix product; elsewhere it masks (attention, maxima).

    Raises:
        ModelFormatError: The file is damaged.
    """
    model = fb.read(content, name=name)
    for number, kind, tensor in _constants(model):
        words = f"operator {number} ({kind}) takes {fb.text(tensor.name)!r}"
        scales = np.asarray([] if (found := getattr(tensor.quantization, "scale", None)) is None else found, np.float64)
        if scales.size and not (np.isfinite(scales).all() and (scales > 0).all()):
            return f"{words}, whose quantization has a scale of {scales[~(np.isfinite(scales) & (scales > 0))][0]:g}"
        raw, type_ = fb.constant(model, tensor), _FLOATS.get(fb.type_name(tensor.type))
        if raw is None or type_ is None or len(raw) % np.dtype(type_).itemsize:
            continue
        values = np.frombuffer(raw, type_)
        for label, wrong in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
            if wrong.any() and (label == "NaN" or kind in COMPUTE):
                return f"{words}, in which {int(wrong.sum())} of {values.size} values are {label}"
    return None


def _constants(model: Any) -> Iterator[tuple[int, str, Any]]:
    """Operator, its name, and each tensor that it takes for the first time."""
    for graph in model.subgraphs:
        seen: set[int] = set()
        for number, operator in enumerate(graph.operators):
            for index in fb.ids(operator.inputs):
                if index >= 0 and index not in seen:
                    seen.add(index)
                    yield number, fb.code_name(fb.code_of(model, operator)), graph.tensors[index]
