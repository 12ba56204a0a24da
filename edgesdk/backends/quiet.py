"""Keeps what C++ runtimes print to file descriptor 2 off the user's terminal, without losing what matters."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

NOISE = re.compile(r"^(INFO|VERBOSE|W0000|I0000|WARNING: All log messages before absl)\b")
"""Lines that a user cannot act on, such as ``INFO: Created TensorFlow Lite XNNPACK delegate for CPU.``"""

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # file descriptor 2 is the process's own: two redirections would cross


@contextlib.contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect the lines written to file descriptor 2 meanwhile, by this thread or another.

    At the end noise goes to the log at DEBUG and every other line to the real stderr, so that another thread's output
    is delayed but not lost. A process without a stderr is left as it is.

    Yields:
        A list that holds the lines that are not noise, once the block is left.
    """
    lines: list[str] = []
    with _one_at_a_time:
        try:
            sys.stderr.flush()
            kept = os.dup(2)
        except (OSError, ValueError, AttributeError):  # stderr is closed, or None under pythonw and some daemons
            yield lines
            return
        with tempfile.TemporaryFile() as sink:
            try:
                os.dup2(sink.fileno(), 2)
                yield lines
            finally:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.flush()
                os.dup2(kept, 2)
                os.close(kept)
                sink.seek(0)
                for line in sink.read().decode(errors="replace").splitlines():
                    if not line.strip():
                        continue
                    if NOISE.match(line):
                        _log.debug("runtime: %s", line)
                        continue
                    lines.append(line)
                    os.write(2, f"{line}\n".encode())
