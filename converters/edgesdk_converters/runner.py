"""Runs ONNX models on this machine for calibration, comparison and timing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.errors import ConversionError

Array = NDArray[Any]


WORKERS = min(4, os.cpu_count() or 1)
"""Threads of runs that are not timed; MLAS splits outputs, never sums, so their number changes no result."""


class OnnxRunner:
    """An ONNX Runtime session on the CPU; feeds are lists in the order of the graph's inputs."""

    def __init__(
        self,
        model: onnx.ModelProto | bytes,
        *,
        wanted: Sequence[str] | None = None,
        name: str = "model",
        order: tuple[Sequence[str], Sequence[str]] | None = None,
        threads: int = 1,
    ) -> None:
        """Load a model.

        Args:
            model: Parsed, or the bytes of a file.
            wanted: Tensors that :meth:`run_wanted` returns.
            name: For messages.
            threads: More than one only where nothing is timed.
            order: Names of inputs and outputs in the order of feeds and results; None is the graph's own.

        Raises:
            ConversionError: ONNX Runtime does not load it.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised; a second, red copy on stderr helps nobody
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = model if isinstance(model, bytes) else model.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises half a dozen unrelated types
            unknown = "not a registered function/op" in str(error)
            fix = (
                "Export the model with standard ONNX operators only (opset 17): custom ones run nowhere else."
                if unknown
                else "Export it again with opset 17, or: pip install --upgrade onnxruntime"
            )
            raise ConversionError(f"{name}: ONNX Runtime does not load it: {str(error).rstrip('. ')}. {fix}") from error
        self.name = name
        self.inputs: list[str] = [value.name for value in self._session.get_inputs()]
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]
        if order is not None:
            self.inputs, self.outputs = list(order[0]), list(order[1])
        self._wanted = list(wanted) if wanted is not None else self.outputs

    def run(self, feed: Sequence[Array]) -> list[Array]:
        """All outputs, in order."""
        return self._run(self.outputs, feed)

    def run_some(self, names: Sequence[str], feed: Sequence[Array]) -> list[Array]:
        """Some of the outputs, in the order of ``names``."""
        return self._run(list(names), feed)

    def run_wanted(self, feed: Sequence[Array]) -> list[Array]:
        """The outputs named at construction; a graph input may be among them."""
        given = dict(zip(self.inputs, feed, strict=True))
        computed = [name for name in self._wanted if name not in given]
        values = dict(zip(computed, self._run(computed, feed), strict=True)) if computed else {}
        return [given[name] if name in given else values[name] for name in self._wanted]

    def _run(self, names: list[str], feed: Sequence[Array]) -> list[Array]:
        try:
            values = self._session.run(names, dict(zip(self.inputs, feed, strict=True)))
        except Exception as error:  # ONNX Runtime raises half a dozen unrelated types
            raise ConversionError(f"{self.name}: inference fails: {error}") from error
        return [np.asarray(value) for value in values]
