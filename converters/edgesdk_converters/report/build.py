"""Makes a record of what a conversion left behind; whatever was not found out stays empty and is not shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import Manifest, Measurement
from edgesdk.errors import EdgeSdkError
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.report.record import CalibrationFindings, Example, NodeCost, Record, TensorHistogram, Trial

if TYPE_CHECKING:
    from edgesdk_converters.pipeline import Conversion

_MIN_WEIGHTS = 64
"""A constant with fewer elements is a scale or a bias, and its zeros save nothing."""


class Contents(NamedTuple):
    """What is inside a model file."""

    operators: dict[str, int]
    """Operator -> how many."""
    sparsity: dict[str, float]
    """Node -> share of its weights that are zero, 0..1."""


def record_of(
    conversion: Conversion,
    *,
    trials: Sequence[Trial] | None = None,
    limits: Mapping[str, float] | None = None,
    sensitivity: Sequence[NodeCost] = (),
    histograms: Sequence[TensorHistogram] = (),
    examples: Sequence[Example] = (),
    calibration: CalibrationFindings | None = None,
    plan: Plan | None = None,
    contents: Mapping[str, Contents] | None = None,
) -> Record:
    """The record of a conversion.

    Args:
        conversion: What :func:`edgesdk_converters.pipeline.convert` returned.
        trials: All that was tried; by default what the bundle's measurements name.
        limits: :meth:`edgesdk_converters.guard.budget.Budget.limits`.
        sensitivity: Any order.
        histograms: Likewise.
        examples: From :func:`edgesdk_converters.report.examples.make_examples`.
        calibration: What was found about the calibration set.
        plan: Of the chosen quantized model.
        contents: Variant id -> what is inside; by default read from the bundle.
    """
    return _record(
        conversion.manifest,
        conversion.measurements.variants,
        bundle=conversion.bundle.name,
        path=conversion.bundle if conversion.bundle.exists() else None,
        device=conversion.device,
        failures=conversion.failures,
        allowed=conversion.allowed,
        trials=trials,
        limits=limits,
        contents=contents,
        sensitivity=sensitivity,
        histograms=histograms,
        examples=examples,
        calibration=calibration,
        plan=plan,
    )


def record_of_bundle(bundle: Bundle) -> Record:
    """What a bundle says of itself: less than a record of its conversion, which also knows what was tried."""
    measured = bundle.measurements.variants if bundle.measurements is not None else ()
    return _record(
        bundle.manifest,
        measured,
        bundle=bundle.path.name,
        path=None,
        device=bundle.manifest.provenance.device or "any board",
        failures=(),
        allowed=bundle.manifest.allowed,
        trials=None,
        limits=None,
        contents=_read_contents(bundle),
        identity=bundle.identity,
    )


def _record(
    manifest: Manifest,
    measured: Sequence[Measurement],
    *,
    bundle: str,
    path: Path | None,
    device: str,
    failures: Sequence[str],
    allowed: str | None,
    trials: Sequence[Trial] | None,
    limits: Mapping[str, float] | None,
    contents: Mapping[str, Contents] | None,
    identity: str = "",
    sensitivity: Sequence[NodeCost] = (),
    histograms: Sequence[TensorHistogram] = (),
    examples: Sequence[Example] = (),
    calibration: CalibrationFindings | None = None,
    plan: Plan | None = None,
) -> Record:
    files = manifest.files
    if path is not None:
        with Bundle.open(path) as opened:
            identity, files = opened.identity, opened.manifest.files
            contents = _read_contents(opened) if contents is None else contents
    contents = contents or {}
    tried = tuple(trials) if trials is not None else trials_of(manifest, measured)
    # Of the float weights where they are in the bundle: integers are zero more often, because small values round to it.
    sparse = next((one.sparsity for one in sorted(contents.values(), key=_integers) if one.sparsity), {})
    return Record(
        name=manifest.name,
        bundle=bundle,
        version=manifest.version,
        identity=identity,
        device=device,
        host=next((t.measurement.latency.host for t in tried if t.measurement.latency is not None), ""),
        contract=manifest.contract,
        provenance=manifest.provenance,
        licence=manifest.licence,
        assumptions=manifest.assumptions,
        limits=dict(limits or {}),
        trials=tried,
        failures=tuple(failures),
        sensitivity=tuple(sensitivity),
        histograms=tuple(histograms),
        examples=tuple(examples),
        calibration=calibration,
        sparsity=sparse,
        operators={variant: one.operators for variant, one in contents.items()},
        allowed=allowed,
        files=files,
        plan=plan,
    )


def _integers(contents: Contents) -> int:
    return sum(count for name, count in contents.operators.items() if "quantize" in name.lower())


def trials_of(manifest: Manifest, measured: Sequence[Measurement]) -> tuple[Trial, ...]:
    """The measured variants as trials."""
    variants = {variant.id: variant for variant in manifest.variants}
    trials = []
    for measurement in measured:
        form, _, precision = measurement.variant.partition("-")
        variant = variants.get(measurement.variant)
        quantized = precision not in ("fp32", "fp16")
        trials.append(
            Trial(
                recipe=(manifest.provenance.recipe or "") if quantized and variant is not None else "",
                format="tflite" if form == "tflite" else "onnx",
                precision=precision or measurement.variant,
                measurement=measurement,
                float_nodes=variant.float_nodes if variant is not None else (),
                chosen=variant is not None,
                inputs=variant.inputs if variant is not None else (),
                outputs=variant.outputs if variant is not None else (),
            )
        )
    return tuple(trials)


def _read_contents(bundle: Bundle) -> dict[str, Contents]:
    found = {}
    for variant in bundle.manifest.variants:
        try:
            found[variant.id] = contents_of(bundle.read(variant.file), variant.format)
        except (
            EdgeSdkError
        ):  # a stranger's bundle with a broken file: `edgesdk verify` says so, the report shows the rest
            continue
    return found


def contents_of(content: bytes, form: Literal["onnx", "tflite"]) -> Contents:
    """Look into a model file.

    Raises:
        EdgeSdkError: It cannot be read.
    """
    return _tflite(content) if form == "tflite" else _onnx(content)


def _onnx(content: bytes) -> Contents:
    import onnx
    from onnx import numpy_helper

    from edgesdk.errors import ModelFormatError

    try:
        model = onnx.load_from_string(content)
        constants = {value.name: value for value in model.graph.initializer}
        sparsity: dict[str, float] = {}
        source = {
            node.output[0]: node.input[0] for node in model.graph.node if node.op_type in ("Cast", "DequantizeLinear")
        }
        zeros: dict[str, str] = {
            node.output[0]: node.input[2]
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and len(node.input) > 2
        }
        for node in model.graph.node:
            if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                continue
            for name in node.input[:2]:
                stored = constants.get(source.get(name, name))
                if stored is None:
                    continue
                array = numpy_helper.to_array(stored)
                zero = constants.get(zeros.get(name, ""))
                points = numpy_helper.to_array(zero).reshape(-1) if zero is not None else np.zeros(1)
                # Per-channel weights are symmetric; only one zero point for all of them can differ from 0.
                rest = array != points[0] if points.size == 1 else array != 0
                if array.size >= _MIN_WEIGHTS:
                    sparsity[node.name or node.output[0]] = round(1 - float(np.count_nonzero(rest)) / array.size, 4)
    except EdgeSdkError:
        raise
    except Exception as error:  # protobuf and onnx raise several unrelated types for damaged files
        raise ModelFormatError(f"model.onnx: cannot be read: {error}. Export it again.") from error
    return Contents(dict(sorted(Counter(node.op_type for node in model.graph.node).items())), sparsity)


def _tflite(content: bytes) -> Contents:
    from edgesdk_converters.tflite import describe
    from edgesdk_converters.tflite import flatbuffer as fb
    from edgesdk_converters.tflite.inspect import COMPUTE

    counts = dict(sorted(describe(content).counts.items()))
    model = fb.read(content)
    graph = model.subgraphs[0]
    stored: dict[int, int] = {}
    sparsity: dict[str, float] = {}
    for operator in graph.operators:
        inputs, outputs = fb.ids(operator.inputs), fb.ids(operator.outputs)
        kind = fb.code_name(fb.code_of(model, operator))
        if kind == "DEQUANTIZE":
            stored[outputs[0]] = inputs[0]  # float16 weights
        if kind not in COMPUTE or len(inputs) < 2:
            continue
        tensor = graph.tensors[stored.get(inputs[1], inputs[1])]
        data, dtype = fb.constant(model, tensor), fb.type_name(tensor.type)
        if data is not None and dtype in ("float32", "float16", "int8"):
            array = np.frombuffer(data, np.dtype(dtype))
            if array.size >= _MIN_WEIGHTS:
                name = fb.text(graph.tensors[outputs[0]].name)
                sparsity[name] = round(1 - np.count_nonzero(array) / array.size, 4)
    return Contents(counts, sparsity)
