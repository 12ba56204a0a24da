"""What the app's tests share: models of plain arithmetic, and app.yaml texts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgesdk.app import App
from edgesdk.app.capture import Backoff
from edgesdk.app.events import Event
from edgesdk.app.loading import parse_config
from edgesdk.errors import TaskError
from edgesdk.samples import Sample

QUICK = Backoff(base_s=0.02, cap_s=0.05, floor_s=0.01)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A scripted model's result."""

    kind: ClassVar[str] = "seen"
    label: str
    scores: Any = field(default_factory=lambda: np.ones(1, dtype=np.float32))

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "score": 0.5}


@dataclass(frozen=True, kw_only=True)
class Split:
    pre_ms: float = 0.1
    inference_ms: float = 0.2
    post_ms: float = 0.3


@dataclass(frozen=True, kw_only=True)
class FakeInference:
    result: Any
    latency: Split = field(default_factory=Split)


class ScriptedModel:
    """A loaded model of which a test says what it makes of the n-th sample; the seam is edgesdk.model.Model."""

    description = "scripted"
    version = 1
    sample_rate_hz: int | None = None

    def __init__(self, name: str, script: Callable[[int, Sample], Any]) -> None:
        self.name = name
        self.identities = {name: "0" * 64}
        self.closed = False
        self.calls = 0
        self._script = script

    def infer(self, sample: Sample) -> FakeInference:
        self.calls += 1
        return FakeInference(result=self._script(self.calls - 1, sample))

    def reset(self) -> None:
        self.calls = 0

    def close(self) -> None:
        self.closed = True


def say_uri(index: int, sample: Sample) -> Seen:
    return Seen(label=sample.uri)


def fail(index: int, sample: Sample) -> Seen:
    raise TaskError("this model fails. Convert it again.")


class Story:
    """An app with scripted models; the telemetry is real, with an outbox and no broker."""

    Seen = Seen
    fail = staticmethod(fail)

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.scripts: dict[str, Callable[[int, Sample], Any]] = {}
        self.rates_hz: dict[str, int] = {}
        """Of models that hear."""
        self.models: list[ScriptedModel] = []
        monkeypatch.setattr(App, "_load", lambda app, name: self._model(name))

    def _model(self, name: str) -> ScriptedModel:
        model = ScriptedModel(name, self.scripts.get(name, say_uri))
        model.sample_rate_hz = self.rates_hz.get(name)
        self.models.append(model)
        return model

    def app(self, text: str, **options: Any) -> App:
        text = text if "models:" in text else f"models: {{m: {{bundle: m.edge}}}}\n{text}"
        text = f"schema: edgesdk.app/1\nname: test\ndevice: board\ntelemetry: {{outbox: {{path: a.outbox}}}}\n{text}"
        config = parse_config(text, base=self.folder, file="app.yaml")
        options.setdefault("backoff", QUICK)
        options.setdefault("on_event", self.events.append)
        return App(config, **options)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    before = set(threading.enumerate())
    yield Story(tmp_path, monkeypatch)
    # A stopped app leaves no threads; the last ones may need a moment to be gone.
    until_s = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < until_s:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
