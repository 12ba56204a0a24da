from __future__ import annotations

import struct
import warnings
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.errors import SourceError, SourceFormatError, SourceWarning
from edgesdk.sources.reading import read_picture, read_wav, stream_wav
from edgesdk.sources.riff import parse_wave

cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")

GREY = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
COLOUR = np.stack([GREY % 256, np.full_like(GREY, 90), np.full_like(GREY, 20)], axis=2).astype(np.uint8)
TONE = np.sin(np.arange(1600) * 0.1)


def _encoded(suffix: str, pixels: NDArray[Any]) -> bytes:
    done, content = cv2.imencode(suffix, pixels)
    assert done
    encoded: bytes = content.tobytes()
    return encoded


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".jpg"])
def test_picture__colour_files_are_bgr(suffix: str, tmp_path: Path) -> None:
    path = _file(tmp_path, f"picture{suffix}", _encoded(suffix, COLOUR))
    picture = read_picture(path)
    assert (picture.colour, picture.size_wh, picture.uri) == ("BGR", (64, 48), str(path))
    assert picture.pixels[:, :, 1].mean() == pytest.approx(90, abs=2)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".jpg"])
def test_picture__grey_files_are_grey(suffix: str, tmp_path: Path) -> None:
    picture = read_picture(_file(tmp_path, f"p{suffix}", _encoded(suffix, COLOUR[:, :, 0])))
    assert (picture.colour, picture.pixels.shape) == ("GREY", (48, 64))


def test_picture__16_bits_become_8_and_say_so(tmp_path: Path) -> None:
    path = _file(tmp_path, "deep.png", _encoded(".png", GREY * 20))
    with pytest.warns(SourceWarning, match=r"deep\.png: 16 bits per channel were reduced to 8"):
        picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, (GREY * 20 >> 8).astype(np.uint8))


def test_picture__transparency_is_dropped_and_says_so(tmp_path: Path) -> None:
    opaque = np.dstack([COLOUR, np.full_like(COLOUR[:, :, 0], 255)])
    np.testing.assert_array_equal(read_picture(_file(tmp_path, "o.png", _encoded(".png", opaque))).pixels, COLOUR)
    opaque[0, 0, 3] = 0
    with pytest.warns(SourceWarning, match="transparency was dropped"):
        picture = read_picture(_file(tmp_path, "t.png", _encoded(".png", opaque)))
    np.testing.assert_array_equal(picture.pixels, COLOUR)


def test_picture__the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was turned, what is stored as the left edge is the top."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0" + b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    content = _encoded(".jpg", COLOUR)
    turned = content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    assert read_picture(_file(tmp_path, "turned.jpg", turned)).size_wh == (48, 64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jpg", b"", r"empty\.jpg: the file is empty\. Copy the picture again"),
        (
            "half.jpg",
            _encoded(".jpg", COLOUR)[:400],
            r"half\.jpg: truncated, the picture's end is missing.*take it out",
        ),
        ("most.jpg", _encoded(".jpg", COLOUR)[:-2], "truncated"),
        ("half.png", _encoded(".png", COLOUR)[:200], "truncated"),
        (
            "text.jpg",
            b"this is no picture at all",
            r"no picture that OpenCV reads \(it starts with b'this is '\)\. Convert",
        ),
    ],
)
def test_picture__unusable_files_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match=message):
        read_picture(_file(tmp_path, name, content))


