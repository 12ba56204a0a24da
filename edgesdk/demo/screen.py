"""A table that redraws itself on a terminal, and plain lines everywhere else."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Sequence
from typing import TextIO


class Screen:
    """Redraws a block of lines in place on a terminal; on a pipe it prints a block only when it is final."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._drawn = 0
        self._block: list[str] = []
        self._lock = threading.Lock()  # warnings and log lines come from the app's threads

    @property
    def live(self) -> bool:
        """Whether there is a terminal to redraw on."""
        return self._live

    def draw(self, lines: Sequence[str], *, final: bool = False) -> None:
        """Show ``lines`` where the last block was; ``final`` leaves them standing."""
        if not self._live:
            if final:
                self._stream.writelines(f"{line}\n" for line in lines)
                self._stream.flush()
            return
        with self._lock:
            self._redraw(lines)
            if final:
                self._drawn, self._block = 0, []

    def _redraw(self, lines: Sequence[str]) -> None:
        width = shutil.get_terminal_size().columns
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        # Each line is cut to the width (a wrapped one would break the count) and cleared to its end.
        body = "".join(f"\x1b[2K{line[: width - 1]}\n" for line in lines)
        self._stream.write(back + body + "\x1b[J")
        self._stream.flush()
        self._drawn, self._block = len(lines), list(lines)

    def say(self, line: str) -> None:
        """Print one line for good, above the block."""
        with self._lock:
            block, up = self._block, self._drawn
            if self._live and up:
                self._stream.write(f"\x1b[{up}F\x1b[J")
                self._drawn = 0
            self._stream.write(f"{line}\n")
            self._stream.flush()
            if self._live and block:
                self._redraw(block)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns: text to the left, what looks like a number to the right."""
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]
    numeric = [all(_is_number(row[i]) for row in rows) and bool(rows) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        return "  ".join(cells).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *(line(row) for row in rows)]


def _is_number(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell[0] in "-+"
