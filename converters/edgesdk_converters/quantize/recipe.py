"""What is asked for (a recipe) and what is done (a plan). Data only: both are files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Scheme = Literal["float", "w8a8", "w8a16", "w4a8", "dynamic", "w8", "w4"]
"""How one node is stored and computed.

``w8a8``, ``w8a16``, ``w4a8``: weights and activations are integers, ranges known beforehand. ``dynamic``: int8 weights, ranges of the
activations found at run time. ``w8``, ``w4``: integer weights, float arithmetic. ``float``: untouched.
"""

Rounding = Literal["nearest", "gptq", "adaround"]
"""How weights find their integers: each to its nearest; or such that the output of the layer on calibration samples changes least.
8-bit weights of float activations (``w8``, ``dynamic``) always go to the nearest."""

RECIPE_SCHEMA = "edgesdk.recipe/1"
PLAN_SCHEMA = "edgesdk.plan/1"


class _Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the files' parts: an unknown key is an error."""


class Gain(_Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipe is good for on a CPU; a format without an entry does not express it."""

    onnx: Literal["speed", "size", "slow"] | None = None
    """In ONNX Runtime. speed: smaller and faster than float; size: smaller, as fast; slow: smaller, slower."""
    tflite: Literal["speed", "size", "slow"] | None = None
    """In LiteRT."""


class Rule(_Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pins a choice. Either ``nodes`` or ``op`` says for what.

    A name or pattern that meets no node is an error, and so is an operator type that is never quantized; one that this model does not
    have is none, so that one recipe serves many models.
    """

    nodes: str | None = None
    """Name of a node, or a pattern with ``*``, ``?`` and ``[]``; the node of exactly this name where there is one."""
    op: str | None = None
    """Operator type: every node of it."""
    scheme: Scheme


class Recipe(_Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way of quantizing, as a data file."""

    schema: str = RECIPE_SCHEMA
    name: str
    about: str = ""
    """One sentence: when it makes sense."""
    gain: Gain = Gain(onnx="speed", tflite="speed")
    """Decides for which boards it is tried."""
    computes: Literal["fp32", "fp16", "int16", "int8"] = "int8"
    """What the arithmetic is in: an accelerator that cannot compute in it does not take the recipe."""
    scheme: Scheme | Literal["auto", "float16"] = "w8a8"
    """Of every node that no rule pins; ``auto`` searches for it, ``float16`` only stores the weights as such."""
    rules: tuple[Rule, ...] = ()
    """A later one wins."""
    coverage: Literal["all", "compute"] = "all"
    """Whether operators between the layers with weights are integer too, or only Conv, Gemm and MatMul."""
    calibrator: str = "mse"
    """Entry point of group ``edgesdk_converters.calibrators``."""
    equalize: bool = False
    """Balance channels between neighbouring layers first (cross-layer equalization)."""
    smooth: float = 0.0
    """How much of the unevenness between channels matrix products take into their weights (SmoothQuant's alpha); 0 is none."""
    bias_correction: bool = True
    rounding: Rounding = "nearest"
    per_channel: bool = True
    block_size: int = 32
    """Weights that share a scale in ``w4`` MatMul nodes: 16, 32, 64, 128."""


class Plan(_Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to every node of one model: replaying it makes the same bytes."""

    schema: str = PLAN_SCHEMA
    recipe: str
    """Name of the recipe that it came from."""
    model_sha256: str
    """Of the prepared float graph that the names below belong to."""
    schemes: dict[str, Scheme]
    """Every quantizable node by its name, in graph order; those between the layers with weights included."""
    calibrator: str
    equalize: bool
    bias_correction: bool
    rounding: Rounding
    per_channel: bool
    block_size: int
    smooth: float = 0.0
    costs: dict[str, dict[str, float]] = {}
    """The ranking that the plan was made from: node -> branch -> error power over signal power of quantizing it alone."""

    def with_schemes(self, schemes: Mapping[str, Scheme]) -> Plan:
        """The plan with some nodes changed."""
        return msgspec.structs.replace(self, schemes={**self.schemes, **schemes})

    @property
    def float_nodes(self) -> tuple[str, ...]:
        """Nodes that stay float, in graph order."""
        return tuple(name for name, scheme in self.schemes.items() if scheme == "float")