def test_picture__missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.jpg: no such file\. Check the path"):
        read_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(SourceError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.zoo
def test_picture__a_photograph(zoo: Callable[[str], Path]) -> None:
    picture = read_picture(zoo("astronaut"))
    assert (picture.size_wh, picture.colour) == ((512, 512), "BGR")
    suit = picture.pixels[450, 200]
    assert suit[2] > suit[0], "the suit is orange, so red is last"


# -- sound ---------------------------------------------------------------------------------------------------------


def _wav(path: Path, samples: NDArray[Any], *, width: int, channels: int = 1, rate: int = 16000) -> Path:
    """Written by the standard library, so that ours is not tested against itself."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        if width == 1:
            content = np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
        elif width == 3:
            whole = np.rint(samples * (2**23 - 1)).astype("<i4")
            content = whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        else:
            content = np.rint(samples * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes()
        file.writeframes(content)
    return path


@pytest.mark.parametrize(("width", "tolerance"), [(2, 1e-4), (3, 1e-6), (4, 1e-6)])
def test_wav__every_width(width: int, tolerance: float, tmp_path: Path) -> None:
    audio = read_wav(_wav(tmp_path / "a.wav", TONE, width=width))
    assert (audio.sample_rate_hz, str(audio.pcm.dtype), audio.last) == (16000, "float32", True)
    np.testing.assert_allclose(audio.pcm, TONE, atol=tolerance)


def test_wav__8_bits_are_widened_and_it_says_so(tmp_path: Path) -> None:
    with pytest.warns(SourceWarning, match=r"a\.wav: 8 bits per sample were widened .* Record with 16 bits"):
        audio = read_wav(_wav(tmp_path / "a.wav", TONE, width=1))
    np.testing.assert_allclose(audio.pcm, TONE, atol=0.013)


def test_wav__extremes_stay_within_one(tmp_path: Path) -> None:
    path = _wav(tmp_path / "a.wav", np.array([-1.0, 1.0]), width=2)
    content = path.read_bytes()[:-4] + struct.pack("<hh", -32768, 32767)
    pcm = read_wav(_file(tmp_path, "b.wav", content)).pcm
    np.testing.assert_array_equal(pcm, np.array([-1.0, 32767 / 32768], np.float32))


def test_wav__channels_are_averaged_and_it_says_so(tmp_path: Path) -> None:
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1).ravel()
    with pytest.warns(SourceWarning, match=r"a\.wav: 2 channels were averaged into one"):
        audio = read_wav(_wav(tmp_path / "a.wav", stereo, width=2, channels=2))
    np.testing.assert_allclose(audio.pcm, TONE / 2, atol=1e-4)


def test_wav__another_rate_is_resampled_and_it_says_so(tmp_path: Path) -> None:
    slow = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100) * 0.5
    path = _wav(tmp_path / "a.wav", slow, width=2, rate=44100)
    with pytest.warns(SourceWarning, match=r"a\.wav: resampled from 44100 Hz to 16000 Hz"):
        audio = read_wav(path, sample_rate_hz=16000)
    assert (audio.sample_rate_hz, len(audio.pcm)) == (16000, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 0.5
    np.testing.assert_allclose(audio.pcm[200:-200], expected[200:-200], atol=1e-3)


@pytest.mark.parametrize(("rate", "channels", "width"), [(16000, 1, 2), (44100, 2, 2), (8000, 1, 1), (48000, 1, 4)])
@pytest.mark.filterwarnings("ignore::edgesdk.errors.SourceWarning")
def test_stream_wav__blocks_are_the_whole_in_order(tmp_path: Path, rate: int, channels: int, width: int) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 5003 * channels)
    path = _wav(tmp_path / "a.wav", noise, width=width, rate=rate, channels=channels)
    whole = read_wav(path, sample_rate_hz=16000)
    blocks = list(stream_wav(path, sample_rate_hz=16000, block_samples=1000))
    assert len(blocks) > 1
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    starts = np.cumsum([0, *(block.pcm.size for block in blocks)])
    assert [block.first_sample for block in blocks] == starts[:-1].tolist()
    np.testing.assert_allclose(np.concatenate([block.pcm for block in blocks]), whole.pcm, atol=1e-6)


def test_stream_wav__says_at_once_what_read_wav_says(tmp_path: Path) -> None:
    slow = _wav(tmp_path / "a.wav", TONE, width=2, rate=8000)
    with pytest.warns(SourceWarning, match=r"a\.wav: resampled from 8000 Hz to 16000 Hz"):
        stream_wav(slow, sample_rate_hz=16000)
    with pytest.raises(SourceError, match=r"b\.wav: no such file\. Check the path"):
        stream_wav(tmp_path / "b.wav")
    with pytest.raises(SourceFormatError, match=r"c\.wav: truncated, 6 of 8 bytes of audio are there"):
        stream_wav(_file(tmp_path, "c.wav", _riff(PCM16, _chunk(b"data", SAMPLES))[:-2]))


def test_stream_wav__file_that_shrinks_meanwhile(tmp_path: Path) -> None:
    path = _wav(tmp_path / "a.wav", np.zeros(4000), width=2)
    blocks = stream_wav(path, block_samples=1000)
    with path.open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(SourceError, match=r"a\.wav: became shorter while it was read\. Leave it alone until the end"):
        list(blocks)


def test_wav__the_right_rate_is_silent(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_wav(_wav(tmp_path / "a.wav", TONE, width=2), sample_rate_hz=16000)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _format(code: int, bits: int, channels: int = 1, rate: int = 8000) -> bytes:
    size = channels * bits // 8
    return struct.pack("<HHIIHH", code, channels, rate, rate * size, size, bits)


def _riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


PCM16 = _chunk(b"fmt ", _format(1, 16))
SAMPLES = struct.pack("<4h", 0, 16384, -16384, 0)


def test_wav__extensible_float_and_foreign_chunks(tmp_path: Path) -> None:
    extensible = _format(0xFFFE, 16) + struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)
    listed = _chunk(b"LIST", b"INFOodd")
    path = _file(
        tmp_path, "e.wav", _riff(listed, _chunk(b"fmt ", extensible), listed, _chunk(b"data", SAMPLES), listed)
    )
    np.testing.assert_allclose(read_wav(path).pcm, [0, 0.5, -0.5, 0])
    floats = np.array([0.25, -0.75], "<f4").tobytes()
    path = _file(tmp_path, "f.wav", _riff(_chunk(b"fmt ", _format(3, 32)), _chunk(b"data", floats)))
    np.testing.assert_allclose(read_wav(path).pcm, [0.25, -0.75])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_wav__streamed_file_without_a_size(size: int, tmp_path: Path) -> None:
    content = _riff(PCM16, b"data" + struct.pack("<I", size) + SAMPLES)
    assert len(read_wav(_file(tmp_path, "s.wav", content)).pcm) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.wav: the file is empty\. Record it again"),
        (b"ID3\x03 an mp3 file, renamed", r"no wav file \(it starts with .*ffmpeg -i INPUT -c:a pcm_s16le"),
        (_riff(PCM16), "truncated, the file ends after 36 bytes without audio data"),
        (_riff(PCM16, _chunk(b"data", SAMPLES))[:-2], r"truncated, 6 of 8 bytes of audio are there.*Copy or record"),
        (_riff(PCM16, _chunk(b"data", b"")), "no samples, the wav file holds a header only"),
        (_riff(_chunk(b"fmt ", _format(1, 16)[:10])), "the format chunk has 10 bytes, expected 16"),
        (_riff(_chunk(b"data", SAMPLES)), "the data come before the format chunk"),
        (_riff(_chunk(b"fmt ", _format(6, 8)), _chunk(b"data", SAMPLES)), "8-bit A-law, expected PCM.*ffmpeg"),
        (
            _riff(_chunk(b"fmt ", _format(1, 12)), _chunk(b"data", SAMPLES)),
            "12-bit PCM, expected PCM of 8, 16, 24 or 32",
        ),
        (_riff(_chunk(b"fmt ", _format(1, 16, rate=0)), _chunk(b"data", SAMPLES)), "1 channels at 0 Hz"),
    ],
    ids=["empty", "mp3", "no data", "cut", "header", "short format", "order", "A-law", "12 bits", "rate"],
)
def test_wav__unusable_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match=message):
        read_wav(_file(tmp_path, "x.wav", content))


def test_wav__missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_wav(tmp_path / "nowhere.wav")


VALID = _riff(PCM16, _chunk(b"data", SAMPLES))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(VALID)))
def test_wav__damaged_bytes_give_samples_or_a_format_error(changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(VALID)
    for place, value in changes:
        content[place] = value
    try:
        wave_ = parse_wave(bytes(content[:length]), name="x")
    except SourceFormatError:
        return
    assert wave_.pcm.ndim == 2
    assert wave_.sample_rate_hz > 0
