"""Source `pan`: moves a window over still photographs, which makes video of real scenes without a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import SourceError
from edgesdk.extras import import_extra
from edgesdk.samples import Colour, Picture
from edgesdk.schema import Hertz
from edgesdk.sources.base import Pace, Pacer, SourceBase, check_above_zero
from edgesdk.sources.images import picture_files
from edgesdk.sources.reading import read_picture


class PanOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `pan`."""

    path: Path
    """A picture, a folder, or a glob, as for kind `images`."""
    size_wh: tuple[int, int] = (640, 480)
    """Size of the delivered frames in pixels."""
    frames: int = 30
    """Frames per photograph."""
    zoom: float = 0.7
    """Size of the window, 0..1, where 1 is the largest of this aspect ratio that fits into the photograph."""
    rate_hz: Hertz = msgspec.field(name="rate", default=15.0)
    """Frames per second of the video."""
    pace: Pace = "fast"
    loop: bool = False

    def __post_init__(self) -> None:
        if min(self.size_wh) < 1 or self.frames < 1 or not 0 < self.zoom <= 1:
            # msgspec and edgesdk.schema turn a ValueError of a constructor into one of their own, with its place.
            raise ValueError(
                f"size_wh {list(self.size_wh)}, frames {self.frames}, zoom {self.zoom}: expected sizes and frames of "
                "at least 1, and zoom above 0 and at most 1, for example zoom: 0.7"
            )
        check_above_zero(rate=self.rate_hz)


class Pan(SourceBase):
    """Delivers ``frames`` windows of each photograph, on a smooth and always equal path."""

    Options = PanOptions
    media = "picture"

    def __init__(self, options: PanOptions) -> None:
        super().__init__(options)
        self.options: PanOptions = options
        self._photos: list[Any] = []
        self._photo: Picture | None = None
        self._frame = 0
        self._pacer: Pacer | None = None

    @property
    def description(self) -> str:
        """Photographs, size and rate."""
        width, height = self.options.size_wh
        return f"window of {width}x{height} over {self.options.path} at {self.options.rate_hz:g} Hz"

    def open(self) -> None:
        """List the photographs."""
        self._photos = picture_files(self.options.path)
        self._frame = 0
        self._photo = None
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Picture | None:
        """The next frame, or None after the last.

        Raises:
            SourceFormatError: A file is no picture.
        """
        if self._pacer is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        index, step = divmod(self._frame, self.options.frames)
        if index >= len(self._photos) and not self.options.loop:
            return None
        if step == 0 or self._photo is None:
            self._photo = read_picture(self._photos[index % len(self._photos)])
        progress = step / max(1, self.options.frames - 1)
        pixels = window(self._photo.pixels, progress, self.options.size_wh, self.options.zoom)
        self._pacer.wait_until(self._frame / self.options.rate_hz)
        self._frame += 1
        colour: Colour = self._photo.colour
        return Picture(pixels=pixels, colour=colour, uri=f"{self._photo.uri}#frame={step}")

    def close(self) -> None:
        """Forget the photograph."""
        self._pacer = None
        self._photo = None


def window(pixels: NDArray[np.uint8], progress: float, size_wh: tuple[int, int], zoom: float) -> NDArray[np.uint8]:
    """Cut one window out of a photograph and scale it.

    Args:
        pixels: (H, W) or (H, W, 3).
        progress: 0..1 along the path: a Lissajous figure (1:2) that begins and ends at the middle of the left edge and
            touches all four edges, so that every region passes through the window.
        size_wh: Of the result.
        zoom: See :class:`PanOptions`.

    Returns:
        uint8 (height, width) or (height, width, 3).
    """
    cv2 = import_extra("cv2", extra="vision", purpose="source `pan`")
    height, width = pixels.shape[:2]
    out_w, out_h = size_wh
    # The largest window of the wanted aspect ratio that fits, times the zoom.
    scale = min(width / out_w, height / out_h) * zoom
    win_w, win_h = max(1, min(width, round(out_w * scale))), max(1, min(height, round(out_h * scale)))
    angle = 2 * np.pi * progress
    left = round((width - win_w) * (0.5 - 0.5 * np.cos(angle)))
    top = round((height - win_h) * (0.5 + 0.5 * np.sin(2 * angle)))
    cut = pixels[top : top + win_h, left : left + win_w]
    shrinking = out_w < win_w
    resized = cv2.resize(cut, (out_w, out_h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
