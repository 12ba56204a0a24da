"""Simplifies a graph (constants folded, shape arithmetic gone, BatchNormalization in its convolution) and proves it."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ConstantInput, InputKind, InputSpec, StateInput
from edgesdk.errors import ConversionError
from edgesdk.tasks.inputs import constant
from edgesdk_converters.guard.fidelity import snr_db
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]

EQUAL_DB = 60.0
"""Folding reorders float32 sums; what is the same model came out at 100 dB and more on every model tried."""


def first_equal(
    attempts: Sequence[tuple[str, Callable[[], onnx.ModelProto]]], reference: OnnxRunner, feed: Sequence[Array]
) -> tuple[onnx.ModelProto, list[str]]:
    """The first of several forms of a model that loads and computes what its source does.

    Args:
        attempts: What is given up with each, in words (empty for nothing), and how to make it; the best first.
        reference: The source.
        feed: An input to compare on.

    Raises:
        ConversionError: None of them does; with each one's reason.
    """
    reasons: list[str] = []
    for given_up, make in attempts:
        try:
            model = make()
            distance = difference(model, reference, [feed])
        except ConversionError as error:
            reasons.append(str(error).strip().splitlines()[0][:200])
            continue
        if distance >= EQUAL_DB:
            return model, [f"{given_up} ({reasons[0]})"] if given_up else []
        reasons.append(f"it computes something else then ({distance:.1f} dB, expected {EQUAL_DB:.0f} or more)")
    raise ConversionError(
        "\n  ".join(
            (f"{reference.name}: cannot be prepared. Export it again with opset 17 and static shapes.", *reasons)
        )
    )


def simplify(
    model: onnx.ModelProto, reference: OnnxRunner, feeds: Sequence[Sequence[Array]], *, least_db: float = EQUAL_DB
) -> tuple[onnx.ModelProto, list[str]]:
    """A simplified copy of ``model`` with unique node names, and notes about what was not possible.

    Args:
        model: Known to compute what the source does.
        reference: The source, to compare with.
        feeds: Inputs to compare on.
        least_db: How close it must stay.
    """
    notes: list[str] = []
    try:
        slimmed = _slim(model)
        if {value.name for value in slimmed.graph.input} < {value.name for value in model.graph.input}:
            raise ValueError("it drops an input")  # noqa: TRY301 - falls back like onnxslim's own errors
        distance = difference(slimmed, reference, feeds)
        if distance < least_db:
            notes.append(f"not simplified: onnxslim's result differs from the source ({distance:.1f} dB)")
            slimmed = model
    except Exception as error:  # noqa: BLE001 - onnxslim raises whatever its patterns trip over; the model works without it
        notes.append(f"not simplified: onnxslim failed ({type(error).__name__}: {str(error).strip()[:120]})")
        slimmed = model
    copy = onnx.ModelProto()
    copy.CopyFrom(slimmed)
    name_nodes(copy)
    free_inputs(copy)
    return copy, notes


def equal_limit(model: onnx.ModelProto, reference: OnnxRunner, feed: Sequence[Array]) -> float:
    """The ratio in dB from which on a rewritten model counts as the same: `EQUAL_DB`, or less where rounding alone is louder.

    PP-OCR's detector answers noise of 320x320 with a map that ends at 0.0008: without ONNX Runtime's own fusions it is 52 dB from
    itself. No rewriting is held to more: the limit is 6 dB below that, and never below 40.

    Args:
        model: Known to compute what ``reference`` does.
        reference: The source.
        feed: An input, in the reference's order.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        plain = session.run(reference.outputs, dict(zip(reference.inputs, feed, strict=True)))
    except Exception:  # noqa: BLE001 - some fused operators have no plain kernel; then nothing is known about the rounding
        return EQUAL_DB
    pairs = zip(reference.run(feed), plain, strict=True)
    floor = min((snr_db(a, np.asarray(b)) for a, b in pairs if a.shape == np.shape(b)), default=math.inf)
    return min(EQUAL_DB, max(floor - 6.0, 40.0))


def difference(model: onnx.ModelProto, reference: OnnxRunner, feeds: Sequence[Sequence[Array]]) -> float:
    """Smallest signal-to-noise ratio over all outputs, in dB; outputs that are not float must be equal."""
    runner = OnnxRunner(model, name=reference.name)
    order = [reference.inputs.index(name) for name in runner.inputs]
    least = math.inf
    for feed in feeds:
        expected = reference.run(feed)
        got = runner.run([feed[index] for index in order])
        for a, b in zip(expected, got, strict=True):
            if a.shape != b.shape:
                return -math.inf
            least = min(least, snr_db(a, b))
    return least


def random_feed(inputs: Sequence[tuple[tuple[int, ...], str, InputKind | None]]) -> list[Array]:
    """Reproducible noise where no real sample is at hand; states are zeros, constants what they are.

    Args:
        inputs: Shape, dtype and, where known, kind of each input.
    """
    generator = np.random.default_rng(0)
    feed: list[Array] = []
    for shape, dtype, kind in inputs:
        if isinstance(kind, ConstantInput):
            feed.append(constant(InputSpec(name="constant", shape=shape, dtype=dtype, source=kind)))
        elif isinstance(kind, StateInput):
            feed.append(np.zeros(shape, dtype))
        elif np.dtype(dtype).kind == "f":
            feed.append(generator.uniform(-1, 1, shape).astype(dtype))
        else:
            feed.append(np.ones(shape, dtype))
    return feed


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    logger = logging.getLogger("onnxslim")
    level = logger.level
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            logger.setLevel(logging.ERROR)
            result: onnx.ModelProto = onnxslim.slim(copy)
        finally:
            logger.setLevel(level)
    return result


def name_nodes(model: onnx.ModelProto) -> None:
    """Every node gets a unique name: float nodes are listed by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in seen:
            name = f"{name}_{index}"
        node.name = name
        seen.add(name)


def free_inputs(model: onnx.ModelProto) -> None:
    """Old files list their weights among the inputs, which keeps runtimes from treating them as constant."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
