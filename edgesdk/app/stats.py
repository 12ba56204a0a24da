"""Counts of a running app, for `App.stats()`, health reports and the preview."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.app.capture import SourceStats
from edgesdk.app.inference import ModelStats

if TYPE_CHECKING:
    from edgesdk.telemetry import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStats:
    """Counts of one stream."""

    policy: str
    accepted: int
    """Samples that its queue took."""
    dropped: int
    """Samples that newer ones overtook, by ``policy``."""
    waiting: int
    """Samples in its queue now."""
    rate_hz: float
    """Results per second between the last two health reports."""
    models: dict[str, ModelStats]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStats:
    """Counts of an app so far."""

    uptime_s: float
    sources: dict[str, SourceStats]
    streams: dict[str, StreamStats]
    telemetry: Stats | None = None
    """Of the outbox; None before the app has one."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """Sources in words."""

    @property
    def published(self) -> int:
        """Results that were handed to the outbox."""
        return sum(model.published for stream in self.streams.values() for model in stream.models.values())

    @property
    def dropped(self) -> int:
        """Samples that were dropped by a queue's policy."""
        return sum(stream.dropped for stream in self.streams.values())

    def to_json(self) -> dict[str, Any]:
        """Plain data; what a health report carries."""
        return {
            "uptime_s": round(self.uptime_s, 1),
            "sources": {
                name: {**asdict(stats), "description": self.descriptions.get(name, "")}
                for name, stats in self.sources.items()
            },
            "streams": {name: _stream(stats) for name, stats in self.streams.items()},
            "outbox": _plain(self.telemetry),
        }


def _stream(stats: StreamStats) -> dict[str, Any]:
    plain = asdict(stats)
    for model in plain["models"].values():
        model["inference_ms"] = round(model["inference_ms"], 3)
    return plain


def _plain(stats: Any) -> dict[str, Any]:
    if stats is None:
        return {}
    found: Any = asdict(stats) if is_dataclass(stats) and not isinstance(stats, type) else msgspec.to_builtins(stats)
    return dict(found)
