"""Source `v4l2`: a camera of Linux, by OpenCV's V4L2 reader."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edgesdk.errors import SourceError, SourceWarning
from edgesdk.extras import import_extra
from edgesdk.samples import Picture, Stamp
from edgesdk.schema import Hertz
from edgesdk.sources.base import SourceBase, check_above_zero

READ_TIMEOUT_S = 2
"""After this long without a frame the camera counts as lost (the contract's bound for read)."""


class V4l2Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of kind `v4l2`."""

    device: str | int = "/dev/video0"
    """Path (``/dev/video0``, or a stable name below ``/dev/v4l/by-id``) or index."""
    size_wh: tuple[int, int] | None = None
    """Wanted size in pixels; None is the camera's default. A camera that takes the nearest one is reported."""
    rate_hz: Hertz | None = msgspec.field(name="rate", default=None)
    """Wanted frames per second."""
    pixel_format: Literal["auto", "MJPG", "YUYV"] = "auto"
    """auto asks for MJPG where a size above 640x480 is wanted: uncompressed video exceeds USB 2 beyond it."""

    def __post_init__(self) -> None:
        check_above_zero(rate=self.rate_hz, size_wh=self.size_wh)


class Camera(SourceBase):
    """Delivers a camera's frames as BGR; always the newest, since the driver's queue is kept at one."""

    Options = V4l2Options
    live = True
    media = "picture"

    def __init__(self, options: V4l2Options) -> None:
        super().__init__(options)
        self.options: V4l2Options = options
        self._capture: Any = None
        self._first: Any = None
        self._found = ""

    @property
    def path(self) -> Path:
        """The device node."""
        device = self.options.device
        is_index = isinstance(device, int) or device.isdigit()
        return Path(f"/dev/video{device}") if is_index else Path(str(device))

    @property
    def description(self) -> str:
        """Device, and once open the size and rate that the camera really delivers."""
        return f"camera {self.path}{self._found}"

    def open(self) -> None:
        """Open the camera and take one frame, since a node that delivers nothing opens as well.

        Raises:
            SourceError: It does not exist, may not be opened, is busy, or delivers nothing.
        """
        if not self.path.exists():
            raise SourceError(_missing(self.path))
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise SourceError(
                f"{self.path}: permission denied. Add the user to the group video: sudo usermod -aG video $USER, "
                "then log in again."
            )
        # Read by OpenCV when it is loaded; its own default of 10 s would hold up the app's stop.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_TIMEOUT_S))
        cv2 = import_extra("cv2", extra="vision", purpose="source `v4l2`")
        self.close()
        # Resolved, since OpenCV takes only /dev/videoN and not the stable links below /dev/v4l.
        capture = cv2.VideoCapture(str(self.path.resolve()), cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self.path}: cannot be opened as a camera: another program holds it (fuser {self.path} names it), "
                f"or it is no capture device.{_others(self.path)}"
            )
        self._configure(cv2, capture)
        got, frame = capture.read()
        if not got:
            capture.release()
            raise SourceError(
                f"{self.path}: opened, but delivered no frame within {READ_TIMEOUT_S} s. Check the cable, or choose "
                f"another node: one camera often has several.{_others(self.path)}"
            )
        self._capture, self._first = capture, frame
        self._report(cv2, frame)

    def read(self) -> Picture:
        """The next frame.

        Raises:
            SourceError: The camera was unplugged or stopped delivering.
        """
        if self._capture is None:
            raise SourceError(f"{self.description} is not open. Call open() first.")
        if self._first is not None:
            got, frame, self._first = True, self._first, None
        else:
            got, frame = self._capture.read()
        if not got:
            gone = "" if self.path.exists() else f" The node is gone: the camera was unplugged.{_others(self.path)}"
            raise SourceError(f"{self.path}: no frame within {READ_TIMEOUT_S} s.{gone} Check cable and power.")
        return Picture(pixels=np.asarray(frame, dtype=np.uint8), colour="BGR", captured=Stamp.now(), uri=str(self.path))

    def close(self) -> None:
        """Release the camera."""
        self._first = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _configure(self, cv2: Any, capture: Any) -> None:
        wanted = self.options.pixel_format
        large = self.options.size_wh is not None and self.options.size_wh[0] * self.options.size_wh[1] > 640 * 480
        if wanted == "auto" and large:
            wanted = "MJPG"
        # The format comes first: V4L2 picks the size among those that the format offers.
        if wanted != "auto":
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted))
        if self.options.size_wh is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.options.size_wh[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.options.size_wh[1])
        if self.options.rate_hz is not None:
            capture.set(cv2.CAP_PROP_FPS, self.options.rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _report(self, cv2: Any, frame: Any) -> None:
        got_wh = (int(frame.shape[1]), int(frame.shape[0]))
        rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))
        self._found = f", {got_wh[0]}x{got_wh[1]} at {rate_hz:g} Hz"
        wanted_wh = self.options.size_wh
        if wanted_wh is not None and tuple(wanted_wh) != got_wh:
            warnings.warn(
                f"{self.path}: asked for {wanted_wh[0]}x{wanted_wh[1]}, the camera delivers {got_wh[0]}x{got_wh[1]}. "
                "v4l2-ctl --list-formats-ext shows what it can do.",
                SourceWarning,
                stacklevel=3,
            )
        if self.options.rate_hz is not None and rate_hz > 0 and abs(rate_hz - self.options.rate_hz) > 1:
            warnings.warn(
                f"{self.path}: asked for {self.options.rate_hz:g} Hz, the camera delivers {rate_hz:g} Hz at this size. "
                "v4l2-ctl --list-formats-ext shows what it can do.",
                SourceWarning,
                stacklevel=3,
            )


def video_nodes(folder: Path = Path("/dev")) -> list[Path]:
    """All /dev/videoN, by number."""
    nodes = (node for node in folder.glob("video*") if re.fullmatch(r"video\d+", node.name))
    return sorted(nodes, key=lambda node: int(node.name[5:]))


def _missing(path: Path) -> str:
    nodes = video_nodes(path.parent if path.parent.is_dir() else Path("/dev"))
    if nodes:
        names = ", ".join(map(str, nodes))
        return f"{path}: no such camera. There are: {names}. Set `device: {nodes[0]}`, or plug the camera in."
    return (
        f"{path}: no such camera, and there is no {path.parent}/video* at all. Plug a camera in; in a container pass "
        f"--device {path}. A Raspberry Pi camera module needs libcamera's V4L2 layer: start edgesdk by libcamerify."
    )


def _others(path: Path) -> str:
    others = [str(node) for node in video_nodes() if node != path]
    return f" Others here: {', '.join(others)}." if others else ""
