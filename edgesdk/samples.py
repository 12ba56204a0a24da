"""What sources deliver and tasks take: pictures, blocks of PCM, tensors; each with the moment of its capture."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Colour = Literal["RGB", "BGR", "GREY"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When something was captured, by both clocks."""

    time_ns: int
    """Nanoseconds since 1970, UTC, as far as the board knows it."""
    monotonic_ns: int
    """Nanoseconds of the monotonic clock since boot."""

    @classmethod
    def now(cls) -> Stamp:
        """The present moment."""
        return cls(time_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture: pixels uint8 (H, W, 3), or (H, W) where colour is GREY."""

    pixels: NDArray[np.uint8]
    colour: Colour = "RGB"
    """Channel order; OpenCV's readers deliver BGR."""
    captured: Stamp = field(default_factory=Stamp.now)
    uri: str = ""
    """File or device it comes from."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """A block of PCM: float32 (n,), mono, -1..1."""

    pcm: NDArray[np.float32]
    sample_rate_hz: int
    captured: Stamp = field(default_factory=Stamp.now)
    """Moment of the first sample."""
    first_sample: int = 0
    """Index of the first sample in its stream; a jump is a gap."""
    last: bool = False
    """No more samples follow in this stream: a task flushes its last, partial chunk."""
    uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """Arrays for the model's inputs by name, as they are; for task `raw`."""

    arrays: dict[str, NDArray[Any]]
    captured: Stamp = field(default_factory=Stamp.now)
    uri: str = ""


Sample = Picture | Audio | Tensors
