"""Puts together what a model is: the spec first, then what the file says about itself, last a stated default."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from edgesdk.bundle.manifest import Branch, Contract, ImageInput, InputKind, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import ConversionError
from edgesdk_converters.frontends.api import SourceModel, Tensor
from edgesdk_converters.spec import InputHint, ModelSpec, OutputHint

Media = Literal["pictures", "recordings", "arrays", "nothing"]
"""What the calibration folder holds."""

_ULTRALYTICS_TASKS = {"detect": "object-detection", "classify": "image-classification"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFacts:
    """An output as an inference really returned it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    """What a file's metadata says, in our words."""

    task: str | None = None
    labels: tuple[str, ...] = ()
    image: ImageInput | None = None
    says: tuple[str, ...] = ()


def build_contract(
    source: SourceModel,
    spec: ModelSpec,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    outputs: Sequence[OutputFacts],
    branches: Mapping[str, tuple[Branch, ...]],
    media: Media,
) -> tuple[Contract, list[str]]:
    """The contract of the model, and what had to be assumed for it.

    Args:
        source: What the frontend read.
        spec: The user's `model.yaml`, or an empty one.
        shapes: Static shape of every input.
        outputs: From an inference of the source.
        branches: Found in the graph; the spec's come first.
        media: Decides the default of a 4-D float input: pictures, or arrays as they are.

    Raises:
        ConversionError: Recordings, and no spec that says how they go in; labels of the spec that are not as many as there are classes.
    """
    notes: list[str] = []
    metadata = _read_metadata(source.metadata)
    task = spec.task or metadata.task
    if task is None:
        task = "raw"
        notes.append("task: raw, the outputs as they are (no spec, no metadata says what they mean)")
    inputs = []
    for tensor in source.inputs:
        hint = spec.inputs.get(tensor.name, InputHint())
        kind = hint.source
        if kind is None:
            kind, assumed = _default_input(tensor, shapes[tensor.name], metadata, media, source.file)
            notes += assumed
        inputs.append(
            InputSpec(
                name=tensor.name,
                shape=shapes[tensor.name],
                dtype=tensor.dtype,
                source=kind,
                quantization=tensor.quantization,
            )
        )
    quantization = {tensor.name: tensor.quantization for tensor in source.outputs}
    described = tuple(
        OutputSpec(
            name=facts.name,
            shape=facts.shape,
            dtype=facts.dtype,
            branches=_branches(facts, spec.outputs.get(facts.name), branches.get(facts.name, ()), task),
            quantization=quantization.get(facts.name),
        )
        for facts in outputs
    )
    labels = spec.labels or metadata.labels
    wrong = _labels_that_do_not_fit(labels, described) if task == "raw" else ""
    if wrong and spec.labels:
        raise ConversionError(f"{source.file}: {wrong}. Give one label per class, in the order of the class ids.")
    if wrong:
        notes.append(f"the file's own labels are left out: {wrong}")
        labels = ()
    contract = Contract(
        task=task,
        inputs=tuple(inputs),
        outputs=described,
        labels=labels,
        options=dict(spec.options),
    )
    notes += [f"from the file's metadata: {line}" for line in metadata.says] if not spec.task else []
    return contract, notes


def _labels_that_do_not_fit(labels: Sequence[str], outputs: Sequence[OutputSpec]) -> str:
    """What is wrong with labels of a raw model, whose task cannot say it; empty where they name the classes, or there is no class vector."""
    classes = {
        (len(range(*slice(branch.start, branch.stop).indices(size))) if branch.axis == branch.class_axis else size)
        for output in outputs
        for branch in output.branches
        if branch.class_axis is not None and (size := output.shape[branch.class_axis])
    }
    if not labels or not classes or len(labels) in classes:
        return ""
    return f"{len(labels)} labels, but its class vectors have {' and '.join(map(str, sorted(classes)))} classes"


def _branches(facts: OutputFacts, hint: OutputHint | None, found: tuple[Branch, ...], task: str) -> tuple[Branch, ...]:
    if hint is not None and hint.branches:
        return hint.branches
    if hint is not None and hint.class_axis is not None:
        return (Branch(name=facts.name, class_axis=hint.class_axis),)
    if not found and task == "image-classification" and len(facts.shape) == 2 and facts.shape[1] > 1:
        return (Branch(name=facts.name, class_axis=1),)
    return found


def _default_input(
    tensor: Tensor, shape: tuple[int, ...], metadata: _Metadata, media: Media, file: str
) -> tuple[InputKind, list[str]]:
    if metadata.image is not None and len(shape) == 4:
        return msgspec.structs.replace(metadata.image, layout=_layout(shape) or metadata.image.layout), []
    if media == "recordings":
        raise ConversionError(
            f"{file}: the calibration folder holds recordings, but nothing says how they go into input {tensor.name!r} "
            f"{list(shape)}. Say it in a file and pass it with --spec:\ntask: voice-activity\ninputs:\n"
            f"  {tensor.name}: {{source: {{kind: audio, sample_rate_hz: 16000, chunk_samples: {shape[-1] if shape else 512}}}}}"
        )
    layout = _layout(shape)
    if media == "arrays" or layout is None or tensor.dtype not in ("float32", "uint8"):
        return TensorInput(), []
    scale, words = (1.0, "as they are") if tensor.dtype == "uint8" else (1 / 255, "times 1/255")
    channels = shape[1] if layout == "NCHW" else shape[3]
    colour: Literal["RGB", "GREY"] = "RGB" if channels == 3 else "GREY"
    note = (
        f"input {tensor.name!r}: pictures in {colour}, {words}, stretched to {layout} {list(shape)} "
        f"(state it: inputs: {{{tensor.name}: {{source: {{kind: image, layout: {layout}, colour: {colour}, ...}}}}}})"
    )
    return ImageInput(layout=layout, colour=colour, scale=scale), [note]


def _layout(shape: Sequence[int]) -> Literal["NCHW", "NHWC"] | None:
    if len(shape) != 4:
        return None
    if shape[1] in (1, 3):
        return "NCHW"
    return "NHWC" if shape[3] in (1, 3) else None


def _read_metadata(metadata: Mapping[str, str]) -> _Metadata:
    """Ultralytics' exports (names, task, imgsz, stride) and PaddleOCR's (character)."""
    if "character" in metadata:
        labels = tuple(metadata["character"].split("\n"))
        # The list ends with a line feed, which is no character.
        labels = labels[:-1] if labels and not labels[-1] else labels
        return _Metadata(labels=labels, says=(f"character list of {len(labels)} (PaddleOCR)",))
    if "labels" in metadata:
        labels = tuple(metadata["labels"].splitlines())
        return _Metadata(labels=labels, says=(f"{len(labels)} labels (TFLite metadata)",))
    if "names" not in metadata or "task" not in metadata:
        return _Metadata()
    task = _ULTRALYTICS_TASKS.get(metadata["task"])
    labels = _names(metadata["names"])
    if task is None:
        return _Metadata(labels=labels, says=(f"task {metadata['task']!r} has no counterpart here",))
    image = ImageInput(layout="NCHW", fit="letterbox" if task == "object-detection" else "centre-crop")
    return _Metadata(
        task=task,
        labels=labels,
        image=image,
        says=(f"task {task}, {len(labels)} labels, pictures RGB times 1/255, {image.fit} (Ultralytics)",),
    )


def _names(text: str) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ()
    if isinstance(value, dict) and sorted(value) == list(range(len(value))):
        return tuple(str(value[index]) for index in range(len(value)))
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()
