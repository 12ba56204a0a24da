"""Typed results of the speech tasks. Times are seconds since the first sample of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.tasks.results import check_array, check_equal_lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSegment:
    """A stretch of speech."""

    start_s: float
    end_s: float | None
    """None while it is still going on at the end of the block."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, milliseconds kept."""
        return {"start_s": round(self.start_s, 3), "end_s": None if self.end_s is None else round(self.end_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechEvent:
    """Speech began or ended. It is known later than it happened, by the minimum durations."""

    event: Literal["start", "end"]
    time_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, milliseconds kept."""
        return {"event": self.event, "time_s": round(self.time_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoiceActivity:
    """What one block of PCM says about speech. A block may complete no chunk at all: then the arrays are empty."""

    kind: ClassVar[str] = "voice_activity"

    probabilities: NDArray[np.float32]
    """(n,), 0..1: speech in each chunk that this block completed, broken ones left out."""
    start_samples: NDArray[np.int64]
    """(n,): index of each chunk's first sample in the stream."""
    sample_rate_hz: int
    chunk_samples: int
    threshold: float
    """Probability from which a chunk counts as speech."""
    segments: tuple[SpeechSegment, ...] = ()
    """Those that ended in this block, and last the one that is still open."""
    events: tuple[SpeechEvent, ...] = ()
    """In the order of their times."""
    speaking: bool = False
    """Whether a segment is open at the end of this block."""
    gaps: int = 0
    """Since the stream began: jumps in ``Audio.first_sample``, and blocks whose inference failed. Each one reset the model's
    state."""
    broken_chunks: int = 0
    """Chunks since the stream began for which the model returned NaN or infinity, because the sound held some or a state had
    run away. They are in no array here, and each one reset the model's state."""

    def __post_init__(self) -> None:
        check_array("VoiceActivity", "probabilities", self.probabilities, dtype=np.float32, shape=(None,))
        check_array("VoiceActivity", "start_samples", self.start_samples, dtype=np.int64, shape=(None,))
        check_equal_lengths(
            "VoiceActivity", probabilities=len(self.probabilities), start_samples=len(self.start_samples)
        )

    @property
    def start_s(self) -> NDArray[np.float64]:
        """(n,): start of each chunk in seconds."""
        return self.start_samples / self.sample_rate_hz

    @property
    def speech_fraction(self) -> float:
        """Share of this block's chunks at or above the threshold, 0..1; 0 where there is no chunk."""
        return float(np.mean(self.probabilities >= self.threshold)) if self.probabilities.size else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data; probabilities to three decimals, times to milliseconds."""
        return {
            "kind": self.kind,
            "speaking": self.speaking,
            "speech_fraction": round(self.speech_fraction, 4),
            "chunk_s": round(self.chunk_samples / self.sample_rate_hz, 6),
            "start_s": round(float(self.start_s[0]), 3) if self.start_samples.size else None,
            "probabilities": [round(value, 3) for value in self.probabilities.tolist()],
            "events": [event.to_json() for event in self.events],
            "segments": [segment.to_json() for segment in self.segments],
            "gaps": self.gaps,
            "broken_chunks": self.broken_chunks,
        }
