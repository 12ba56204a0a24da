"""Source `replay`: plays a recording (see `recording.py`) again, at its own pace or as fast as possible."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgesdk.errors import SourceError
from edgesdk.samples import Sample, Stamp
from edgesdk.sources.base import Pace, Pacer, SourceBase
from edgesdk.sources.recording import Entry, read_index, read_sample


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `replay`."""

    path: Path
    """Folder of the recording."""
    pace: Pace = "real-time"
    loop: bool = False
    stamps: Literal["new", "recorded"] = "new"
    """new: captured now, so that deadlines mean something; recorded: as they were, to compare two runs exactly."""


class Replay(SourceBase):
    """Delivers the samples of a recording in order."""

    Options = ReplayOptions

    def __init__(self, options: ReplayOptions) -> None:
        super().__init__(options)
        self.options: ReplayOptions = options
        self._entries: list[Entry] = []
        self._next = 0
        self._pacer: Pacer | None = None

    @property
    def description(self) -> str:
        """Folder, and once open the number of samples."""
        count = f", {len(self._entries)} samples" if self._entries else ""
        return f"recording {self.options.path}{count}"

    def open(self) -> None:
        """Read the index."""
        self._entries = read_index(self.options.path.expanduser())
        self._next = 0
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Sample | None:
        """The next sample, or None after the last."""
        if self._pacer is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        if self._next >= len(self._entries):
            if not self.options.loop or not self._entries:
                return None
            self._next = 0
            self._pacer = Pacer(self.options.pace, self._interrupted)
        entry = self._entries[self._next]
        self._next += 1
        self._pacer.wait_until((entry.monotonic_ns - self._entries[0].monotonic_ns) / 1e9)
        captured = Stamp.now() if self.options.stamps == "new" else entry.captured
        return read_sample(self.options.path.expanduser(), entry, captured)

    def close(self) -> None:
        """Forget the index."""
        self._pacer = None
