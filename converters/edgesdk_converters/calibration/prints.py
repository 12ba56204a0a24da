"""What is remembered of every sample without keeping it: a hash, a fingerprint to find its like, and facts about its quality."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.samples import Picture

Array = NDArray[Any]
Vector = NDArray[np.float32]

BINS = 256
"""Numbers in a fingerprint: 16 x 16 pixels of a picture, 16 bands x 16 moments of a recording, means and single values of an array."""
_GRID = 16
_DETAIL_PIXELS = 512
"""Longest side at which blur is looked at: what a camera blurs by a pixel in 12 million, no model sees."""
_PATCH = 256
_PLAIN = 8.0
"""Standard deviation in grey levels of a patch without detail in either octave."""
_EMPTY = 0.024
"""Power of the finest octave over that of the next: 26 photographs and 60 crops of them have 0.028 and more, also as JPEG of quality 75; enlarged
twice, with linear or cubic interpolation, eight in ten have less."""
_HEARD = 1 << 20
"""Samples at the beginning of a recording that its fingerprint is of: a minute at 16 kHz."""
_FULL_SCALE = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """Quality of one picture file."""

    size_wh: tuple[int, int]
    """Pixels."""
    mean: float
    """Brightness, 0..255."""
    spread: float
    """Standard deviation of the brightness."""
    dark: float
    """Share of pixels at 0..2."""
    bright: float
    """Share of pixels at 253..255."""
    sharpness: float
    """Power of the finest detail over power of all contrast, 0..; small is blurred."""
    enlarged: bool
    """Half as many pixels in each direction would hold the same picture: resized, or slightly out of focus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """Quality of one recording."""

    seconds: float
    level_db: float
    """Root mean square over full scale."""
    clipped: float
    """Share of samples at full scale."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Print:
    """One sample."""

    content: str
    """sha256 over the model's inputs: equal for the same pixels in two formats."""
    vector: Vector | None
    """(256,) fingerprint; None where nearness means nothing (token ids)."""
    facts: PictureFacts | AudioFacts | None = None


class Hasher:
    """sha256 over the arrays of a sample."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, arrays: Iterable[Array]) -> None:
        """Count in ``arrays``; shapes and dtypes are the contract's and equal for all."""
        for array in arrays:
            self._hash.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()


def of_picture(picture: Picture) -> tuple[Vector, PictureFacts]:
    """Fingerprint and quality of a picture."""
    import cv2

    width, height = picture.size_wh
    full: Any = picture.pixels
    if picture.colour != "GREY":
        full = cv2.cvtColor(full, cv2.COLOR_BGR2GRAY if picture.colour == "BGR" else cv2.COLOR_RGB2GRAY)
    scale = _DETAIL_PIXELS / max(width, height)
    grey = full
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        grey = cv2.resize(full, size, interpolation=cv2.INTER_AREA)
    values = np.asarray(grey, np.float32)
    variance = float(values.var())
    detail = float(np.asarray(cv2.Laplacian(values, cv2.CV_32F)).var()) / 20 if min(values.shape) > 2 else 0.0
    facts = PictureFacts(
        size_wh=(width, height),
        mean=float(values.mean()),
        spread=variance**0.5,
        dark=float((values <= 2).mean()),
        bright=float((values >= 253).mean()),
        sharpness=detail / variance if variance > 0 else 0.0,
        enlarged=_enlarged(full),
    )
    return np.asarray(cv2.resize(values, (_GRID, _GRID), interpolation=cv2.INTER_AREA), np.float32).reshape(-1), facts


def _enlarged(grey: Array) -> bool:
    """Whether the finest octave is empty beside the next one, as after resizing to twice the size or more."""
    # The middle of a large picture tells as much as all of it.
    height, width = grey.shape
    top, left = max(0, (height - _PATCH) // 2), max(0, (width - _PATCH) // 2)
    part = np.asarray(grey[top : top + _PATCH, left : left + _PATCH], np.float32)
    if min(part.shape) < _GRID or part.std() < _PLAIN:
        return False
    window = np.outer(np.hanning(part.shape[0]), np.hanning(part.shape[1]))
    power = np.abs(np.fft.rfft2((part - part.mean()) * window)) ** 2
    rows, columns = np.abs(np.fft.fftfreq(part.shape[0]))[:, None], np.fft.rfftfreq(part.shape[1])[None]
    frequency = np.maximum(rows, columns)
    fine, coarse = power[frequency > 0.27], power[(frequency > 0.15) & (frequency <= 0.22)]
    return bool(fine.mean() < _EMPTY * coarse.mean())


class Ear:
    """Fingerprint (log power in 16 bands at 16 moments) and quality of a recording that comes in blocks."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate = sample_rate_hz
        self._heard: list[Array] = []
        self._kept = self._count = self._full = 0
        self._power = 0.0

    def add(self, pcm: NDArray[np.float32]) -> None:
        """Hear the next block, (n,) -1..1."""
        self._count += pcm.size
        self._full += int((np.abs(pcm) >= _FULL_SCALE).sum())
        self._power += float(np.sum(pcm.astype(np.float64) ** 2))
        if self._kept < _HEARD:
            self._heard.append(pcm[: _HEARD - self._kept].copy())
            self._kept += self._heard[-1].size

    def result(self) -> tuple[Vector, AudioFacts]:
        """Of all blocks; the fingerprint is that of the beginning."""
        count = max(1, self._count)
        facts = AudioFacts(
            seconds=self._count / self._rate,
            level_db=10 * float(np.log10(self._power / count + 1e-12)),
            clipped=self._full / count,
        )
        grid = np.zeros((_GRID, _GRID), np.float32)
        for index, part in enumerate(np.array_split(np.concatenate(self._heard or [np.zeros(0)]), _GRID)):
            if part.size >= 2 * _GRID:
                spectrum = np.abs(np.fft.rfft(part)) ** 2 / part.size
                edges = np.unique(np.geomspace(1, spectrum.size - 1, _GRID + 1).astype(int))
                bands = np.add.reduceat(spectrum, edges[:-1])
                grid[index, : bands.size] = np.log10(bands + 1e-9)
        return grid.reshape(-1), facts


def of_arrays(arrays: Sequence[Array]) -> Vector | None:
    """Fingerprint of the largest floating-point array: its values, or 128 means of stretches of them and the first value of each."""
    floats = [array for array in arrays if array.dtype.kind == "f" and array.size > 1]
    if not floats:
        return None
    flat = max(floats, key=lambda array: array.size).reshape(-1).astype(np.float32)
    vector = np.zeros(BINS, np.float32)
    if flat.size <= BINS:
        vector[: flat.size] = flat
        return vector
    # Means alone would make all noise equal, single values alone any small change a difference.
    half = BINS // 2
    edges = np.linspace(0, flat.size, half, endpoint=False).astype(int)
    vector[:half] = np.add.reduceat(flat, edges) / np.diff(np.append(edges, flat.size))
    vector[half:] = flat[edges]
    return vector
