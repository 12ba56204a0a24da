"""Colour profiles leave PNG files before OpenCV sees them; everything else stays."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import SourceFormatError
from edgesdk.sources.png import SIGNATURE, without_colour_profile
from edgesdk.sources.reading import read_picture


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


HEADER = _chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
PIXELS = _chunk(b"IDAT", zlib.compress(bytes([0, 10, 20])))
END = _chunk(b"IEND", b"")
# What skimage's page.png has: a profile whose rendering intent is byte-swapped.
PROFILE = _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(b"\0" * 128))
PLAIN = SIGNATURE + HEADER + PIXELS + END


@pytest.mark.parametrize("before", [b"", _chunk(b"pHYs", bytes(9)), _chunk(b"tEXt", b"Title\0iCCP")])
def test_profile__is_dropped_and_nothing_else(before: bytes) -> None:
    plain = SIGNATURE + HEADER + before + PIXELS + END
    assert without_colour_profile(SIGNATURE + HEADER + before + PROFILE + PIXELS + END) == plain
    assert without_colour_profile(plain) is plain


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff iCCP",
        SIGNATURE,
        SIGNATURE + HEADER,
        (SIGNATURE + HEADER + PROFILE)[:-5],
        SIGNATURE + HEADER + struct.pack(">I", 2**31) + PROFILE[4:],
        SIGNATURE + HEADER + PIXELS + PROFILE + END,
    ],
    ids=["empty", "jpeg", "signature", "header", "truncated", "absurd length", "behind the pixels"],
)
def test_profile__other_and_damaged_files_stay(content: bytes) -> None:
    assert without_colour_profile(content) is content


@given(st.binary(max_size=80))
def test_profile__any_bytes_end(tail: bytes) -> None:
    content = SIGNATURE + tail
    assert len(without_colour_profile(content)) <= len(content)


def test_picture__profile_with_a_fault_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    path = tmp_path / "scan.png"
    path.write_bytes(SIGNATURE + HEADER + PROFILE + PIXELS + END)
    assert read_picture(path).pixels.tolist() == [[10, 20]]
    assert capfd.readouterr().err == ""


def test_picture__broken_pixels_behind_a_profile_are_still_an_error(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    path = tmp_path / "scan.png"
    path.write_bytes(SIGNATURE + PROFILE + END)
    with pytest.raises(SourceFormatError, match=r"scan\.png: damaged, it begins like a picture.*Copy it again"):
        read_picture(path)


def test_picture__absurd_size_is_an_error_of_one_line(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    path = tmp_path / "scan.png"
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0))
    path.write_bytes(SIGNATURE + header + PIXELS + END)
    with pytest.raises(
        SourceFormatError, match=r"^.*scan\.png: the picture cannot be decoded \(.*\)\. Make it smaller.*$"
    ):
        read_picture(path)


@pytest.mark.zoo
def test_picture__profiles_change_no_pixel(zoo: Callable[[str], Path], capfd: pytest.CaptureFixture[str]) -> None:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    for name in ("page", "astronaut"):
        path = zoo(name)
        capfd.readouterr()
        pixels = read_picture(path).pixels
        assert capfd.readouterr().err == "", name
        np.testing.assert_array_equal(pixels, cv2.imread(str(path), cv2.IMREAD_ANYCOLOR), err_msg=name)
