"""Reads `coverage.yaml`: which operators can be integer, and what their scales must satisfy."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from edgesdk_converters.quantize.recipe import Scheme

FILE = Path(__file__).with_name("coverage.yaml")


class Fixed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a result that do not depend on the calibration samples."""

    scale8: str = msgspec.field(name="8")
    scale16: str = msgspec.field(name="16")
    zero: Literal["low", "middle"]
    """Where the real number 0 lies in 8 bits; 16 bits are symmetric."""

    def scale(self, bits: int) -> float:
        """Of 8- or 16-bit results."""
        return float(Fraction(self.scale8 if bits == 8 else self.scale16))


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of one operator; the file's head explains the fields."""

    kind: Literal["compute", "glue"]
    data: tuple[int, ...] | Literal["all"]
    schemes: tuple[Scheme, ...]
    weight: int | None = None
    bias: int | None = None
    scale: Literal["free", "same", "fixed"] = "free"
    fixed: Fixed | None = None
    fuses: bool = False
    onnxruntime: str = ""
    tflite: str = ""


class Coverage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of the file."""

    schema: Literal["edgesdk.coverage/1"]
    operators: dict[str, Row]


@cache
def coverage() -> Coverage:
    """The table that this release ships."""
    return msgspec.yaml.decode(FILE.read_bytes(), type=Coverage)
