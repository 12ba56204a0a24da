"""Recordings are heard block by block: a long one takes no more memory than a short one."""

from __future__ import annotations

import struct
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, Contract, InputSpec, OutputSpec
from edgesdk.errors import CalibrationError
from edgesdk.sources.reading import read_wav
from edgesdk.tasks import make_task
from edgesdk_converters.calibration import AudioFacts, CalibrationSet

SPEC = InputSpec(
    name="x",
    shape=(1, 576),
    dtype="float32",
    source=AudioInput(sample_rate_hz=16000, chunk_samples=512, context_samples=64),
)
CONTRACT = Contract(
    task="voice-activity", inputs=(SPEC,), outputs=(OutputSpec(name="y", shape=(1, 1), dtype="float32"),)
)


def record(file: Path, pcm: NDArray[np.int16], *, rate: int = 16000) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm.astype("<i2").tobytes())
    return file


def noise(seconds: float, *, rate: int = 16000, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * rate), np.int16)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_recording__its_inferences_are_those_of_the_board(tmp_path: Path, rate: int) -> None:
    file = record(tmp_path / "a.wav", noise(20.01, rate=rate), rate=rate)  # more than one block
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "edgesdk_converters.calibration.reading.Store.left_bytes", 0
        )  # nothing is kept: heard again and again
        data = CalibrationSet.from_folder(tmp_path, CONTRACT)
        got = [feed[0] for feed in data.feeds]
        again = [feed[0] for feed in data.feeds]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        whole = make_task(CONTRACT).feeds(read_wav(file, sample_rate_hz=16000))
    assert len(got) == len(data.units[0]) == len(whole) == 626
    for one, other, third in zip(got, (feed[0] for feed in whole), again, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_array_equal(one, third)


def test_recording__facts_are_those_of_all_of_it(tmp_path: Path) -> None:
    pcm = noise(40)
    pcm[-16000:] = 32767
    record(tmp_path / "a.wav", pcm)
    (one,) = CalibrationSet.from_folder(tmp_path, CONTRACT).prints
    assert isinstance(one.facts, AudioFacts)
    assert one.facts.seconds == 40
    assert one.facts.clipped == pytest.approx(1 / 40)
    power = np.mean((pcm / 32768) ** 2)
    assert one.facts.level_db == pytest.approx(10 * np.log10(power), abs=1e-4)


def peak_bytes(folder: Path) -> int:
    tracemalloc.start()
    data = CalibrationSet.from_folder(folder, CONTRACT)
    count = sum(1 for _ in data.feeds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == len(data.feeds)
    return peak


def test_recording__six_times_as_long_takes_no_more_memory(tmp_path: Path) -> None:
    for name, seconds in (("short", 200), ("long", 1200)):
        (tmp_path / name).mkdir()
        record(tmp_path / name / "a.wav", np.tile(noise(1), seconds))
    assert peak_bytes(tmp_path / "long") <= 1.1 * peak_bytes(tmp_path / "short")


def test_recording__nan_is_told_with_its_place(tmp_path: Path) -> None:
    pcm = np.zeros(32000, "<f4")
    pcm[24000] = np.nan
    body = b"WAVE" + b"fmt " + struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32)
    body += b"data" + struct.pack("<I", pcm.nbytes) + pcm.tobytes()
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(
        CalibrationError, match=r"a\.wav: has NaN or infinity after 1\.50 s\. Repair whatever wrote the file"
    ):
        CalibrationSet.from_folder(tmp_path, CONTRACT)
