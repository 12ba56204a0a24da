"""Everything that a conversion found out, as data: what `--report` writes as JSON and draws as HTML."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgesdk.bundle.manifest import Contract, FileEntry, Licence, Measurement, Provenance
from edgesdk_converters.quantize.recipe import Plan

SCHEMA = "edgesdk.report/1"


class _Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the record's parts."""


class Trial(_Data, frozen=True, kw_only=True):
    """One model file that was made and measured."""

    recipe: str
    """In words, as in the manifest."""
    format: Literal["onnx", "tflite"]
    precision: str
    measurement: Measurement
    float_nodes: tuple[str, ...] = ()
    chosen: bool = False
    """Whether it is in the bundle."""
    inputs: tuple[str, ...] = ()
    """Its own tensor names, where they are known, in the order of the contract's."""
    outputs: tuple[str, ...] = ()


class NodeCost(_Data, frozen=True, kw_only=True):
    """What quantizing one node alone costs."""

    node: str
    op_type: str
    weight_bytes: int
    """In float32."""
    error: dict[str, float]
    """Branch name -> error power over signal power, 0 is perfect."""
    scheme: str
    """What the chosen plan does with it."""
    reason: str = ""
    """Why it is not quantized, where it is not."""


class TensorHistogram(_Data, frozen=True, kw_only=True):
    """Values that an activation took over the calibration samples, and the range that was chosen."""

    tensor: str
    node: str
    """That makes it; empty for an input."""
    counts: tuple[int, ...]
    """Equal bins over ``low``..``high``."""
    low: float
    high: float
    chosen_low: float
    chosen_high: float


class Example(_Data, frozen=True, kw_only=True):
    """One input with what the float and the quantized model make of it."""

    name: str
    expected: dict[str, Any]
    """Typed result of the float model as plain data."""
    got: dict[str, Any]
    same: bool
    picture_png: bytes = b""
    """The input with the float model's result drawn into it; empty for other media."""
    got_png: bytes = b""
    variant: str = ""
    """That ``got`` is of."""


class Finding(_Data, frozen=True, kw_only=True):
    """Something about the calibration set that an engineer should know."""

    severity: Literal["ok", "hint", "warning"]
    subject: str
    """duplicates, exposure, coverage, leakage, amount, excitation ..."""
    text: str
    """What was found, and what to do."""
    files: tuple[str, ...] = ()


class CalibrationFindings(_Data, frozen=True, kw_only=True):
    """What was found about the calibration samples, and the answer to: are these enough?"""

    samples: int
    enough: bool
    verdict: str
    """One sentence that begins with yes or no."""
    findings: tuple[Finding, ...] = ()
    groups: dict[str, int] = msgspec.field(default_factory=dict)
    """Samples per class (where the float model gives one) or per cluster."""
    stability: tuple[tuple[int, float], ...] = ()
    """(samples, mean relative change of the ranges when as many again are added)."""
    forecast: tuple[int, float] | None = None
    """The same for all samples, by extrapolation: what the verdict goes by. Copies, and moments of one recording, count as one sample."""


class Record(_Data, frozen=True, kw_only=True):
    """The whole report."""

    schema: str = SCHEMA
    name: str
    bundle: str
    """File name."""
    device: str
    host: str
    """CPU model of the machine that measured."""
    contract: Contract
    provenance: Provenance
    licence: Licence
    assumptions: tuple[str, ...] = ()
    limits: dict[str, float] = msgspec.field(default_factory=dict)
    """The guard's: ``snr_db``, ``agreement``, ``drop`` (both 0..1), ``speedup``, ``size_bytes``; also ``time_ratio``."""
    trials: tuple[Trial, ...] = ()
    failures: tuple[str, ...] = ()
    sensitivity: tuple[NodeCost, ...] = ()
    """Most expensive first."""
    histograms: tuple[TensorHistogram, ...] = ()
    examples: tuple[Example, ...] = ()
    calibration: CalibrationFindings | None = None
    sparsity: dict[str, float] = msgspec.field(default_factory=dict)
    """Node -> share of its weights that are zero, 0..1."""
    operators: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    """Variant id -> operator -> how many."""
    allowed: str | None = None
    version: int = 1
    """Of the bundle."""
    identity: str = ""
    """sha256 over the bundle's manifest; empty where there is no bundle yet."""
    files: dict[str, FileEntry] = msgspec.field(default_factory=dict)
    """Of the bundle, by path inside it."""
    plan: Plan | None = None
    """What is done to every node of the chosen quantized model."""
