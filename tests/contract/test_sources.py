"""Every registered source keeps the promises of edgesdk.sources.api, whoever wrote it."""

from __future__ import annotations

import importlib
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgesdk import registry
from edgesdk.errors import MissingExtraError, SourceError
from edgesdk.samples import Audio, Picture, Stamp, Tensors
from edgesdk.sources import Source, make_source, source_class
from edgesdk.sources.recording import Recorder
from edgesdk.sources.v4l2 import video_nodes

KINDS = sorted(registry.plugins(registry.SOURCES))


def _pictures(folder: Path) -> dict[str, Any]:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((24, 32, 3), index * 40, dtype=np.uint8))
    return {"path": folder}


def _pan(folder: Path) -> dict[str, Any]:
    return {**_pictures(folder), "frames": 2, "size_wh": (16, 12)}


def _video(folder: Path) -> dict[str, Any]:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
    for index in range(4):
        writer.write(np.full((24, 32, 3), index * 40, dtype=np.uint8))
    writer.release()
    return {"path": path, "pace": "fast"}


def _wav(folder: Path) -> dict[str, Any]:
    path = folder / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((np.sin(np.arange(4000) / 6) * 9000).astype("<i2").tobytes())
    return {"path": path, "pace": "fast"}


def _replay(folder: Path) -> dict[str, Any]:
    with Recorder(folder / "recording", source="a test") as recorder:
        recorder.add(Picture(pixels=np.zeros((4, 6), dtype=np.uint8), colour="GREY"))
        recorder.add(Audio(pcm=np.zeros(8, dtype=np.float32), sample_rate_hz=16000))
        recorder.add(Tensors(arrays={"x": np.ones((1, 2))}))
    return {"path": folder / "recording", "pace": "fast"}


def _fake(folder: Path) -> dict[str, Any]:
    return {"samples": 3}


def _camera(folder: Path) -> dict[str, Any]:
    if not video_nodes():
        pytest.skip("no camera here: plug one in (any /dev/videoN)")
    return {"device": str(video_nodes()[0])}


def _microphone(folder: Path) -> dict[str, Any]:
    try:
        sounddevice = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:
        pytest.skip(f"no microphone here ({error}): apt-get install libportaudio2")
    if not any(device["max_input_channels"] for device in sounddevice.query_devices()):
        pytest.skip("no microphone here: plug one in")
    return {}


WORKING: dict[str, Callable[[Path], dict[str, Any]]] = {
    "images": _pictures,
    "pan": _pan,
    "video": _video,
    "wav": _wav,
    "replay": _replay,
    "fake": _fake,
    "v4l2": _camera,
    "microphone": _microphone,
}
MISSING: dict[str, dict[str, Any]] = {
    "images": {"path": Path("/nowhere/photos")},
    "pan": {"path": Path("/nowhere/photos")},
    "video": {"path": Path("/nowhere/clip.mp4")},
    "wav": {"path": Path("/nowhere/tone.wav")},
    "replay": {"path": Path("/nowhere/recording")},
    "fake": {"unreadable": True},
    "v4l2": {"device": 63},
    "microphone": {"device": "no such microphone"},
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param not in WORKING:
        pytest.skip(f"source {request.param!r} is another distribution's: its own tests tell how to make one")
    return make_source(request.param, WORKING[request.param](tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_class__is_complete(kind: str) -> None:
    cls = source_class(kind)
    assert isinstance(cls.live, bool)
    assert issubclass(cls.Options, msgspec.Struct)
    assert "kind" not in {field.encode_name for field in msgspec.structs.fields(cls.Options)}


@pytest.mark.parametrize("kind", sorted(MISSING))
def test_constructing__opens_nothing(kind: str) -> None:
    source = make_source(kind, MISSING[kind])
    assert isinstance(source, Source)
    assert source.description
    source.close()


@pytest.mark.parametrize("kind", sorted(MISSING))
def test_open__missing__is_source_error_with_a_fix(kind: str) -> None:
    source = make_source(kind, MISSING[kind])
    with pytest.raises((SourceError, MissingExtraError)) as caught:
        source.open()
    assert source.description.split()[0]
    assert len(str(caught.value)) > 40, "the text says what, where and the fix"
    source.close()


def test_read__before_open__is_source_error(source: Source) -> None:
    with pytest.raises(SourceError, match=r"Call open\(\) first"):
        source.read()


def test_read__delivers_stamped_samples_then_none(source: Source) -> None:
    earlier = Stamp.now()
    with source:
        count = 0
        while (sample := source.read()) is not None:
            count += 1
            # A block of sound is stamped with its first sample, at most a block before it was asked for.
            assert sample.captured.monotonic_ns >= earlier.monotonic_ns - 1_000_000_000
            if isinstance(sample, Picture):
                assert sample.pixels.dtype == np.uint8
                assert sample.pixels.ndim == (2 if sample.colour == "GREY" else 3)
            if isinstance(sample, Audio):
                assert sample.pcm.dtype == np.float32
                assert sample.pcm.ndim == 1
            if source.live and count == 3:
                return
        assert count > 0
        assert source.read() is None


def test_close__twice_and_reopen(source: Source) -> None:
    source.open()
    first = source.read()
    source.close()
    source.close()
    source.open()
    again = source.read()
    source.close()
    assert type(first) is type(again)


def test_close__leaves_no_threads(source: Source) -> None:
    before = set(threading.enumerate())
    with source:
        source.read()
    assert set(threading.enumerate()) <= before
