"""Picture and wav files into samples, the same on the board (sources, predict) and for the converters (calibration)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import SourceError, SourceFormatError, SourceWarning
from edgesdk.extras import import_extra
from edgesdk.samples import Audio, Picture
from edgesdk.sources.png import SIGNATURE, without_colour_profile
from edgesdk.sources.resample import resample, resample_blocks
from edgesdk.sources.riff import decode, parse_wave, scan_wave

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Lower-case endings of the picture files that OpenCV reads."""


def read_picture(path: str | Path) -> Picture:
    """Read a picture file: JPEG, PNG, BMP, WebP, TIFF, PNM.

    Grey files give GREY (H, W), all others BGR (H, W, 3). The camera's orientation (EXIF) is applied, colour profiles are not. 16 bits become 8 and
    transparency is dropped, both with a `SourceWarning`.

    Raises:
        SourceError: The file is not there or not readable.
        SourceFormatError: It is empty, truncated, or no picture that OpenCV reads.
        MissingExtraError: OpenCV is not installed.
    """
    path = Path(path)
    content = _read(path)
    if not content:
        raise SourceFormatError(f"{path}: the file is empty. Copy the picture again, or take it out of the folder.")
    if _ends_early(content):
        raise SourceFormatError(
            f"{path}: truncated, the picture's end is missing after {len(content)} bytes. "
            "Copy the picture again, or take it out of the folder."
        )
    cv2 = import_extra("cv2", extra="vision", purpose="reading pictures")
    encoded = np.frombuffer(without_colour_profile(content), np.uint8)
    transparent = content.startswith(SIGNATURE) and content[25:26] in {b"\x04", b"\x06"}
    flags = cv2.IMREAD_UNCHANGED if transparent else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(encoded, flags)
    except cv2.error as error:
        reason = " ".join(str(error).split())  # OpenCV's texts end with a line feed
        raise SourceFormatError(
            f"{path}: the picture cannot be decoded ({reason}). Make it smaller, or convert it to JPEG or PNG."
        ) from error
    if pixels is None and content.startswith((SIGNATURE, b"\xff\xd8\xff")):
        raise SourceFormatError(
            f"{path}: damaged, it begins like a picture but cannot be decoded. Copy it again, or take it out of the folder."
        )
    if pixels is None:
        raise SourceFormatError(
            f"{path}: no picture that OpenCV reads (it starts with {content[:8]!r}). Convert it to JPEG or PNG."
        )
    return _as_picture(pixels, path)


def _as_picture(pixels: NDArray[Any], path: Path) -> Picture:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1.0
        if np.any(pixels[..., 3] != opaque):
            warnings.warn(f"{path}: its transparency was dropped.", SourceWarning, stacklevel=3)
        pixels = np.ascontiguousarray(pixels[..., :3])
    if pixels.dtype == np.uint16:
        warnings.warn(f"{path}: 16 bits per channel were reduced to 8.", SourceWarning, stacklevel=3)
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3}:
        raise SourceFormatError(
            f"{path}: pixels are {pixels.dtype} {pixels.shape}, expected 8 or 16 bits with one, three or four channels. "
            "Convert the picture to PNG."
        )
    return Picture(pixels=pixels, colour="GREY" if pixels.ndim == 2 else "BGR", uri=str(path))


def _ends_early(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV fills the missing part with grey and says nothing.

    In a JPEG's compressed data 0xFF is never followed by 0xDA or 0xD9, so the last of each is a true marker.
    """
    if content[:3] == b"\xff\xd8\xff":
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda") or b"\xff\xda" not in content
    if content.startswith(SIGNATURE):
        return b"IEND" not in content
    return False


def read_wav(path: str | Path, *, sample_rate_hz: int | None = None) -> Audio:
    """Read a whole wav file: PCM of 8, 16, 24 or 32 bits, or float of 32 bits.

    Args:
        path: The file.
        sample_rate_hz: Resample to this rate; None keeps the file's.

    Returns:
        Mono PCM, ``last`` set. Several channels are averaged, another rate is resampled and 8 bits are widened, with a
        `SourceWarning` that says so; the other widths lose and miss nothing.

    Raises:
        SourceError: The file is not there or not readable.
        SourceFormatError: It is no wav file, empty, truncated or compressed.
    """
    path = Path(path)
    wave = parse_wave(_read(path), name=str(path))
    rate = sample_rate_hz or wave.sample_rate_hz
    _warn_of_changes(path, wave.bits, wave.pcm.shape[1], wave.sample_rate_hz, rate)
    pcm = resample(_mixed_down(wave.pcm), wave.sample_rate_hz, rate)
    return Audio(pcm=pcm, sample_rate_hz=rate, last=True, uri=str(path))


def stream_wav(path: str | Path, *, sample_rate_hz: int | None = None, block_samples: int = 1 << 18) -> Iterator[Audio]:
    """What :func:`read_wav` reads, block by block: a recording of a day takes no more memory than one of a minute.

    Args:
        path: The file.
        sample_rate_hz: As there.
        block_samples: Samples of the file that are read at once; of what is yielded, about as many.

    Returns:
        Blocks that follow each other (``first_sample``), the last one with ``last`` set. The header has been looked at, and warnings
        have been given, before the first is asked for.

    Raises:
        SourceError: As :func:`read_wav`; while iterating, when the file changes meanwhile.
        SourceFormatError: As :func:`read_wav`.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = scan_wave(stream, path.stat().st_size, name=str(path))
    rate = sample_rate_hz or header.sample_rate_hz
    _warn_of_changes(path, header.bits, header.channels, header.sample_rate_hz, rate)

    def blocks() -> Iterator[NDArray[np.float32]]:
        with _opened(path) as stream:
            stream.seek(header.start)
            for first in range(0, header.count, block_samples):
                size = min(block_samples, header.count - first) * header.frame_bytes
                raw = stream.read(size)
                if len(raw) < size:
                    raise SourceError(f"{path}: became shorter while it was read. Leave it alone until the end.")
                yield _mixed_down(decode(raw, header))

    def audio() -> Iterator[Audio]:
        first = 0
        waiting: NDArray[np.float32] | None = None
        for pcm in resample_blocks(blocks(), header.sample_rate_hz, rate):
            if waiting is not None:
                yield Audio(pcm=waiting, sample_rate_hz=rate, first_sample=first, uri=str(path))
                first += waiting.size
            waiting = pcm
        if waiting is not None:
            yield Audio(pcm=waiting, sample_rate_hz=rate, first_sample=first, last=True, uri=str(path))

    return audio()


def _mixed_down(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(pcm.mean(axis=1, dtype=np.float32) if pcm.shape[1] > 1 else pcm[:, 0])


def _warn_of_changes(path: Path, bits: int, channels: int, from_hz: int, to_hz: int) -> None:
    if bits < 16:
        warnings.warn(
            f"{path}: {bits} bits per sample were widened to float32; their noise stays. Record with 16 bits.",
            SourceWarning,
            stacklevel=3,
        )
    if channels > 1:
        warnings.warn(f"{path}: {channels} channels were averaged into one.", SourceWarning, stacklevel=3)
    if to_hz != from_hz:
        warnings.warn(f"{path}: resampled from {from_hz} Hz to {to_hz} Hz.", SourceWarning, stacklevel=3)


def _read(path: Path) -> bytes:
    with _opened(path) as stream:
        return stream.read()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file. Check the path (relative paths start at {Path.cwd()}).") from error
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Check what it is and its permissions.") from error
