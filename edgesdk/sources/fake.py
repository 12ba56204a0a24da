"""Source `fake`: made-up pictures or sound with scripted failures; for tests and for trying an app without hardware."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from edgesdk.errors import SourceError, SourceFormatError
from edgesdk.samples import Audio, Picture, Sample, Stamp
from edgesdk.schema import Hertz, Seconds
from edgesdk.sources.base import Pace, Pacer, SourceBase, check_above_zero

TONE_HZ = 440.0


class FakeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `fake`."""

    media: Literal["picture", "audio"] = "picture"
    samples: int | None = 10
    """Samples until the end; None is endless."""
    size_wh: tuple[int, int] = (64, 48)
    """Of the pictures, in pixels."""
    rate_hz: Hertz | None = msgspec.field(name="rate", default=None)
    """Pictures per second (15 Hz if not given), or the sample rate of the sound (16 kHz)."""
    block_s: Seconds = msgspec.field(name="block", default=0.1)
    """Length of a block of sound."""
    pace: Pace = "fast"
    loop: bool = False
    """Begin anew after the last sample, for ever."""
    fails_at: tuple[int, ...] = ()
    """The read of each of these samples (counted from 0) fails once with SourceError, as if the plug was pulled."""
    absent_opens: int = 0
    """After each such failure this many attempts to open it fail as well, before it is back with the next sample."""
    unreadable: bool = False
    """Opening fails with SourceFormatError, which is not retried."""

    def __post_init__(self) -> None:
        check_above_zero(rate=self.rate_hz, block=self.block_s, size_wh=self.size_wh)


class FakeSource(SourceBase):
    """Delivers a moving square, or a tone of 440 Hz: equal in every run, except for the stamps."""

    Options = FakeOptions

    def __init__(self, options: FakeOptions) -> None:
        super().__init__(options)
        self.options: FakeOptions = options
        default_hz = 15.0 if options.media == "picture" else 16000.0
        self._rate_hz = options.rate_hz or default_hz
        self._next = 0
        self._played = 0
        self._failed: set[int] = set()
        self._absent = 0
        self._pacer: Pacer | None = None

    @property
    def description(self) -> str:
        """Kind of samples and rate."""
        return f"fake {self.options.media} at {self._rate_hz:g} Hz"

    def open(self) -> None:
        """Open it, or fail as scripted. After a failure it goes on where it was; after its end it begins anew.

        Raises:
            SourceError: It is away.
            SourceFormatError: The script says that it is unreadable.
        """
        if self.options.unreadable:
            raise SourceFormatError(f"{self.description}: unreadable, as scripted. Set unreadable: false.")
        if self._absent:
            self._absent -= 1
            raise SourceError(f"{self.description}: away, as scripted. It comes back by itself.")
        if self._at_end():
            self._next = 0
            self._failed.clear()
        self._played = 0
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Sample | None:
        """The next sample, or None after the last.

        Raises:
            SourceError: The script says that it fails here.
        """
        if self._pacer is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        if self._next in self.options.fails_at and self._next not in self._failed:
            self._failed.add(self._next)
            self._absent = self.options.absent_opens
            raise SourceError(f"{self.description}: lost at sample {self._next}, as scripted. It comes back by itself.")
        if self._at_end() and not self.options.loop:
            return None
        index = self._next
        self._next += 1
        return self._picture(index) if self.options.media == "picture" else self._audio(index)

    def close(self) -> None:
        """Close it; where it was is kept, for the next open after a failure."""
        self._pacer = None

    def _at_end(self) -> bool:
        return self.options.samples is not None and self._next >= self.options.samples and not self.options.loop

    def _picture(self, index: int) -> Picture:
        assert self._pacer is not None
        width, height = self.options.size_wh
        pixels = np.full((height, width, 3), 32, dtype=np.uint8)
        side = max(1, min(width, height) // 4)
        left, top = index * 3 % max(1, width - side), index * 2 % max(1, height - side)
        pixels[top : top + side, left : left + side] = (255, 160, 0)
        self._pacer.wait_until(self._played / self._rate_hz)
        self._played += 1
        return Picture(pixels=pixels, colour="RGB", captured=Stamp.now(), uri=f"fake:{index}")

    def _audio(self, index: int) -> Audio:
        assert self._pacer is not None
        rate_hz = round(self._rate_hz)
        size = max(1, round(self.options.block_s * rate_hz))
        first = index * size
        pcm = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(first, first + size) / rate_hz)
        self._played += 1
        self._pacer.wait_until(self._played * self.options.block_s)
        last = self.options.samples is not None and index + 1 >= self.options.samples and not self.options.loop
        return Audio(
            pcm=pcm.astype(np.float32),
            sample_rate_hz=rate_hz,
            captured=Stamp.now(),
            first_sample=first,
            last=last,
            uri=f"fake:{index}",
        )
