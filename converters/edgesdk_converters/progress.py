"""What a long conversion says while it works: bars on a terminal, plain lines elsewhere; always to stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol, TextIO


class Bar(Protocol):
    """A step with a known number of parts."""

    def advance(self, count: int = 1) -> None:
        """``count`` more parts are done."""


class Progress(Protocol):
    """Where a conversion reports to."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def bar(self, text: str, total: int) -> contextlib.AbstractContextManager[Bar]:
        """A step of ``total`` parts."""


class Quiet:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """Nothing."""
        del text, total
        yield _NoBar()


class Lines:
    """Plain lines; a long step says how far it is every ten seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def say(self, text: str) -> None:
        """One line."""
        print(f"  {text}", file=self._stream, flush=True)

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """A line at the start, and every ten seconds."""
        self.say(f"{text} ({total})")
        yield _LineBar(self, text, total)


class Terminal(Lines):
    """One line that is redrawn."""

    def say(self, text: str) -> None:
        """A line that stays."""
        self._stream.write(f"\r\x1b[2K  {text}\n")
        self._stream.flush()

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """A bar that is wiped when the step ends."""
        bar = _TerminalBar(self._stream, text, total)
        try:
            yield bar
        finally:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()


def for_stream(stream: TextIO | None = None) -> Progress:
    """Bars on a terminal, lines elsewhere."""
    stream = stream or sys.stderr
    return Terminal(stream) if stream.isatty() else Lines(stream)


class _NoBar:
    def advance(self, count: int = 1) -> None:
        pass


class _LineBar:
    def __init__(self, lines: Lines, text: str, total: int) -> None:
        self._lines, self._text, self._total = lines, text, total
        self._done, self._said = 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            self._lines.say(f"{self._text}: {self._done} of {self._total}")


class _TerminalBar:
    _WIDTH = 24

    def __init__(self, stream: TextIO, text: str, total: int) -> None:
        self._stream, self._text, self._total, self._done = stream, text, max(total, 1), 0
        self._draw()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._draw()

    def _draw(self) -> None:
        full = min(self._WIDTH, self._done * self._WIDTH // self._total)
        self._stream.write(
            f"\r\x1b[2K  {self._text} [{'#' * full}{'.' * (self._WIDTH - full)}] {self._done}/{self._total}"
        )
        self._stream.flush()
