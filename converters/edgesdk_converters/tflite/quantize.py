"""Static int8 and float16 weights for TFLite files, and the check that operators really became what was asked for."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.tflite import flatbuffer as fb
from edgesdk_converters.tflite.inspect import Description, Operator, describe

Array = NDArray[Any]

MIN_HALF_ELEMENTS = 16
"""Constants below this size stay float32: the DEQUANTIZE operator would cost more than it saves."""


def int8(
    content: bytes, calibration: Sequence[Sequence[Array]], *, float_outputs: frozenset[str] = frozenset()
) -> bytes:
    """Quantize weights (per channel) and activations to int8; inputs and outputs of the model stay float32.

    Args:
        content: A normalised float TFLite model (:func:`edgesdk_converters.tflite.normalize.normalize`).
        calibration: For each sample, the input arrays in the model's order, in its shapes and dtypes.
        float_outputs: Operators (named by their first output tensor) that are left in float32.

    Returns:
        The quantized model.

    Raises:
        CalibrationError: No samples, or samples that do not fit the inputs.
        ConversionError: litert-quantizer refused, or left operators with weights in float that were not to stay so.
    """
    before = describe(content)
    _check_samples(before, calibration)
    from litert_quantizer import quantizer, recipe
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    signature = before.signatures[0] if before.signatures else None
    if signature is None:
        raise ConversionError("the TFLite model has no signature; run edgesdk_converters.tflite.normalize first.")
    samples = [
        {info.name: np.ascontiguousarray(array) for info, array in zip(before.inputs, sample, strict=True)}
        for sample in calibration
    ]
    with _quiet():
        try:
            worker = quantizer.Quantizer(content)
            worker.load_quantization_recipe(recipe.static_wi8_ai8())
            for boundary in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
                worker.update_quantization_recipe(".*", boundary, algorithm_key=AlgorithmName.NO_QUANTIZE)
            for name in sorted(float_outputs):
                # A scope is the operator's output tensor name with a ';' behind it.
                worker.update_quantization_recipe(
                    f"^{re.escape(name)};?$", TFLOperationName.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
                )
            ranges = worker.calibrate({signature: samples}, num_threads=1)
            result = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        except (ValueError, RuntimeError, KeyError, NotImplementedError, TypeError) as error:
            raise ConversionError(f"litert-quantizer refused the model: {error}") from error
    quantized = _restore_names(bytes(result.quantized_model), before)
    verify_int8(before, describe(quantized), float_outputs)
    return quantized


def _restore_names(content: bytes, before: Description) -> bytes:
    # The float tensor behind the last DEQUANTIZE is called `name_dequant`; users know it as `name`.
    model = fb.read(content)
    graph = model.subgraphs[0]
    for indices, infos in ((graph.inputs, before.inputs), (graph.outputs, before.outputs)):
        for index, info in zip(fb.ids(indices), infos, strict=True):
            name = info.name.encode()
            for tensor in graph.tensors:
                if tensor.name == name and tensor is not graph.tensors[index]:
                    tensor.name = name + b"_int8"
            graph.tensors[index].name = name
    return fb.write(model)


def verify_int8(before: Description, after: Description, float_outputs: frozenset[str]) -> None:
    """Check that every operator with weights became int8, but for those that were to stay in float.

    Raises:
        ConversionError: Some stayed in float although nobody asked for it; all are named.
    """
    stayed = [operator for operator in after.compute if not operator.integer and operator.output not in float_outputs]
    if len(after.compute) < len(before.compute):
        raise ConversionError(
            f"the quantized model has {len(after.compute)} operators with weights, the source {len(before.compute)}."
        )
    if not stayed:
        return
    listed = ", ".join(f"{o.name} '{o.output}' ({_types(o)})" for o in stayed[:8])
    more = f" and {len(stayed) - 8} more" if len(stayed) > 8 else ""
    raise ConversionError(
        f"litert-quantizer reported success, but {len(stayed)} of {len(after.compute)} operators with weights did not "
        f"become int8: {listed}{more}. Keep them in float on purpose, or use the float16 variant."
    )


def float16(content: bytes) -> bytes:
    """Store float32 weights as float16 behind DEQUANTIZE operators; it computes in float32 as before.

    Args:
        content: A normalised float TFLite model.

    Returns:
        The model at about half its size. Values outside float16's range stay float32.
    """
    model = fb.read(content)
    schema = fb.schema()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    # Version 2 of the operator takes float16.
    code.version = 2
    model.operatorCodes.append(code)
    for graph in model.subgraphs:
        made = []
        for tensor in list(graph.tensors):
            values = _weights(model, tensor)
            if values is None:
                continue
            half = values.astype(np.float16)
            made.append(_dequantize(model, graph, tensor, half))
        graph.operators = [*made, *graph.operators]
    from edgesdk_converters.tflite.normalize import drop_orphan_buffers

    drop_orphan_buffers(model)
    return fb.write(model)


def _weights(model: Any, tensor: Any) -> NDArray[np.float32] | None:
    raw = fb.constant(model, tensor)
    if raw is None or tensor.type != fb.schema().TensorType.FLOAT32 or tensor.sparsity is not None:
        return None
    values = np.frombuffer(raw, dtype=np.float32)
    if values.size < MIN_HALF_ELEMENTS or float(np.abs(values).max()) > float(np.finfo(np.float16).max):
        return None
    return values


def _dequantize(model: Any, graph: Any, tensor: Any, half: NDArray[np.float16]) -> Any:
    schema = fb.schema()
    stored = schema.TensorT()
    stored.name = tensor.name + b"_half"
    stored.shape, stored.type = tensor.shape, schema.TensorType.FLOAT16
    fb.set_constant(model, stored, half)
    graph.tensors.append(stored)
    tensor.buffer = 0  # computed from now on
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [len(graph.tensors) - 1], [graph.tensors.index(tensor)]
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def _check_samples(model: Description, calibration: Sequence[Sequence[Array]]) -> None:
    if not calibration:
        raise CalibrationError("no calibration samples: static int8 needs some. Give a folder with --calibration.")
    problems = []
    for number, sample in enumerate(calibration):
        if len(sample) != len(model.inputs):
            problems.append(f"sample {number}: got {len(sample)} arrays, expected {len(model.inputs)}")
            continue
        problems += [
            f"sample {number}: input '{info.name}' got {array.dtype} {array.shape}, expected {info.dtype} {info.shape}"
            for info, array in zip(model.inputs, sample, strict=True)
            if tuple(array.shape) != info.shape or array.dtype != info.dtype
        ]
    if problems:
        raise CalibrationError("calibration samples do not fit the model:\n  " + "\n  ".join(problems[:10]))


def _types(operator: Operator) -> str:
    return f"{operator.input_type} x {operator.weight_type or '-'} -> {operator.output_type}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # litert-quantizer talks through absl's logger, print and tqdm; what matters is checked afterwards.
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        sink = io.StringIO()
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            # Its calibrator keeps all tensors on purpose; LiteRT warns that this is for debugging.
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
            yield
    finally:
        logger.setLevel(level)
