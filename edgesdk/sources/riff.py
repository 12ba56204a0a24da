"""Reading the RIFF/WAVE container: PCM of 8, 16, 24 and 32 bits and float of 32 bits.

The standard library's `wave` refuses WAVE_FORMAT_EXTENSIBLE before Python 3.12 and float always, and does not notice a
truncated file; recorders write all three.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import SourceFormatError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_NAMES = {2: "ADPCM", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 85: "MP3"}
_FORMAT_BYTES = 64
"""Of a format chunk, the largest of which has 40."""
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
class WaveHeader:
    """What a wav file holds, and where."""

    code: int
    """1 is PCM, 3 is float."""
    channels: int
    sample_rate_hz: int
    bits: int
    """Of one sample."""
    start: int = 0
    """Byte of the file at which the samples begin."""
    count: int = 0
    """Samples per channel."""

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8


def parse_wave(content: bytes, *, name: str) -> Wave:
    """Decode the bytes of a wav file.

    Args:
        content: The whole file.
        name: For messages.

    Raises:
        SourceFormatError: No wav file, truncated, empty, or compressed; the text says which and what to do.

    Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), and Microsoft's WAVEFORMATEXTENSIBLE.
    """
    header = scan_wave(io.BytesIO(content), len(content), name=name)
    raw = memoryview(content)[header.start : header.start + header.count * header.frame_bytes]
    return Wave(pcm=decode(raw, header), sample_rate_hz=header.sample_rate_hz, bits=header.bits)


def scan_wave(stream: BinaryIO, size: int, *, name: str) -> WaveHeader:
    """Find the samples of a wav file without reading them.

    Args:
        stream: The file, which can seek.
        size: Bytes in it.
        name: For messages.

    Raises:
        SourceFormatError: As :func:`parse_wave`.
    """
    if not size:
        raise SourceFormatError(f"{name}: the file is empty. Record it again, or check the copy.")
    begin = stream.read(12)
    if len(begin) < 12 or begin[:4] != b"RIFF" or begin[8:12] != b"WAVE":
        raise SourceFormatError(
            f"{name}: no wav file (it starts with {begin!r}, expected RIFF....WAVE). "
            "Convert it: ffmpeg -i INPUT -c:a pcm_s16le OUTPUT.wav"
        )
    header: WaveHeader | None = None
    position = 12
    while position + 8 <= size:
        stream.seek(position)
        chunk, length = struct.unpack("<4sI", stream.read(8))
        body = position + 8
        if chunk == b"fmt ":
            header = _parse_format(stream.read(min(length, _FORMAT_BYTES)), name)
        elif chunk == b"data":
            if header is None:
                raise SourceFormatError(f"{name}: the data come before the format chunk. Convert the file again.")
            count = _count(size - body, length, header, name)
            return replace(header, start=body, count=count)
        position = body + length + length % 2
    raise SourceFormatError(
        f"{name}: truncated, the file ends after {size} bytes without audio data. Copy or record it again."
    )


def _parse_format(body: bytes, name: str) -> WaveHeader:
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
    return WaveHeader(code=code, channels=channels, sample_rate_hz=rate, bits=bits)


def _count(there: int, length: int, header: WaveHeader, name: str) -> int:
    frame_bytes = header.frame_bytes
    if length not in _OPEN_ENDED and length > there:
        raise SourceFormatError(
            f"{name}: truncated, {there} of {length} bytes of audio are there "
            f"({there // frame_bytes / header.sample_rate_hz:.2f} of {length // frame_bytes / header.sample_rate_hz:.2f} s). "
            "Copy or record it again."
        )
    count = (there if length in _OPEN_ENDED else length) // frame_bytes
    if not count:
        raise SourceFormatError(f"{name}: no samples, the wav file holds a header only. Record it again.")
    return count


def decode(raw: bytes | memoryview, header: WaveHeader) -> NDArray[np.float32]:
    """Samples as they lie in the file -> (n, channels), -1..1; ``raw`` holds whole frames."""
    return _to_float(raw, header).reshape(-1, header.channels)


def _to_float(raw: bytes | memoryview, header: WaveHeader) -> NDArray[np.float32]:
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
