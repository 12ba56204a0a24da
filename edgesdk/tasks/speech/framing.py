"""Blocks of PCM of any size in, chunks of exactly the model's size out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, InputSpec
from edgesdk.errors import TaskError
from edgesdk.samples import Audio


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """One model input."""

    start_sample: int
    """Index of its first new sample in the stream; the context lies before it."""
    values: NDArray[np.float32]
    """In the input's shape: context, then the new samples; read only."""
    samples: int
    """New samples in it; less than the chunk's size where the end of the stream was padded with zeros."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunks:
    """What one block completed."""

    chunks: tuple[Chunk, ...]
    gap: bool
    """The block does not continue the one before: the chunks are of a new stretch, and states must be zeros."""
    begin: bool
    """The block is the first of a stream, or the first after a gap."""


class AudioFramer:
    """Cuts a stream into chunks with the samples before each as context, whatever the sizes of its blocks.

    Samples that do not fill a chunk wait for the next block; ``Audio.last`` flushes them, padded with zeros. The
    context of a stream's first chunk is zeros. A block that does not continue the one before (its ``first_sample``
    jumps) drops what waits and starts anew.

    Raises:
        TaskError: The input's shape or dtype does not fit its chunk and context sizes.
    """

    def __init__(self, spec: InputSpec) -> None:
        source = spec.source
        if not isinstance(source, AudioInput):
            raise TaskError(
                f"input {spec.name!r}: got kind {type(source).__name__}, expected audio. "
                "Say `kind: audio` for this input in the model's spec."
            )
        size = source.context_samples + source.chunk_samples
        if source.chunk_samples < 1 or source.context_samples < 0 or source.sample_rate_hz < 1:
            raise TaskError(
                f"input {spec.name!r}: chunk_samples {source.chunk_samples}, context_samples {source.context_samples}, "
                f"sample_rate_hz {source.sample_rate_hz}; expected at least 1, 0 and 1. Correct them in the model's spec."
            )
        if spec.shape not in {(1, size), (size,)} or spec.dtype != "float32":
            raise TaskError(
                f"input {spec.name!r}: shape {spec.shape} of {spec.dtype} does not hold context_samples "
                f"{source.context_samples} + chunk_samples {source.chunk_samples}; expected (1, {size}) of float32. "
                "Pin that shape at conversion, or correct the two numbers in the model's spec."
            )
        self.chunk_samples = source.chunk_samples
        self.context_samples = source.context_samples
        self.sample_rate_hz = source.sample_rate_hz
        self.gaps = 0
        """Jumps since the last reset, and calls of :meth:`break_off`."""
        self._shape = spec.shape
        self._next: int | None = None
        self._waiting = np.zeros(self.context_samples, np.float32)  # context, then samples that fill no chunk yet

    def push(self, audio: Audio) -> Chunks:
        """Take a block, return the chunks that it completes.

        Raises:
            TaskError: Wrong sample rate, dtype or number of channels; the framer keeps its state.
        """
        self._check(audio)
        gap = self._next is not None and audio.first_sample != self._next
        begin = gap or self._next is None
        if gap:
            self.gaps += 1
            self._waiting = np.zeros(self.context_samples, np.float32)
        waiting = np.concatenate((self._waiting, audio.pcm))
        start = audio.first_sample - (self._waiting.size - self.context_samples)
        fresh = waiting.size - self.context_samples
        count, rest = divmod(fresh, self.chunk_samples)
        if audio.last and rest:
            waiting = np.concatenate((waiting, np.zeros(self.chunk_samples - rest, np.float32)))
            count += 1
        waiting.flags.writeable = False  # neighbouring chunks share their context
        size = self.context_samples + self.chunk_samples
        chunks = tuple(
            Chunk(
                start_sample=start + offset,
                values=waiting[offset : offset + size].reshape(self._shape),
                samples=min(self.chunk_samples, fresh - offset),
            )
            for offset in range(0, count * self.chunk_samples, self.chunk_samples)
        )
        if audio.last:
            self._next = None
            self._waiting = np.zeros(self.context_samples, np.float32)
        else:
            self._next = audio.first_sample + audio.pcm.size
            self._waiting = waiting[count * self.chunk_samples :].copy()
        return Chunks(chunks=chunks, gap=gap, begin=begin)

    def break_off(self) -> None:
        """Forget what waits and the context; the next block counts as a gap, even where it continues this one."""
        self._next = -1  # no block begins there

    def reset(self) -> None:
        """Forget what waits, the context and the count of gaps."""
        self._next = None
        self._waiting = np.zeros(self.context_samples, np.float32)
        self.gaps = 0

    def _check(self, audio: Audio) -> None:
        where = f" of {audio.uri}" if audio.uri else ""
        if audio.sample_rate_hz != self.sample_rate_hz:
            raise TaskError(
                f"audio{where}: got a sample rate of {audio.sample_rate_hz} Hz, the model takes {self.sample_rate_hz} Hz. "
                f"Let the source resample: `rate: {self.sample_rate_hz}Hz` in app.yaml, or "
                f"read_wav(path, sample_rate_hz={self.sample_rate_hz})."
            )
        if audio.pcm.ndim != 1:
            raise TaskError(
                f"audio{where}: got PCM of shape {audio.pcm.shape}, expected (n,): one channel. "
                "Mix it down first: pcm.mean(axis=1) of (n, channels)."
            )
        if audio.pcm.dtype != np.float32:
            raise TaskError(
                f"audio{where}: got PCM of {audio.pcm.dtype}, expected float32 in -1..1. "
                "Convert int16 by pcm.astype(numpy.float32) / 32768."
            )
