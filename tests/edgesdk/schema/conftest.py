"""A small app file that uses every kind of type."""

from __future__ import annotations

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pytest

from edgesdk.schema import ByteCount, Hertz, Seconds


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Camera(msgspec.Struct, frozen=True, kw_only=True, tag="v4l2", tag_field="kind"):
    """A camera."""

    device: str
    """Where it is."""
    size_wh: tuple[int, int] = (640, 480)
    """Width and
    height in pixels."""
    rate_hz: Hertz | None = msgspec.field(name="rate", default=None)


class Microphone(msgspec.Struct, frozen=True, kw_only=True, tag="microphone", tag_field="kind"):
    rate_hz: Hertz = msgspec.field(name="rate", default=16000.0)


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    run: tuple[str, ...]
    policy: Literal["latest", "block"] = "latest"
    deadline_s: Seconds | None = msgspec.field(name="deadline", default=None)
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    live: bool = True
    level: Level = Level.LOW

    def __post_init__(self) -> None:
        if self.policy == "block" and self.deadline_s is not None:
            raise ValueError("policy block keeps everything, so it has no deadline. Remove 'deadline'.")


class App(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sources: dict[str, Camera | Microphone]
    streams: dict[str, Stream] = {}
    path: Path | None = None
    size_bytes: ByteCount = msgspec.field(name="size", default=1024)
    every_s: Seconds | Literal["never"] = msgspec.field(name="every", default="never")
    counts: dict[int, list[int]] = {}
    options: dict[str, Any] = {}


@pytest.fixture
def types() -> SimpleNamespace:
    return SimpleNamespace(App=App, Camera=Camera, Microphone=Microphone, Stream=Stream, Level=Level)


@pytest.fixture
def good() -> str:
    return """\
name: doorway
sources:
  camera: {kind: v4l2, device: /dev/video0, size_wh: [1280, 720], rate: 15Hz}
  mic: {kind: microphone, rate: 16kHz}
streams:
  door: {source: camera, run: [faces], deadline: 100ms, threshold: 1, level: high}
path: /var/lib/edgesdk
size: 256MiB
every: 5min
counts: {1: [2, 3]}
options: {anything: [goes, {here: 1.5}]}
"""
