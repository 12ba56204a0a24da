from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.manifest import AudioInput, Contract, InputSpec, OutputSpec, StateInput
from edgesdk.errors import SourceFormatError, SourceWarning, TaskError
from edgesdk.model.samples import SampleMaker
from edgesdk.samples import Audio

OUTPUT = OutputSpec(name="y", shape=(1, 1), dtype="float32")


@pytest.fixture
def hears() -> SampleMaker:
    source = AudioInput(sample_rate_hz=16000, chunk_samples=512)
    inputs = (
        InputSpec(name="h", shape=(1, 1), dtype="float32", source=StateInput(from_output="y")),
        InputSpec(name="x", shape=(1, 512), dtype="float32", source=source),
    )
    return SampleMaker((Contract(task="voice-activity", inputs=inputs, outputs=(OUTPUT,)),))


def test_audio__arrays_in_a_row_are_one_stream(hears: SampleMaker) -> None:
    firsts = []
    for size in (100, 50, 10):
        audio = hears(np.zeros(size, np.float32))
        assert isinstance(audio, Audio)
        assert (audio.sample_rate_hz, audio.last) == (16000, False)
        firsts.append(audio.first_sample)
    assert firsts == [0, 100, 150]
    hears.reset()
    again = hears(np.zeros(1, np.float32))
    assert isinstance(again, Audio)
    assert again.first_sample == 0


def test_audio__npy_file_is_a_whole_stream(hears: SampleMaker, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(700, np.float32))
    audio = hears(tmp_path / "a.npy")
    assert isinstance(audio, Audio)
    assert (audio.first_sample, audio.last) == (0, True)


def test_audio__wav_is_brought_to_the_models_rate(hears: SampleMaker, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    with pytest.warns(SourceWarning, match=r"resampled from 8000 Hz to 16000 Hz"):
        audio = hears(tmp_path / "a.wav")
    assert isinstance(audio, Audio)
    assert (audio.sample_rate_hz, audio.last, audio.pcm.shape) == (16000, True, (1600,))


@pytest.mark.parametrize(
    ("array", "fix"),
    [
        (np.zeros(9, np.int16), r"array\.astype\(numpy\.float32\) / 32768"),
        (np.zeros((9, 2), np.float32), r"array\.mean\(axis=1\)"),
        (np.zeros(9), r"array\.astype\(numpy\.float32\)\."),
    ],
)
def test_audio__array_of_another_kind(hears: SampleMaker, array: np.ndarray, fix: str) -> None:
    with pytest.raises(TaskError, match=r"expected mono PCM float32 \(n,\) in -1..1 at 16000 Hz.*" + fix):
        hears(array)


def test_audio__picture_file(hears: SampleMaker, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(SourceFormatError, match=r"this model takes audio, expected a \.wav file\. Convert it"):
        hears(tmp_path / "a.mp3")


def test_states_only__takes_no_array() -> None:
    state = InputSpec(name="h", shape=(1, 1), dtype="float32", source=StateInput(from_output="y"))
    maker = SampleMaker((Contract(task="raw", inputs=(state,), outputs=(OUTPUT,)),))
    with pytest.raises(TaskError, match=r"takes no array"):
        maker(np.zeros((1, 1), np.float32))


def test_npz__without_arrays(hears: SampleMaker, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz")
    with pytest.raises(SourceFormatError, match=r"has no arrays\. Write one for each input"):
        hears(tmp_path / "a.npz")
