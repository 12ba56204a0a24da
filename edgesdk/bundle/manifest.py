"""Contract 2: what `manifest.json` of a bundle says. Data only; reading and writing are in the sibling modules."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCHEMA = "edgesdk.bundle/1.0"
"""Name and version of this schema; a newer minor reads, a newer major is refused."""

Format = Literal["onnx", "tflite"]
Precision = Literal["fp32", "fp16", "int8", "w8a16", "w4a8", "dynamic", "w8", "w4"]
"""Of weights and activations: ``int8`` both, static; ``w8a16`` and ``w4a8`` static with other widths; ``dynamic`` int8 weights with ranges
of activations found at run time; ``w8`` and ``w4`` weight-only, the arithmetic is float."""


class _Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the manifest's parts. Unknown keys of a newer minor version are ignored on reading."""


class Quantization(_Data, frozen=True, kw_only=True):
    """Affine parameters of a tensor that is integer at the model's boundary: ``real = scale * (q - zero_point)``."""

    scale: tuple[float, ...]
    """Positive; one number, or one per channel of ``axis``."""
    zero_point: tuple[int, ...]
    """As many as ``scale``."""
    axis: int | None = None
    """Channel axis; None is per-tensor."""


class ImageInput(_Data, frozen=True, kw_only=True, tag="image", tag_field="kind"):
    """A picture goes in: ``value = (pixel * scale - mean) / std`` with pixel 0..255, channels in ``colour`` order."""

    layout: Literal["NCHW", "NHWC"]
    colour: Literal["RGB", "BGR", "GREY"] = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    """One number for all channels, or one per channel, after ``scale``."""
    std: tuple[float, ...] = (1.0,)
    fit: Literal["letterbox", "stretch", "centre-crop", "pad-right"] = "stretch"
    """How a picture of another aspect ratio is fitted: letterbox keeps it and centres it on ``pad_value``;
    pad-right keeps the height's scale and pads on the right (text lines)."""
    pad_value: int = 114
    """Pixel value 0..255 of the border."""


class AudioInput(_Data, frozen=True, kw_only=True, tag="audio", tag_field="kind"):
    """A chunk of PCM goes in: float32, -1..1, mono, shape ``(1, context_samples + chunk_samples)``."""

    sample_rate_hz: int
    chunk_samples: int
    """New samples per inference."""
    context_samples: int = 0
    """Samples of the previous chunk that go in front of the new ones."""


class StateInput(_Data, frozen=True, kw_only=True, tag="state", tag_field="kind"):
    """A recurrent state: zeros at the start of a stream, then the named output of the previous inference."""

    from_output: str


class ConstantInput(_Data, frozen=True, kw_only=True, tag="constant", tag_field="kind"):
    """The same value in every inference, for example a sample rate that the graph takes as an input."""

    value: float | int | list[Any]


class TensorInput(_Data, frozen=True, kw_only=True, tag="tensor", tag_field="kind"):
    """An array as it is, in the input's shape and dtype."""


InputKind = ImageInput | AudioInput | StateInput | ConstantInput | TensorInput


class InputSpec(_Data, frozen=True, kw_only=True):
    """One input of the model, as the task sees it."""

    name: str
    shape: tuple[int, ...]
    """Static; batch included."""
    dtype: str
    """numpy name: float32, int8, int64 ..."""
    source: InputKind
    quantization: Quantization | None = None
    """Set where ``dtype`` is integer and stands for real numbers."""


class Branch(_Data, frozen=True, kw_only=True):
    """A part of an output that means one thing (boxes, scores), so that it is judged alone."""

    name: str
    axis: int | None = None
    """Axis of the slice; None is the whole output."""
    start: int = 0
    stop: int | None = None
    class_axis: int | None = None
    """Axis along which this branch is a class vector, judged by top-1 agreement; None is judged by SNR."""


class OutputSpec(_Data, frozen=True, kw_only=True):
    """One output of the model."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    branches: tuple[Branch, ...] = ()
    """Empty means one branch, the whole output, named like it."""
    quantization: Quantization | None = None


class Contract(_Data, frozen=True, kw_only=True):
    """The whole pre- and post-processing contract: what a task needs to turn a picture into a typed result."""

    task: str
    """Entry point of group ``edgesdk.tasks``."""
    inputs: tuple[InputSpec, ...]
    """In the order in which a session takes them."""
    outputs: tuple[OutputSpec, ...]
    """In the order in which a session returns them."""
    labels: tuple[str, ...] = ()
    """By class id."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """The task's own decoder options (thresholds, anchors, alphabet ...); each task validates them by its own type."""


