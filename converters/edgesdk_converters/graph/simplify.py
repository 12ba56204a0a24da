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
from edgesdk_converters.graph.view import inputs_of
from edgesdk_converters.guard.fidelity import snr_db
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]

EQUAL_DB = 60.0
"""Folding reorders float32 sums, which costs far less than this; a changed model is far below it."""


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
        _restore_inputs(slimmed, model)
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

    Text detectors answer noise with a map that is nearly zero; without ONNX Runtime's own fusions such a model is further from itself
    than that. No rewriting is held to more: the limit is 6 dB below that, and never below 40.

    Args:
        model: Known to compute what ``reference`` does.
        reference: The source.
        feed: An input, in the reference's order.
    """
    return min(EQUAL_DB, max(own_rounding(model, reference, feed) - 6.0, 40.0))


def own_rounding(model: onnx.ModelProto, reference: OnnxRunner, feed: Sequence[Array]) -> float:
    """How far a model is from itself without ONNX Runtime's fusions, in dB: what rounding alone makes of its outputs.

    Args:
        model: Known to compute what ``reference`` does.
        reference: It, loaded.
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
        return math.inf
    pairs = zip(reference.run(feed), plain, strict=True)
    return min((snr_db(a, np.asarray(b)) for a, b in pairs if a.shape == np.shape(b)), default=math.inf)


def difference(model: onnx.ModelProto, reference: OnnxRunner, feeds: Sequence[Sequence[Array]]) -> float:
    """Smallest signal-to-noise ratio over all outputs, in dB; -inf where an output is another one altogether.

    That is: another name or shape, infinite or not a number in another place, or, of outputs that are no float, more than one value
    in a thousand that differs (a class decided by the last bit of a float may; 8-bit values may be one step off).

    Raises:
        ConversionError: ONNX Runtime does not load or run the model.
    """
    runner = OnnxRunner(model, name=reference.name)
    if sorted(runner.outputs) != sorted(reference.outputs) or not set(runner.inputs) <= set(reference.inputs):
        return -math.inf
    order = [reference.inputs.index(name) for name in runner.inputs]
    least = math.inf
    for feed in feeds:
        expected = reference.run(feed)
        got = runner.run_some(reference.outputs, [feed[index] for index in order])
        for a, b in zip(expected, got, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                return -math.inf
            least = min(least, closeness(a, b))
    return least


def closeness(a: Array, b: Array) -> float:
    """Of an expected and a computed array of one shape and type, in dB; see `difference`."""
    if a.dtype.kind not in "fc":
        apart = a != b
        if a.dtype.itemsize == 1 and a.dtype.kind in "iu":
            apart = np.abs(a.astype(np.int16) - b.astype(np.int16)) > 1
        return math.inf if np.count_nonzero(apart) <= a.size / 1000 else -math.inf
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    if odd.any() and not np.array_equal(a[odd], b[odd], equal_nan=True):
        return -math.inf
    return snr_db(a, b)


def random_feed(inputs: Sequence[tuple[tuple[int, ...], str, InputKind | None]]) -> list[Array]:
    """Reproducible noise where no real sample is at hand; states are zeros, constants what they are, bytes pixels, other whole numbers 0 or 1.

    Every table of ids has those two, and a mask needs both to show what it does.

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
        elif np.dtype(dtype) == np.uint8:
            feed.append(generator.integers(0, 256, shape, np.uint8))  # pixels
        elif np.dtype(dtype).kind == "f":
            feed.append(generator.uniform(-1, 1, shape).astype(dtype))
        else:
            values = generator.integers(0, 2, shape)
            values.reshape(-1)[:1] = 1  # a length or a mask of nothing but zeros says nothing
            feed.append(values.astype(dtype))
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


def _restore_inputs(model: onnx.ModelProto, like: onnx.ModelProto) -> None:
    """Inputs that nothing takes are dropped by onnxslim; who feeds the model counts on them, and on their order."""
    values = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs_of(like)]
    del model.graph.input[:]
    model.graph.input.extend(values)


def name_nodes(model: onnx.ModelProto, *, unnamed: bool = True) -> None:
    """Every node gets a unique name: float nodes are listed by name. The first of its name keeps it.

    Args:
        model: Changed in place.
        unnamed: Also those that have none.
    """
    taken = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if node.name in seen or (unnamed and not node.name):
            name = node.name or f"{node.op_type}_{index}"
            while name in taken:
                name = f"{name}_{index}"
            node.name = name
            taken.add(name)
        if node.name:
            seen.add(node.name)


def free_inputs(model: onnx.ModelProto) -> None:
    """Old files list their weights among the inputs, which keeps runtimes from treating them as constant."""
    inputs = inputs_of(model)
    if len(inputs) < len(model.graph.input):
        kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(int(model.ir_version), 4)  # before 4, weights had to be inputs
