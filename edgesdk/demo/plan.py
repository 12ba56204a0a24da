"""What the demo runs: which bundles on which media, written as an ordinary app.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

APP = "demo"
DEVICE = "demo-board"
DEVICE_PROFILE = "raspberry-pi-4"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoModel:
    """One converted model of the demo."""

    name: str
    """Zoo name."""
    wheel: str
    """Distribution and version that carries it."""
    bundle: Path
    advice: tuple[str, ...] = ()
    """What an engineer can do about the variants that the guard refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the demo's fetch and convert steps hand over."""

    models: dict[str, DemoModel]
    media: dict[str, Path]
    """``photographs``, ``faces``, ``eyes``, ``page`` (folders or files) and ``speech`` (a wav file)."""
    notes: tuple[str, ...] = field(default=())


class Prepare(Protocol):
    """Fetch and convert: what the converters register as ``prepare`` in the entry-point group ``edgesdk.demo``."""

    def __call__(self, folder: Path, *, device: str, report: Report) -> Prepared: ...


STREAMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("gate", "a window moving over photographs", ("blazeface-short",)),
    ("faces", "pictures of faces", ("face-landmark",)),
    ("eyes", "pictures of eyes", ("iris",)),
    ("sign", "a window moving over a page", ("ppocr-det", "ppocr-cls", "ppocr-rec")),
    ("speech", "a recording, at its own pace", ("silero-vad",)),
)
"""Stream, what it sees, and the models that it needs; several are a cascade."""


def app_yaml(prepared: Prepared, url: str, outbox: Path, *, fast: bool = False) -> str:
    """The demo's app.yaml.

    Args:
        prepared: Bundles and media.
        url: Of the broker, ``mqtt://host:port``.
        outbox: Path of the outbox file.
        fast: Play everything as fast as possible instead of at its own pace.
    """
    pace = "fast" if fast else "real-time"
    media = prepared.media
    sources = {
        "gate": {"kind": "pan", "path": media["photographs"], "size_wh": [640, 480], "frames": 30, "rate": "15Hz"},
        "faces": {"kind": "images", "path": media["faces"], "rate": "4Hz"},
        "eyes": {"kind": "images", "path": media["eyes"], "rate": "4Hz"},
        "sign": {"kind": "pan", "path": media["page"], "size_wh": [384, 288], "frames": 10, "rate": "1Hz", "zoom": 1.0},
        "speech": {"kind": "wav", "path": media["speech"], "rate": "16kHz", "block": "256ms"},
    }
    lines = ["schema: edgesdk.app/1", f"name: {APP}", f"device: {DEVICE}", "models:"]
    for stream, _, names in STREAMS:
        bundles = [str(prepared.models[name].bundle) for name in names]
        lines.append(f"  {stream}: " + _flow({"bundle": bundles[0]} if len(bundles) == 1 else {"bundles": bundles}))
    lines.append("sources:")
    lines += [f"  {name}: " + _flow({**source, "pace": pace}) for name, source in sources.items()]
    lines.append("streams:")
    lines += [
        f"  {stream}: " + _flow({"source": stream, "run": [stream], "policy": "block"}) for stream, _, _ in STREAMS
    ]
    lines += [
        "telemetry:",
        "  mqtt: " + _flow({"url": url}),
        "  outbox: " + _flow({"path": outbox}),
        "health: {every: 5s}",
    ]
    return "\n".join(lines) + "\n"


def _flow(mapping: dict[str, object]) -> str:
    # JSON is YAML: quoting is right for any path.
    return json.dumps(mapping, default=str)