class Variant(_Data, frozen=True, kw_only=True):
    """One model file of the bundle."""

    id: str
    """``[a-z0-9-]+``, for example ``onnx-int8``; key into ``measurements.json``."""
    file: str
    """Path inside the bundle, listed in ``Manifest.files``."""
    format: Format
    precision: Precision
    inputs: tuple[str, ...]
    """This file's own tensor names, in the order of ``Contract.inputs``."""
    outputs: tuple[str, ...]
    """This file's own tensor names, in the order of ``Contract.outputs``."""
    target: str | None = None
    """Device profile id that it was compiled for; None runs anywhere."""
    float_nodes: tuple[str, ...] = ()
    """Nodes that were kept in float on purpose."""


class FileEntry(_Data, frozen=True, kw_only=True):
    """A file of the bundle other than the manifest and the measurements."""

    sha256: str
    size_bytes: int


class Provenance(_Data, frozen=True, kw_only=True):
    """Where the model comes from. No clock times: two equal conversions are byte-identical."""

    source_file: str
    """File name, no path."""
    source_sha256: str
    tools: dict[str, str] = msgspec.field(default_factory=dict)
    """Distribution name -> version."""
    recipe: str | None = None
    calibration_sha256: str | None = None
    """Hash over the sorted hashes of the calibration samples."""
    calibration_samples: int | None = None
    device: str | None = None
    """Profile the conversion was made for."""


class Licence(_Data, frozen=True, kw_only=True):
    """Licence of the model's weights."""

    name: str
    """SPDX expression, or ``unknown``."""
    source: str | None = None


class Manifest(_Data, frozen=True, kw_only=True):
    """`manifest.json`."""

    schema: str = SCHEMA
    name: str
    """``[a-z0-9][a-z0-9-]*``."""
    version: int = 1
    """Monotonic; a board refuses to go back."""
    contract: Contract
    variants: tuple[Variant, ...]
    """In the order of preference: the smallest first, and what the guard refused but was allowed, last."""
    files: dict[str, FileEntry]
    provenance: Provenance
    licence: Licence
    assumptions: tuple[str, ...] = ()
    """What was not stated and therefore assumed, in words."""
    allowed: str | None = None
    """Reason given with ``--allow`` for keeping what the guard refused."""

    def __post_init__(self) -> None:
        # Always written, although it equals the default: the reader decides by it before it looks at anything else.
        if not self.schema:
            raise ValueError("schema is empty")


class BranchFidelity(_Data, frozen=True, kw_only=True):
    """How close one branch of a variant is to the source model on held-out inputs."""

    output: str
    branch: str
    snr_db: float
    """10 log10(signal power / error power) over all held-out inputs; capped at 120."""
    cosine: float
    top1_agreement: float | None = None
    """0..1, where the branch is a class vector."""
    kl_divergence: float | None = None
    """Nats, mean over the class vectors: how much the probabilities moved, 0 is not at all."""
    passed: bool


class Latency(_Data, frozen=True, kw_only=True):
    """Interleaved single-thread CPU time per inference."""

    cpu_ms: float
    """Median of this variant."""
    source_cpu_ms: float
    """Median of the source model, measured in turn with it."""
    ratio: float
    """cpu_ms / source_cpu_ms, median over pairs; below 1 is faster."""
    runs: int
    host: str
    """CPU model of the machine that measured."""


class Measurement(_Data, frozen=True, kw_only=True):
    """What was measured of one variant, kept or refused."""

    variant: str
    kept: bool
    reasons: tuple[str, ...] = ()
    """Why it was refused."""
    size_bytes: int
    source_size_bytes: int
    fidelity: tuple[BranchFidelity, ...] = ()
    latency: Latency | None = None
    held_out_samples: int = 0
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    """What the task itself cares about, by name: ``f1`` (boxes matched with the float model's), ``accuracy`` and ``float_accuracy`` (where
    labels are given), ``character_accuracy`` ...; 0..1, larger is better."""
    peak_memory_bytes: int | None = None
    """Of a process of its own that loads this variant and runs it, above one that only imports the runtime."""


class Measurements(_Data, frozen=True, kw_only=True):
    """`measurements.json`, beside the manifest and outside the bundle's identity hash."""

    schema: str = "edgesdk.measurements/1.0"
    variants: tuple[Measurement, ...] = ()
