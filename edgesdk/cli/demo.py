"""`edgesdk demo`: fetch, convert, run, publish, and show what arrived."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from edgesdk.cli.main import CONVERTERS_PIP_LINE, Command
from edgesdk.demo.screen import Screen
from edgesdk.errors import ConfigError, TelemetryError


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else there")
    parser.add_argument("--broker", metavar="URL", help="mqtt://host:port of a broker; default: an embedded one")
    parser.add_argument("--device", metavar="ID", default=None, help="device profile to convert for")
    parser.add_argument("--output", metavar="DIR", type=Path, help="keep bundles, app.yaml and outbox here")
    parser.add_argument("--fast", action="store_true", help="play the media as fast as possible")


def _run(options: argparse.Namespace) -> int:
    from edgesdk import registry
    from edgesdk.backends.cache import cache_dir
    from edgesdk.demo.plan import DEVICE_PROFILE
    from edgesdk.demo.report import as_json, stream_table, summary
    from edgesdk.demo.runner import run_demo

    steps = registry.plugins(registry.DEMO)
    if "prepare" not in steps:
        print(f"edgesdk demo: error: the converters are not installed: {CONVERTERS_PIP_LINE}", file=sys.stderr)
        return 1
    prepare = registry.load_plugin(registry.DEMO, "prepare")
    screen = Screen()
    begin = time.monotonic()

    def note(words: str) -> None:
        screen.say(f"[{time.monotonic() - begin:5.1f} s] {words}")

    if options.broker is not None:
        _look_for_broker(options.broker)  # now, and not after two minutes of converting
    folder: Path = options.output or cache_dir() / "demo"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"--output {folder}: cannot be made: {error.strerror}. Name another folder."]) from error
    device = options.device or DEVICE_PROFILE
    with _above_the_table(screen):
        prepared = prepare(folder, device=device, report=note)
        outcome = run_demo(
            prepared,
            folder,
            url=options.broker,
            fast=options.fast,
            on_update=lambda views: screen.draw(stream_table(views)),
            on_note=note,
        )
    screen.draw(stream_table(outcome.streams), final=True)
    report = as_json(prepared, outcome, device)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(["", *summary(report)]))
    if not outcome.complete:
        print(
            f"edgesdk demo: error: published {outcome.published}, received {outcome.received}, the app ended with "
            f"{outcome.exit_code}. Look at {folder / 'app.yaml'} and run it alone: edgesdk run {folder / 'app.yaml'}",
            file=sys.stderr,
        )
        return 1
    return 0


def _look_for_broker(url: str) -> None:
    import socket

    from edgesdk.telemetry.settings import parse_url

    try:
        endpoint = parse_url(url)
    except ConfigError as error:
        told = [problem.replace("telemetry.mqtt.url", "--broker") for problem in error.problems]
        raise ConfigError(told) from error
    try:
        socket.create_connection((endpoint.host, endpoint.port), timeout=5.0).close()
    except OSError as error:
        raise TelemetryError(
            f"--broker {url}: cannot be reached: {error.strerror or error}. Start it, check address and network, or leave "
            "--broker out: the demo brings its own."
        ) from error


@contextlib.contextmanager
def _above_the_table(screen: Screen) -> Iterator[None]:
    """Warnings and log lines that would go to stderr stand above the live table instead of tearing it."""
    show = warnings.showwarning
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    warnings.showwarning = lambda message, *_, **__: screen.say(f"warning: {message}")
    lines = _Lines(screen)
    for handler in handlers:
        handler.setStream(lines)
    try:
        yield
    finally:
        warnings.showwarning = show
        for handler in handlers:
            handler.setStream(sys.stderr)


class _Lines(io.TextIOBase):
    """A text stream whose lines go to the screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> int:
        """Show what is more than white space."""
        if text.strip():
            self._screen.say(text.rstrip("\n"))
        return len(text)


COMMAND = Command(
    help="zero configuration: fetch, convert, run, publish, show what arrived", configure=_configure, run=_run
)
