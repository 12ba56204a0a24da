"""From speech probabilities, chunk by chunk, to segments with a start and an end."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.tasks.speech_results import SpeechEvent, SpeechSegment


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRule:
    """When speech begins and ends."""

    threshold: float
    """Probability from which silence turns into speech."""
    end_threshold: float
    """Probability below which speech turns into silence; lower than ``threshold``, so that it does not flutter."""
    min_speech_s: float
    """Shorter speech is dropped; its start event waits that long."""
    min_silence_s: float
    """Shorter silence does not end a segment; the end event waits that long."""
    pad_s: float
    """Added before the start and after the end, as far as samples are there."""


class SpeechSegmenter:
    """State machine over a stream of chunk probabilities. Counts in samples, answers in seconds."""

    def __init__(self, rule: SegmentRule, sample_rate_hz: int) -> None:
        self._rule = rule
        self._rate = sample_rate_hz
        self.events: list[SpeechEvent] = []
        """Since :meth:`take` was last called."""
        self.closed: list[SpeechSegment] = []
        """Segments that ended since :meth:`take` was last called."""
        self.begin(0)

    def begin(self, first_sample: int) -> None:
        """Start a new stretch at this sample; a segment that is open is forgotten (:meth:`finish` closes it).

        What ended before and was not taken yet stays.
        """
        self._floor_s = (
            first_sample / self._rate
        )  # nothing starts earlier: begin of the stretch, or end of the segment before
        self._now = first_sample
        self._start: int | None = None
        self._silence: int | None = None
        self._confirmed = False

    @property
    def speaking(self) -> bool:
        """Whether a segment is open whose start event has been given."""
        return self._confirmed

    def push(self, probability: float, start_sample: int, samples: int) -> None:
        """One chunk: ``samples`` from ``start_sample`` on."""
        rule = self._rule
        self._now = start_sample + samples
        if probability >= rule.threshold:
            self._silence = None
            if self._start is None:
                self._start = start_sample
        elif self._start is not None and probability < rule.end_threshold and self._silence is None:
            self._silence = start_sample
        if self._start is None:
            return
        spoken = (self._now if self._silence is None else self._silence) - self._start
        if not self._confirmed and spoken >= rule.min_speech_s * self._rate:
            self._confirmed = True
            self.events.append(SpeechEvent(event="start", time_s=self._padded_start()))
        if self._silence is not None and self._now - self._silence >= rule.min_silence_s * self._rate:
            self._close(self._silence)

    def finish(self) -> None:
        """The stretch ends here (end of the stream, or a gap): close what is open."""
        if self._start is not None:
            self._close(self._now if self._silence is None else self._silence)

    def take(self) -> tuple[tuple[SpeechSegment, ...], tuple[SpeechEvent, ...]]:
        """Segments that ended since the last call, then the open one; and the events."""
        segments = [*self.closed]
        if self._confirmed:
            segments.append(SpeechSegment(start_s=self._padded_start(), end_s=None))
        events = tuple(self.events)
        self.events, self.closed = [], []
        return tuple(segments), events

    def _padded_start(self) -> float:
        assert self._start is not None  # only called within a segment
        return max(self._floor_s, self._start / self._rate - self._rule.pad_s)

    def _close(self, end_sample: int) -> None:
        if self._confirmed:
            end_s = min(self._now / self._rate, end_sample / self._rate + self._rule.pad_s)
            self.closed.append(SpeechSegment(start_s=self._padded_start(), end_s=end_s))
            self.events.append(SpeechEvent(event="end", time_s=end_s))
            self._floor_s = end_s
        self._start = self._silence = None
        self._confirmed = False
