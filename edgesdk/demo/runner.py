"""Runs the demo's app against a broker, and counts what a subscriber of that broker received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesdk.demo.plan import APP, DEVICE, STREAMS, Prepared, app_yaml

if TYPE_CHECKING:
    from edgesdk.telemetry.collector import Received

RESULTS = f"edgesdk/{DEVICE}/{APP}/+/results"
SETTLE_S = 10.0
"""How long the subscriber may lag behind the last PUBACK."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """What the subscriber has seen of one stream."""

    stream: str
    about: str
    received: int
    last: dict[str, Any] | None
    """The newest payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it ended."""

    published: int
    """Results committed to the outbox."""
    received: int
    """Distinct ids that the subscriber saw."""
    seconds: float
    streams: tuple[StreamView, ...]
    exit_code: int
    """Of the app."""

    @property
    def complete(self) -> bool:
        """Whether every result that was published arrived."""
        return self.exit_code == 0 and self.published == self.received > 0


def run_demo(
    prepared: Prepared,
    folder: Path,
    *,
    url: str | None = None,
    fast: bool = False,
    on_update: Callable[[tuple[StreamView, ...]], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Start a broker unless ``url`` names one, subscribe, run the app to the end of its files, and compare.

    Args:
        prepared: Bundles and media.
        folder: Gets ``app.yaml`` and the outbox.
        url: Of a broker, ``mqtt://host:port``; None starts an embedded one on 127.0.0.1 and a free port.
        fast: Play the media as fast as possible.
        on_update: Is called about ten times a second with what the subscriber has seen.
        on_note: Is told what happens, in words.

    Raises:
        MissingExtraError: No ``url``, and iotcore is not installed.
    """
    from edgesdk.telemetry.broker import EmbeddedBroker

    if url is not None:
        return _run(prepared, folder, url, fast, on_update, on_note)
    with EmbeddedBroker() as broker:
        on_note(f"embedded broker (iotcore's rumqttd, MQTT 5) at {broker.url}")
        return _run(prepared, folder, broker.url, fast, on_update, on_note)


def _run(
    prepared: Prepared,
    folder: Path,
    url: str,
    fast: bool,  # noqa: FBT001 - private, called once
    on_update: Callable[[tuple[StreamView, ...]], None],
    on_note: Callable[[str], None],
) -> Outcome:
    from edgesdk.app import App
    from edgesdk.telemetry.collector import Collector

    config = folder / "app.yaml"
    outbox = folder / "demo.outbox"
    for stale in folder.glob("demo.outbox*"):  # a run that was interrupted: its results are not this run's
        stale.unlink()
    config.write_text(app_yaml(prepared, url, outbox, fast=fast), encoding="utf-8")
    on_note(f"the app: {config}")
    ledger = Ledger()
    with Collector(url, RESULTS, on_message=ledger.add) as collector:
        app = App.from_yaml(config)
        ended: list[int] = []
        worker = threading.Thread(target=lambda: ended.append(app.run()), name="demo-app")
        begin = time.monotonic()
        worker.start()
        try:
            while worker.is_alive():
                worker.join(0.1)
                on_update(ledger.view())
        except KeyboardInterrupt:
            app.stop()
            worker.join()
            raise
        seconds = time.monotonic() - begin
        telemetry = app.stats().telemetry
        published = telemetry.accepted if telemetry else 0
        collector.wait_for(lambda now: len(now.ids) >= published, SETTLE_S)
        views = ledger.view()
        on_update(views)
        return Outcome(
            published=published,
            received=len(collector.ids),
            seconds=seconds,
            streams=views,
            exit_code=ended[0] if ended else 1,
        )


class Ledger:
    """What the subscriber has received, stream by stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, set[str]] = {name: set() for name, _, _ in STREAMS}
        self._last: dict[str, dict[str, Any]] = {}

    def add(self, message: Received) -> None:
        """Take one message; called on the subscriber's network thread."""
        payload = message.json()
        if payload.get("schema", "").startswith("edgesdk.result/"):
            with self._lock:
                self._ids.setdefault(payload["stream"], set()).add(payload["id"])
                self._last[payload["stream"]] = payload

    def view(self) -> tuple[StreamView, ...]:
        """The present state."""
        about = {name: words for name, words, _ in STREAMS}
        with self._lock:
            return tuple(
                StreamView(stream=name, about=about.get(name, ""), received=len(ids), last=self._last.get(name))
                for name, ids in self._ids.items()
            )
