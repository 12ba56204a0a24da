"""Reading the RIFF/WAVE container: PCM of 8, 16, 24 and 32 bits and float of 32 bits.

The standard library's `wave` refuses WAVE_FORMAT_EXTENSIBLE before Python 3.12 and float always, and does not notice a
truncated file; recorders write all three.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import SourceFormatError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NAMES = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 85: "MP3"}
_OPEN_ENDED = {0, 0x7FFFFFFF, 0xFFFFFFFF}
"""Sizes that programs write which stream to a pipe and never come back to fill in the true one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """The samples of a wav file."""

    pcm: NDArray[np.float32]
    """(n, channels), -1..1."""
    sample_rate_hz: int
    bits: int
    """Of one sample in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    code: int
    channels: int
    sample_rate_hz: int
    bits: int


def parse_wave(content: bytes, *, name: str) -> Wave:
    """Decode the bytes of a wav file.

    Args:
        content: The whole file.
        name: For messages.

    Raises:
        SourceFormatError: No wav file, truncated, empty, or compressed; the text says which and what to do.

    Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), and Microsoft's WAVEFORMATEXTENSIBLE.
    """
    if not content:
        raise SourceFormatError(f"{name}: the file is empty. Record it again, or check the copy.")
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise SourceFormatError(
            f"{name}: no wav file (it starts with {content[:12]!r}, expected RIFF....WAVE). "
            "Convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
        )
    header: _Format | None = None
    position = 12
    while position + 8 <= len(content):
        chunk, size = content[position : position + 4], struct.unpack_from("<I", content, position + 4)[0]
        body = position + 8
        if chunk == b"fmt ":
            header = _parse_format(content[body : body + size], name)
        elif chunk == b"data":
            if header is None:
                raise SourceFormatError(f"{name}: the data come before the format chunk. Convert the file again.")
            return _decode(content, body, size, header, name)
        position = body + size + size % 2
    raise SourceFormatError(
        f"{name}: truncated, the file ends after {len(content)} bytes without audio data. Copy or record it again."
    )


def _parse_format(body: bytes, name: str) -> _Format:
    if len(body) < 16:
        raise SourceFormatError(
            f"{name}: truncated, the format chunk has {len(body)} bytes, expected 16 or more. Copy or record it again."
        )
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if code == _EXTENSIBLE and len(body) >= 26:
        code = struct.unpack_from("<H", body, 24)[0]  # the first two bytes of the sub-format's GUID
    if (code, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)}:
        kind = {_PCM: "PCM", _FLOAT: "float"}.get(code, _NAMES.get(code, f"format {code}"))
        raise SourceFormatError(
            f"{name}: {bits}-bit {kind}, expected PCM of 8, 16, 24 or 32 bits or float of 32 bits. "
            "Convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
        )
    if not channels or not rate:
        raise SourceFormatError(
            f"{name}: {channels} channels at {rate} Hz, expected at least one of each. Record it again."
        )
    return _Format(code=code, channels=channels, sample_rate_hz=rate, bits=bits)


def _decode(content: bytes, body: int, size: int, header: _Format, name: str) -> Wave:
    frame_bytes = header.channels * header.bits // 8
    there = len(content) - body
    if size not in _OPEN_ENDED and size > there:
        raise SourceFormatError(
            f"{name}: truncated, {there} of {size} bytes of audio are there "
            f"({there // frame_bytes / header.sample_rate_hz:.2f} of {size // frame_bytes / header.sample_rate_hz:.2f} s). "
            "Copy or record it again."
        )
    count = (there if size in _OPEN_ENDED else size) // frame_bytes
    if not count:
        raise SourceFormatError(f"{name}: no samples, the wav file holds a header only. Record it again.")
    raw = memoryview(content)[body : body + count * frame_bytes]
    return Wave(
        pcm=_to_float(raw, header).reshape(count, header.channels),
        sample_rate_hz=header.sample_rate_hz,
        bits=header.bits,
    )


def _to_float(raw: memoryview, header: _Format) -> NDArray[np.float32]:
    if header.code == _FLOAT:
        return np.frombuffer(raw, "<f4").astype(np.float32)
    if header.bits == 8:  # the one unsigned width
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if header.bits == 24:
        triples = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        widened = np.zeros((len(triples), 4), np.uint8)
        widened[:, 1:] = triples  # the low byte stays zero, so the sign is in place
        return widened.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    samples = np.frombuffer(raw, "<i2" if header.bits == 16 else "<i4")
    return samples.astype(np.float32) / np.float32(2 ** (header.bits - 1))
