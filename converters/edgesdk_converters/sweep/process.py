"""Runs a cell in a process of its own: a crash, or memory that grows, ends with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgesdk_converters.guard.turns import LOCK_FILE
from edgesdk_converters.sweep.results import Outcome

_GRACE_S = 10.0
"""For an interrupted conversion to remove its half-written file."""
_LAST_WORDS = 600


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """The cell was stopped on request."""


class Runner:
    """Starts processes, and stops them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(
        self, arguments: Mapping[str, str], work: Path, *, title: str = "model", cores: Sequence[int] = ()
    ) -> Outcome:
        """Run one conversion and wait for it.

        Args:
            arguments: Of the conversion.
            work: Folder for its half-done files.
            title: Name of the bundle's file, without its ending.
            cores: It computes on these only; all by default.

        Raises:
            Interrupted: :meth:`stop` was called.
        """
        with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
            request = {"arguments": dict(arguments), "folder": folder, "title": title, "cores": list(cores)}
            with (Path(folder) / "log.txt").open("wb") as log:
                process = self._start(log.fileno())
                try:
                    assert process.stdin is not None
                    # The pipe stays open: its end tells the process that we are gone.
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    process.stdin.flush()
                    process.wait()
                except BrokenPipeError:
                    process.wait()
                finally:
                    self._end(process)
            if self._stopped:
                raise Interrupted
            return _outcome(process.returncode, Path(folder))

    def _start(self, log: int) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise Interrupted
            process = subprocess.Popen(
                [sys.executable, "-m", "edgesdk_converters.sweep.work"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, LOCK_FILE: str(lock_file())},
                start_new_session=True,  # Ctrl-C in the terminal is ours; we tell them
            )
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:  # an exception came between
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Interrupt all processes, and kill those that do not end."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lock_file() -> Path:
    """The lock that makes timings on this machine, of this user, take turns."""
    from edgesdk.backends.cache import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"timing-{os.uname().nodename}.lock"


def _outcome(code: int, folder: Path) -> Outcome:
    try:
        outcome = msgspec.msgpack.decode((folder / "outcome.msgpack").read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return Outcome(status="failed", error=_how_it_ended(code, folder / "log.txt"))
    return outcome


def _how_it_ended(code: int, log: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else str(-code)
        why = " (out of memory? try --jobs 1)" if code == -signal.SIGKILL else ""
        text = f"its process was ended by {name}{why}"
    else:
        text = f"its process ended with code {code} and no result"
    words = log.read_text("utf-8", errors="replace").strip()[-_LAST_WORDS:]
    return f"{text}. Its last words: {words}" if words else f"{text}, without a word."
