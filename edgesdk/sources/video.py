"""Source `video`: a video file, decoded by OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgesdk.errors import SourceError, SourceFormatError
from edgesdk.extras import import_extra
from edgesdk.samples import Picture
from edgesdk.schema import Hertz
from edgesdk.sources.base import Pace, Pacer, SourceBase, check_above_zero

FALLBACK_RATE_HZ = 25.0
"""For files that name no frame rate."""


class VideoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `video`."""

    path: Path
    rate_hz: Hertz | None = msgspec.field(name="rate", default=None)
    """Frames per second to play it at; None is the file's own rate. Every frame is delivered at any rate."""
    pace: Pace = "real-time"
    loop: bool = False

    def __post_init__(self) -> None:
        check_above_zero(rate=self.rate_hz)


class VideoFile(SourceBase):
    """Delivers every frame of a video file, as BGR."""

    Options = VideoOptions
    media = "picture"

    def __init__(self, options: VideoOptions) -> None:
        super().__init__(options)
        self.options: VideoOptions = options
        self._capture: Any = None
        self._frame = 0
        self._rate_hz = 0.0
        self._size_wh = (0, 0)
        self._pacer = Pacer(options.pace, self._interrupted)

    @property
    def description(self) -> str:
        """File, and once open its size and rate."""
        if not self._rate_hz:
            return f"video {self.options.path}"
        return f"video {self.options.path}, {self._size_wh[0]}x{self._size_wh[1]} at {self._rate_hz:g} Hz"

    def open(self) -> None:
        """Open the file.

        Raises:
            SourceError: It does not exist.
            SourceFormatError: OpenCV cannot decode it.
        """
        cv2 = import_extra("cv2", extra="vision", purpose="source `video`")
        path = self.options.path.expanduser()
        if not path.is_file():
            raise SourceError(
                f"{path}: no such video file. Check `path:`; in app.yaml it is relative to the app.yaml's folder."
            )
        self.close()
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._size_wh = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if not capture.isOpened() or not all(self._size_wh):
            capture.release()
            raise SourceFormatError(
                f"{path}: not a video that OpenCV decodes. Re-encode it: ffmpeg -i {path.name} -c:v libx264 out.mp4"
            )
        # Broken headers name 90000 Hz, the clock of the transport stream.
        own_hz = float(capture.get(cv2.CAP_PROP_FPS))
        self._rate_hz = self.options.rate_hz or (own_hz if 0 < own_hz <= 1000 else FALLBACK_RATE_HZ)
        self._capture = capture
        self._frame = 0
        self._pacer = Pacer(self.options.pace, self._interrupted)

    def read(self) -> Picture | None:
        """The next frame, or None after the last.

        Raises:
            SourceFormatError: Not one frame could be decoded.
        """
        if self._capture is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        got, pixels = self._capture.read()
        if not got and self._frame == 0:
            raise SourceFormatError(f"{self.options.path}: its first frame cannot be decoded. Re-encode the file.")
        if not got and self.options.loop:
            frame, pacer = self._frame, self._pacer
            self.open()
            self._frame, self._pacer = frame, pacer
            got, pixels = self._capture.read()
        if not got:
            return None
        self._pacer.wait_until(self._frame / self._rate_hz)
        self._frame += 1
        return Picture(pixels=np.asarray(pixels, dtype=np.uint8), colour="BGR", uri=str(self.options.path))

    def close(self) -> None:
        """Release the decoder."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
