"""Static int8 for ONNX in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError, ConversionError
from edgesdk_converters.quantize import equalize, qdq
from edgesdk_converters.quantize.half import halve
from edgesdk_converters.quantize.ranges import Method, Observer
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.runner import WORKERS, OnnxRunner

Array = NDArray[Any]
Feeds = Sequence[Sequence[Array]]


def int8(
    model: onnx.ModelProto,
    calibration: Feeds,
    *,
    exclude: frozenset[str] = frozenset(),
    method: Method = "mse",
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Quantize a simplified float model to QDQ: see :mod:`edgesdk_converters.quantize.qdq`.

    Args:
        model: Opset >= 13, static shapes, unique node names.
        calibration: Input arrays in the graph's order, one list per inference.
        exclude: Nodes that stay float.
        method: How ranges are chosen.
        reduce_range: 7-bit weights, for x86-64 CPUs without VNNI.

    Raises:
        CalibrationError: No samples.
        ConversionError: Nothing in the model can be quantized.
    """
    return Quantizer(model, calibration, reduce_range=reduce_range).quantize(exclude=exclude, method=method)


class Quantizer:
    """Quantizes one float model in several ways; the calibration samples are run once per kind of question."""

    def __init__(self, model: onnx.ModelProto, calibration: Feeds, *, reduce_range: bool = False) -> None:
        if not calibration:
            raise CalibrationError("no calibration samples: static int8 needs some. Give a folder with --calibration.")
        self.candidates: list[str] = qdq.candidates(model)
        if not self.candidates:
            raise ConversionError(
                "nothing in this model can be quantized: it has no Conv, Gemm or MatMul with constant float32 weights at its top level"
                + (
                    ". Its weights are float16: export it again in float32 (without half=True)"
                    if _is_half(model)
                    else ""
                )
            )
        self._model = model
        self._calibration = calibration
        self._reduce_range = reduce_range
        self._balanced: onnx.ModelProto | None = None
        self._observers: dict[bool, Observer] = {}

    def quantize(
        self,
        *,
        exclude: frozenset[str] = frozenset(),
        method: Method = "mse",
        balance: bool = False,
        half: bool = True,
    ) -> onnx.ModelProto:
        """A quantized copy; the weights of nodes that stay float are stored as float16.

        Args:
            exclude: Nodes that stay float.
            method: How ranges are chosen.
            balance: Equalize channels first.
            half: Whether to store what stays float as float16; a search that tries many copies saves the time.
        """
        base = self._base(balance)
        if balance not in self._observers:
            self._observers[balance] = Observer(
                base, self._calibration, qdq.activations(base, dict.fromkeys(self.candidates, "w8a8"))
            )
        observer = self._observers[balance]
        ranges = observer.ranges(method)
        plan = Plan(
            recipe="w8a8",
            model_sha256="",
            schemes={name: "float" if name in exclude else "w8a8" for name in self.candidates},
            calibrator=method,
            equalize=balance,
            bias_correction=True,
            rounding="nearest",
            per_channel=True,
            block_size=32,
        )
        quantized = qdq.insert(base, plan, ranges, reduce_range=self._reduce_range, means=observer.means)
        return halve(quantized) if half else quantized

    def weight_bytes(self) -> dict[str, int]:
        """Elements of each candidate's weights, which is their size in int8."""
        sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in self._model.graph.initializer}
        return {
            node.name: sizes.get(node.input[1], 0) for node in self._model.graph.node if node.name in self.candidates
        }

    def _base(self, balance: bool) -> onnx.ModelProto:  # noqa: FBT001 - private, and one of two models
        if not balance:
            return self._model
        if self._balanced is None:
            self._balanced = equalize.equalize(self._model, channel_maxima(self._model, self._calibration))
        return self._balanced


def channel_maxima(model: onnx.ModelProto, calibration: Feeds) -> Mapping[str, NDArray[np.float64]]:
    """Largest magnitude per channel (C,) of the tensors that can be equalized."""
    names = equalize.inputs(model)
    if not names:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in there
    )
    runner = OnnxRunner(watched, wanted=names, threads=WORKERS)
    maxima: dict[str, NDArray[np.float64]] = {}
    for feed in calibration:
        for name, value in zip(names, runner.run_wanted(feed), strict=True):
            largest = np.abs(value).max(axis=(0, *range(2, value.ndim))).astype(np.float64)
            maxima[name] = np.maximum(maxima[name], largest) if name in maxima else largest
    return maxima


def _is_half(model: onnx.ModelProto) -> bool:
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
