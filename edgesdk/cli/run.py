"""`edgesdk run APP.yaml`: the on-device runtime."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command
from edgesdk.errors import ConfigError

if TYPE_CHECKING:
    from edgesdk.app import App
    from edgesdk.app.events import Event


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP.yaml", type=Path, help="what to run; `edgesdk init` writes one")
    parser.add_argument("--preview", action="store_true", help="show pictures and results on a page of this machine")
    parser.add_argument(
        "--preview-port", metavar="PORT", type=whole(0, 65535), help="its port on 127.0.0.1; default: a free one"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per event on stdout, the counts last")
    parser.add_argument("--duration", metavar="TIME", type=_duration, help="stop after this time, for example 10s")
    parser.add_argument("--check", action="store_true", help="only check the file, and the files it names")


def _run(options: argparse.Namespace) -> int:
    from edgesdk.app import App, load_config

    if options.app.suffix == ".edge":
        raise ConfigError(
            [f"{options.app}: is a bundle, expected an app.yaml. Write one for it: edgesdk init {options.app}"]
        )
    config = load_config(options.app)
    if options.check:
        print(f"{options.app}: ok")
        return 0
    listeners: list[Callable[[Event], None]] = []

    def on_event(event: Event) -> None:
        for listener in listeners:
            listener(event)

    app = App(config, on_event=on_event)
    printer = _JsonPrinter(app) if options.json else _LinePrinter(app)
    with ExitStack() as stack:
        if options.preview or options.preview_port is not None:
            from edgesdk.app.preview import Preview

            preview = stack.enter_context(Preview(config.name, options.preview_port or 0))
            preview.stats = app.stats
            listeners.append(preview.on_event)
            print(f"preview: {preview.url}", file=sys.stderr, flush=True)
        listeners.append(printer)
        if options.duration is not None:
            timer = threading.Timer(options.duration, app.stop)
            timer.daemon = True
            timer.start()
            stack.callback(timer.join)
            stack.callback(timer.cancel)
        code = app.run()
    printer.end()
    if app.failure:
        print(f"edgesdk run: error: {app.failure}", file=sys.stderr)
    return code


class _Printer:
    """Writes events to stdout from the app's threads; a reader who has gone stops the app."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._gone = False

    def __call__(self, event: Event) -> None:
        """Take one event."""
        text = self.text(event)
        if text is not None:
            self.write(text)

    def text(self, event: Event) -> str | None:
        """What to print of it."""
        raise NotImplementedError

    def end(self) -> None:
        """Print the counts."""
        raise NotImplementedError

    def write(self, text: str) -> None:
        """One line."""
        if self._gone:
            return
        try:
            print(text, flush=True)
        except BrokenPipeError:
            # `edgesdk run --json APP.yaml | head`: an end like any other, with the last results flushed.
            self._gone = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.app.stop()


class _LinePrinter(_Printer):
    """A line whenever a stream says something new."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._said: dict[tuple[str, str], str] = {}

    def text(self, event: Event) -> str | None:
        """``door  faces  2 faces  12.3 ms``."""
        from edgesdk.app.events import ResultEvent
        from edgesdk.tasks.words import in_words

        if not isinstance(event, ResultEvent):
            return None  # losses and recoveries are in the log, on stderr
        words = in_words({"kind": event.result.kind, **event.result.to_json()})
        key = (event.stream, event.model)
        if self._said.get(key) == words:
            return None
        self._said[key] = words
        return f"{event.stream:12} {event.model:12} {words}  {event.latency_ms['total']:.1f} ms"

    def end(self) -> None:
        """One line per stream, and the outbox."""
        stats = self.app.stats()
        for name, stream in stats.streams.items():
            models = stream.models.values()
            late = sum(model.deadline_missed for model in models)
            failed = sum(model.failed for model in models)
            self.write(
                f"{name}: {stream.accepted} samples, {stream.dropped} dropped, {sum(m.results for m in models)} results, "
                f"{sum(m.published for m in models)} published, {failed} failed, {late} late"
            )
        if stats.telemetry is not None and stats.streams:
            outbox = stats.telemetry
            dropped = f", {outbox.dropped} lost" if outbox.dropped else ""
            self.write(
                f"outbox: {outbox.accepted} accepted, {outbox.delivered} delivered, {outbox.pending} waiting{dropped}"
            )


class _JsonPrinter(_Printer):
    """Every event as one JSON object."""

    def text(self, event: Event) -> str | None:
        """``{"event": "result", ...}``."""
        return json.dumps(_as_json(event), ensure_ascii=False)

    def end(self) -> None:
        """``{"event": "end", ...}``."""
        self.write(json.dumps({"event": "end", "failure": self.app.failure, **self.app.stats().to_json()}))


def _as_json(event: Event) -> dict[str, Any]:
    from edgesdk.app.events import ResultEvent

    if isinstance(event, ResultEvent):
        return {
            "event": "result",
            "stream": event.stream,
            "model": event.model,
            "id": event.id,
            "outcome": event.outcome,
            "source": event.sample.uri,
            "latency_ms": event.latency_ms,
            "result": {"kind": event.result.kind, **event.result.to_json()},
        }
    kind = type(event).__name__
    name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind).lstrip("-")
    return {"event": name.removesuffix("-event"), **{key: getattr(event, key) for key in event.__slots__}}


def _duration(text: str) -> float:
    from edgesdk.schema.units import TIME, UnitError

    try:
        return float(TIME.parse(text))
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


COMMAND = Command(help="run an app.yaml on this board", configure=_configure, run=_run)
