"""What the app tells whoever watches it (`on_event`): results, losses, recoveries. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from edgesdk.samples import Sample
from edgesdk.tasks.api import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultEvent:
    """A model made a result."""

    stream: str
    model: str
    """Its name in app.yaml."""
    sample: Sample
    result: Result
    latency_ms: dict[str, float]
    """``queue`` (capture to start), ``pre``, ``inference``, ``post``, ``total`` (capture to result)."""
    outcome: Literal["published", "unchanged", "failed"]
    """unchanged: held back by ``publish.when: change``; failed: the outbox did not take it."""
    id: str | None = None
    """Of the published result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLost:
    """A source cannot be opened, or stopped delivering."""

    source: str
    reason: str
    retry_in_s: float | None
    """None: it is given up, since retrying does not help."""
    attempts: int
    """Attempts since it delivered last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecovered:
    """A lost source delivers again."""

    source: str
    after_s: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEnded:
    """A file came to its end."""

    source: str
    delivered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFailed:
    """A model made nothing of a sample; the app goes on with the next."""

    stream: str
    model: str
    reason: str
    consecutive: int
    """Failures in a row, this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFailing:
    """A model failed so often in a row that something is wrong with it, not with a sample."""

    stream: str
    model: str
    reason: str
    consecutive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecovered:
    """A failing model made a result again."""

    stream: str
    model: str
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFailed:
    """The outbox did not take a result."""

    stream: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthEvent:
    """A health report, as published."""

    health: dict[str, Any] = field(default_factory=dict)


Event = (
    ResultEvent
    | SourceLost
    | SourceRecovered
    | SourceEnded
    | SampleFailed
    | ModelFailing
    | ModelRecovered
    | PublishFailed
    | HealthEvent
)
