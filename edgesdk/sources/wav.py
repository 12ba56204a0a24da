"""Source `wav`: a wav file in blocks of PCM."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgesdk.errors import SourceError
from edgesdk.samples import Audio, Stamp
from edgesdk.schema import Hertz, Seconds
from edgesdk.sources.base import Pace, Pacer, SourceBase, check_above_zero
from edgesdk.sources.reading import read_wav


class WavOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `wav`."""

    path: Path
    rate_hz: Hertz | None = msgspec.field(name="rate", default=None)
    """Sample rate to deliver; another one in the file is resampled, with a warning. None is the file's own, and in an app
    that of the models that hear it."""
    block_s: Seconds = msgspec.field(name="block", default=0.1)
    """Length of a block."""
    pace: Pace = "real-time"
    loop: bool = False

    def __post_init__(self) -> None:
        # Sample rates are whole numbers: 0.4 Hz would become 0.
        check_above_zero(rate=None if self.rate_hz is None else round(self.rate_hz), block=self.block_s)


class WavFile(SourceBase):
    """Delivers a wav file as mono float32 blocks; the last one carries ``last``. The whole file is held in memory."""

    Options = WavOptions
    media = "audio"

    def __init__(self, options: WavOptions) -> None:
        super().__init__(options)
        self.options: WavOptions = options
        self._audio: Audio | None = None
        self._offset = 0
        self._delivered = 0
        self._pacer: Pacer | None = None

    @property
    def description(self) -> str:
        """File, and once open its length and rate."""
        if self._audio is None:
            return f"wav {self.options.path}"
        rate_hz = self._audio.sample_rate_hz
        return f"wav {self.options.path}, {len(self._audio.pcm) / rate_hz:.1f} s at {rate_hz} Hz"

    def open(self) -> None:
        """Read the file.

        Raises:
            SourceError: It does not exist.
            SourceFormatError: It is no wav file that can be read.
        """
        path = self.options.path.expanduser()
        if not path.is_file():
            raise SourceError(
                f"{path}: no such wav file. Check `path:`; in app.yaml it is relative to the app.yaml's folder."
            )
        rate_hz = None if self.options.rate_hz is None else round(self.options.rate_hz)
        self._audio = read_wav(path, sample_rate_hz=rate_hz)
        self._offset = self._delivered = 0
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Audio | None:
        """The next block, or None after the last."""
        if self._audio is None or self._pacer is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        pcm, rate_hz = self._audio.pcm, self._audio.sample_rate_hz
        if self._offset >= len(pcm):
            if not self.options.loop or not len(pcm):
                return None
            self._offset = 0
        size = max(1, round(self.options.block_s * rate_hz))
        block = pcm[self._offset : self._offset + size]
        # A block is there when its last sample has been heard, and is stamped with the moment of its first.
        self._pacer.wait_until((self._delivered + len(block)) / rate_hz)
        length_ns = len(block) * 1_000_000_000 // rate_hz if self.options.pace == "real-time" else 0
        now = Stamp.now()
        stamp = Stamp(time_ns=now.time_ns - length_ns, monotonic_ns=now.monotonic_ns - length_ns)
        first = self._delivered
        self._offset += len(block)
        self._delivered += len(block)
        last = self._offset >= len(pcm) and not self.options.loop
        return Audio(
            pcm=block, sample_rate_hz=rate_hz, captured=stamp, first_sample=first, last=last, uri=str(self.options.path)
        )

    def close(self) -> None:
        """Free the samples."""
        self._audio = None
        self._pacer = None
