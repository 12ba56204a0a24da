"""A recording of another rate is resampled for the models that hear it, and the app says so."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import SourceWarning
from edgesdk.samples import Audio, Sample


def _recording(folder: Path, rate_hz: int) -> None:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.zeros(rate_hz, "<i2").tobytes())


def _heard_rates(story: Any, source: str) -> list[str]:
    def say_rate(index: int, sample: Sample) -> Any:
        assert isinstance(sample, Audio)
        return story.Seen(label=f"{sample.sample_rate_hz}")

    text = f"sources: {{s: {{kind: wav, path: a.wav, pace: fast{source}}}}}\n"
    names = sorted(story.rates_hz)
    text += f"models: {{{', '.join(f'{name}: {{bundle: {name}.edge}}' for name in names)}}}\n"
    text += f"streams: {{one: {{source: s, run: [{', '.join(names)}]}}}}\n"
    story.scripts = dict.fromkeys(names, say_rate)
    assert story.app(text).run() == 0
    from edgesdk.app.events import ResultEvent

    return sorted({event.result.label for event in story.of(ResultEvent)})


def test_sound__other_rate__is_resampled_and_said(story: Any, tmp_path: Path) -> None:
    _recording(tmp_path, 44100)
    story.rates_hz = {"vad": 16000}
    with pytest.warns(SourceWarning, match=r"a\.wav: resampled from 44100 Hz to 16000 Hz"):
        assert _heard_rates(story, "") == ["16000"]


def test_sound__the_models_rate__is_left_alone(story: Any, tmp_path: Path) -> None:
    _recording(tmp_path, 16000)
    story.rates_hz = {"vad": 16000}
    assert _heard_rates(story, "") == ["16000"]


def test_sound__rate_in_app_yaml__counts(story: Any, tmp_path: Path) -> None:
    _recording(tmp_path, 16000)
    story.rates_hz = {"vad": 16000}
    with pytest.warns(SourceWarning, match=r"resampled from 16000 Hz to 8000 Hz"):
        assert _heard_rates(story, ", rate: 8kHz") == ["8000"]


def test_sound__models_that_disagree__get_the_files_own(story: Any, tmp_path: Path) -> None:
    _recording(tmp_path, 44100)
    story.rates_hz = {"vad": 16000, "words": 8000}
    assert _heard_rates(story, "") == ["44100"]
