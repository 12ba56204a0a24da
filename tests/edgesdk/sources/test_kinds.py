from __future__ import annotations

import os
import threading
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import ConfigError, MissingExtraError, PluginError, SourceError, SourceFormatError, SourceWarning
from edgesdk.samples import Audio, Picture
from edgesdk.schema import parse_yaml
from edgesdk.sources import make_source, source_class
from edgesdk.sources.microphone import Microphone, MicrophoneOptions
from edgesdk.sources.pan import window
from edgesdk.sources.v4l2 import Camera, V4l2Options, video_nodes


def _write_wav(path: Path, *, seconds: float = 0.5, rate_hz: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.arange(round(seconds * rate_hz)).astype("<i2").tobytes())
    return path


def _write_pictures(folder: Path, names: list[str]) -> Path:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    for index, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((24, 32, 3), index, dtype=np.uint8))
    return folder


def _uris(source: Any) -> list[str]:
    found = []
    with source:
        while (sample := source.read()) is not None:
            found.append(Path(sample.uri).name)
    return found


def test_source_class__misspelt_kind__names_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"'v4l' is unknown\. Did you mean 'v4l2'\?"):
        make_source("v4l")


def test_images__natural_order(tmp_path: Path) -> None:
    _write_pictures(tmp_path, ["b10.png", "b2.png", "a.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    assert _uris(make_source("images", {"path": tmp_path})) == ["a.png", "b2.png", "b10.png"]
    assert _uris(make_source("images", {"path": tmp_path / "b*.png"})) == ["b2.png", "b10.png"]


def test_images__one_unreadable__is_skipped_with_a_warning(tmp_path: Path) -> None:
    _write_pictures(tmp_path, ["1.png", "3.png"])
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with pytest.warns(SourceWarning, match=r"2\.png.*Skipped"):
        assert _uris(make_source("images", {"path": tmp_path})) == ["1.png", "3.png"]


def test_images__all_unreadable__is_an_error_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with (
        make_source("images", {"path": tmp_path}) as source,
        pytest.warns(SourceWarning),
        pytest.raises(SourceFormatError, match=r"none of 1 files is a readable picture\. Re-save"),
    ):
        source.read()


def test_images__empty_folder__says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no pictures in this folder\. Expected files ending in .*\.png"):
        make_source("images", {"path": tmp_path}).open()


def test_images__loop__begins_anew(tmp_path: Path) -> None:
    _write_pictures(tmp_path, ["1.png", "2.png"])
    with make_source("images", {"path": tmp_path, "loop": True}) as source:
        samples = [source.read() for _ in range(5)]
    assert [Path(s.uri).name[0] for s in samples if s] == ["1", "2", "1", "2", "1"]


def test_images__file_that_may_not_be_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error here would be retried by the app, which begins the folder anew and meets the same file."""
    _write_pictures(tmp_path, ["1.png", "2.png", "3.png"])
    with make_source("images", {"path": tmp_path}) as source:
        source.read()
        (tmp_path / "2.png").unlink()
        with pytest.warns(SourceWarning, match=r"2\.png: no such file\..*Skipped"):
            sample = source.read()
        assert sample is not None
        assert Path(sample.uri).name == "3.png"
        assert source.read() is None


def test_images__loop_over_a_folder_that_was_emptied__ends_with_an_error(tmp_path: Path) -> None:
    _write_pictures(tmp_path, ["1.png"])
    with make_source("images", {"path": tmp_path, "loop": True}) as source:
        assert source.read() is not None
        (tmp_path / "1.png").unlink()
        with (
            pytest.warns(SourceWarning, match="Skipped"),
            pytest.raises(SourceFormatError, match=r"none of 1 files is a readable picture"),
        ):
            source.read()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("images", r"gone: no such file or folder\. Check `path:`; in app\.yaml it is relative to"),
        ("pan", r"gone: no such file or folder\. Check `path:`"),
        ("video", r"gone: no such video file\. Check `path:`; in app\.yaml it is relative to"),
        ("wav", r"gone: no such wav file\. Check `path:`; in app\.yaml it is relative to"),
    ],
)
def test_file_source__missing__says_what_to_check(kind: str, message: str, tmp_path: Path) -> None:
    if kind == "video":
        pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    with pytest.raises(SourceError, match=message):
        make_source(kind, {"path": tmp_path / "gone"}).open()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("images", "path: x, rate: 0Hz", "rate is 0, expected more than 0, for example rate: 15Hz"),
        ("pan", "path: x, rate: 0Hz", "rate is 0, expected more than 0"),
        ("video", "path: x, rate: 0Hz", "rate is 0, expected more than 0"),
        ("wav", "path: x, rate: 0.2Hz", "rate is 0, expected more than 0"),
        ("wav", "path: x, block: 0s", "block is 0, expected more than 0, for example block: 100ms"),
        ("microphone", "rate: 0Hz", "rate is 0, expected more than 0"),
        ("microphone", "block: 0ms", "block is 0, expected more than 0"),
        (
            "v4l2",
            "size_wh: [640, 0]",
            r"size_wh is \[640, 0\], expected more than 0, for example size_wh: \[640, 480\]",
        ),
        ("v4l2", "rate: 0Hz", "rate is 0, expected more than 0"),
        ("fake", "size_wh: [0, 48]", r"size_wh is \[0, 48\], expected more than 0"),
    ],
)
def test_options__zero_is_refused_with_its_place(kind: str, options: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"app\.yaml:1: .*{message}"):
        parse_yaml(f"{{{options}}}", source_class(kind).Options, file="app.yaml")


def test_pan__same_path_in_every_run_and_the_size_asked_for(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    photo = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "p.png"), photo)
    runs = []
    for _ in range(2):
        with make_source("pan", {"path": tmp_path, "frames": 4, "size_wh": (40, 30)}) as source:
            frames = []
            while (frame := source.read()) is not None:
                assert isinstance(frame, Picture)
                assert frame.size_wh == (40, 30)
                frames.append(frame.pixels)
        runs.append(np.stack(frames))
    assert runs[0].shape == (4, 30, 40, 3)
    assert np.array_equal(runs[0], runs[1])


@pytest.mark.parametrize("size_hw", [(3, 3), (10, 500), (500, 10), (48, 64)])
def test_window__any_photograph__stays_inside(size_hw: tuple[int, int]) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    photo = np.full((*size_hw, 3), 7, dtype=np.uint8)
    for progress in np.linspace(0, 1, 9):
        for zoom in (0.1, 0.7, 1.0):
            assert np.all(window(photo, float(progress), (64, 48), zoom) == 7)


def test_window__covers_all_edges() -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    columns = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    rows = np.tile(np.arange(100, dtype=np.uint8)[:, None], (1, 200))
    seen_x = [window(columns, p, (80, 40), 0.5) for p in np.linspace(0, 1, 41)]
    seen_y = [window(rows, p, (80, 40), 0.5) for p in np.linspace(0, 1, 41)]
    assert min(f.min() for f in seen_x) == 0
    assert max(f.max() for f in seen_x) == 199
    assert min(f.min() for f in seen_y) == 0
    assert max(f.max() for f in seen_y) == 99


def test_video__no_video__is_a_format_error_with_the_fix(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(SourceFormatError, match=r"a\.mp4: not a video that OpenCV decodes\. Re-encode it: ffmpeg"):
        make_source("video", {"path": tmp_path / "a.mp4"}).open()


def test_wav__blocks_are_gapless_and_the_last_is_marked(tmp_path: Path) -> None:
    path = _write_wav(tmp_path / "a.wav", seconds=0.25)
    blocks: list[Audio] = []
    with make_source("wav", {"path": path, "pace": "fast"}) as source:
        while (block := source.read()) is not None:
            assert isinstance(block, Audio)
            blocks.append(block)
    assert [len(b.pcm) for b in blocks] == [1600, 1600, 800]
    assert [b.first_sample for b in blocks] == [0, 1600, 3200]
    assert [b.last for b in blocks] == [False, False, True]


def test_wav__loop__is_one_stream(tmp_path: Path) -> None:
    path = _write_wav(tmp_path / "a.wav", seconds=0.25)
    with make_source("wav", {"path": path, "pace": "fast", "loop": True}) as source:
        blocks = [source.read() for _ in range(5)]
    assert [(b.first_sample, b.last) for b in blocks if isinstance(b, Audio)] == [
        (0, False), (1600, False), (3200, False), (4000, False), (5600, False),
    ]  # fmt: skip


def test_wav__other_rate__is_resampled_and_said(tmp_path: Path) -> None:
    path = _write_wav(tmp_path / "a.wav", rate_hz=8000)
    with (
        pytest.warns(SourceWarning, match=r"a\.wav: resampled from 8000 Hz to 16000 Hz"),
        make_source("wav", {"path": path, "rate_hz": 16000.0, "pace": "fast"}) as source,
    ):
        block = source.read()
    assert isinstance(block, Audio)
    assert block.sample_rate_hz == 16000
    assert len(block.pcm) == 1600


def test_wav__real_time__takes_as_long_as_it_sounds(tmp_path: Path) -> None:
    path = _write_wav(tmp_path / "a.wav", seconds=0.3)
    start_s = time.monotonic()
    with make_source("wav", {"path": path}) as source:
        while source.read() is not None:
            pass
    assert time.monotonic() - start_s >= 0.19  # the first block starts the clock


def test_interrupt__wakes_a_waiting_read(tmp_path: Path) -> None:
    _write_pictures(tmp_path, ["1.png", "2.png"])
    source = make_source("images", {"path": tmp_path, "rate_hz": 0.001, "pace": "real-time"})
    with source:
        source.read()
        threading.Timer(0.05, source.interrupt).start()  # type: ignore[attr-defined]  # the optional part of a source
        assert source.read() is not None


def test_camera__missing_index__names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    (tmp_path / "video10").touch()
    (tmp_path / "video2").touch()
    assert [node.name for node in video_nodes(tmp_path)] == ["video0", "video2", "video10"]
    camera = Camera(V4l2Options(device=str(tmp_path / "video7")))
    with pytest.raises(
        SourceError, match=r"video7: no such camera\. There are: .*video0, .*video2, .*video10\. Set `device: "
    ):
        camera.open()


@pytest.mark.skipif(bool(video_nodes()), reason="needs a machine without cameras")
def test_camera__no_camera_at_all__says_what_to_do() -> None:
    with pytest.raises(SourceError, match=r"/dev/video3: no such camera, and there is no /dev/video\* at all\. Plug"):
        Camera(V4l2Options(device=3)).open()


def test_camera__no_capture_device__is_a_source_error(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    (tmp_path / "video0").touch()
    with pytest.raises(SourceError, match=r"video0: cannot be opened as a camera"):
        Camera(V4l2Options(device=str(tmp_path / "video0"))).open()


def test_camera__no_permission__names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "video0").touch(mode=0)
    if os.geteuid() == 0:  # root may open everything
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SourceError, match=r"permission denied\. Add the user to the group video: sudo usermod"):
        Camera(V4l2Options(device=str(tmp_path / "video0"))).open()


class _Unplugged:
    """A camera that delivers two frames and is pulled out: what OpenCV shows of it."""

    def __init__(self) -> None:
        self.left = 2
        self.released = False

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return (True, np.zeros((4, 4, 3), dtype=np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_camera__unplugged__is_a_source_error_that_says_so(tmp_path: Path) -> None:
    camera = Camera(V4l2Options(device=str(tmp_path / "video0")))
    device = _Unplugged()
    camera._capture = device
    assert camera.read().colour == "BGR"
    camera.read()
    with pytest.raises(SourceError, match=r"no frame within 2 s\. The node is gone: the camera was unplugged"):
        camera.read()
    camera.close()
    assert device.released


def test_microphone__no_portaudio__has_the_apt_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> Any:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr("importlib.import_module", no_library)
    with pytest.raises(MissingExtraError, match=r"needs the PortAudio library .*sudo apt-get install libportaudio2"):
        Microphone(MicrophoneOptions()).open()


def test_microphone__not_installed__has_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgesdk\[speech\]'"):
        Microphone(MicrophoneOptions()).open()


def test_microphone__blocks_and_gaps__are_counted() -> None:
    class Overflow:
        input_overflow = True

        def __bool__(self) -> bool:
            return True

    microphone = Microphone(MicrophoneOptions(block_s=0.1))
    microphone._stream = object()
    data = np.zeros((1600, 1), dtype=np.float32)
    microphone._on_block(data, 1600, None, None)
    microphone._on_block(data, 1600, None, Overflow())
    assert [microphone.read().first_sample for _ in range(2)] == [0, 3200]
    microphone._on_finished()
    with pytest.raises(SourceError, match=r"no sound within 2 s: unplugged"):
        microphone.read()


def test_fake__fails_and_comes_back() -> None:
    source = make_source("fake", {"samples": 4, "fails_at": (2,), "absent_opens": 2})
    source.open()
    seen = [source.read(), source.read()]
    with pytest.raises(SourceError, match="lost at sample 2"):
        source.read()
    source.close()
    for _ in range(2):
        with pytest.raises(SourceError, match="away"):
            source.open()
    source.open()
    while (sample := source.read()) is not None:
        seen.append(sample)
    assert [s.uri for s in seen if s] == ["fake:0", "fake:1", "fake:2", "fake:3"]
