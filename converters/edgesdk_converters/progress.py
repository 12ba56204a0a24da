"""What a long conversion says while it works: bars on a terminal, plain lines elsewhere; always to stderr."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Protocol, Self, TextIO

_WIPE = "\r\x1b[2K"
_REDRAW_S = 0.1
_SILENT_S = 1.0
"""A step that takes longer shows that it goes on."""


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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        """One line."""
        print(f"  {text}", file=self._stream, flush=True)

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """A line at the start, and every ten seconds."""
        self.say(f"{text} ({total})")
        yield _LineBar(self, text, total)


class Terminal(Lines):
    """One line that is redrawn, ten times a second at most: a bar, or for steps without a known length the seconds that they take.

    As a context manager it keeps that line alive while nobody reports anything, and wipes it at the end, however that comes.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._lock = threading.RLock()
        self._bars: list[_TerminalBar] = []
        self._step = ""
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._beat, name="edgesdk-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._write(_WIPE)

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._write(f"{_WIPE}  {text}\n")
            self._step, self._begun = text, time.monotonic()
            self._draw()

    @contextlib.contextmanager
    def bar(self, text: str, total: int) -> Iterator[Bar]:
        """A bar that is wiped when the step ends; one inside another takes its place for so long."""
        bar = _TerminalBar(self, text, total)
        with self._lock:
            self._bars.append(bar)
            self._draw()
        try:
            yield bar
        finally:
            with self._lock:
                self._bars.remove(bar)
                self._write(_WIPE)
                self._begun = time.monotonic()
                self._draw()

    def redraw(self) -> None:
        """Draw what there is to see, unless that has just been done."""
        with self._lock:
            if time.monotonic() - self._drawn >= _REDRAW_S:
                self._draw()

    def _beat(self) -> None:
        while not self._over.wait(_SILENT_S / 2):
            self.redraw()

    def _draw(self) -> None:
        columns = shutil.get_terminal_size().columns
        passed = time.monotonic() - self._begun
        if self._bars:
            line = self._bars[-1].line(columns)
        elif self._thread is not None and self._step and passed >= _SILENT_S:
            line = f"{self._step[: max(0, columns - 12)]} ... {passed:.0f} s"
        else:
            return
        self._drawn = time.monotonic()
        # A line that wraps would leave its upper part behind.
        self._write(f"{_WIPE}  {line}"[: len(_WIPE) + columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def for_stream(stream: TextIO | None = None) -> Lines:
    """Bars on a terminal, lines elsewhere; a context manager."""
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

    def __init__(self, terminal: Terminal, text: str, total: int) -> None:
        self._terminal, self._text, self._total, self._done = terminal, text, max(total, 1), 0
        self._begun = time.monotonic()

    def advance(self, count: int = 1) -> None:
        self._done += count
        self._terminal.redraw()

    def line(self, columns: int) -> str:
        """The bar, with the seconds so far and those that are left."""
        full = min(self._WIDTH, self._done * self._WIDTH // self._total)
        passed = time.monotonic() - self._begun
        left = (
            f", {passed / self._done * (self._total - self._done):.0f} s left"
            if self._done and passed > _SILENT_S
            else ""
        )
        bar = f" [{'#' * full}{'.' * (self._WIDTH - full)}] {self._done}/{self._total}{left}"
        return self._text[: max(8, columns - len(bar) - 4)] + bar
