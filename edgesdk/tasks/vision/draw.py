"""Drawing results into a copy of their picture, for `predict --annotate` and the preview."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TaskError
from edgesdk.extras import import_extra
from edgesdk.samples import Picture
from edgesdk.tasks.api import Result
from edgesdk.tasks.results import Classification, Detections, FaceKeypoints, Faces
from edgesdk.tasks.text_results import Text, TextLine, TextRegions

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
"""In the channel order of the pixels."""


def annotate(picture: Picture, result: Result) -> Picture:
    """Draw what was found.

    Args:
        picture: The picture that the result belongs to; it stays as it is.
        result: Boxes with labels, faces with keypoints, face meshes, quads with text, or a list of classes.

    Returns:
        A new picture of the same size and channel order; a grey one becomes RGB.

    Raises:
        TaskError: Results of this type have nothing to draw (raw, speech).
        MissingExtraError: OpenCV is not installed.
    """
    draw = _DRAWERS.get(type(result))
    if draw is None:
        drawn = ", ".join(sorted(type_.kind for type_ in _DRAWERS))
        raise TaskError(
            f"a result of kind {result.kind!r} has nothing to draw; these have: {drawn}. Print its to_json()."
        )
    grey = picture.colour == "GREY"
    pixels = np.repeat(picture.pixels[:, :, None], 3, axis=2) if grey else np.array(picture.pixels, order="C")
    draw(_Pen(pixels, blue_first=picture.colour == "BGR"), result)
    return Picture(pixels=pixels, colour="RGB" if grey else picture.colour, captured=picture.captured, uri=picture.uri)


class _Pen:
    """Lines and text in sizes that suit the picture."""

    def __init__(self, pixels: Pixels, *, blue_first: bool) -> None:
        self.cv2 = import_extra("cv2", extra="vision", purpose="drawing results")
        self.pixels = pixels
        self._blue_first = blue_first
        short_side = min(pixels.shape[:2])
        self.thickness = max(1, round(short_side / 250))
        self._font_scale = float(np.clip(short_side / 900, 0.35, 2.0))
        self._font_thickness = max(1, round(short_side / 700))

    def colour(self, index: int) -> Colour:
        """A colour of its own for each small number: steps of the golden angle around the colour circle."""
        rgb = colorsys.hsv_to_rgb((0.36 + index * 0.381966) % 1.0, 0.85, 0.95)
        red, green, blue = (round(channel * 255) for channel in rgb)
        return (blue, green, red) if self._blue_first else (red, green, blue)

    def box(self, xyxy: NDArray[Any], colour: Colour) -> None:
        left, top, right, bottom = np.rint(xyxy).astype(int).tolist()
        self.cv2.rectangle(self.pixels, (left, top), (right, bottom), colour, self.thickness, self.cv2.LINE_AA)

    def dots(self, points: NDArray[Any], colour: Colour, radius: int) -> None:
        for x, y in np.rint(points).astype(int).tolist():
            self.cv2.circle(self.pixels, (x, y), radius, colour, -1, self.cv2.LINE_AA)

    def polygon(self, points: NDArray[Any], colour: Colour) -> None:
        corners = np.rint(points).astype(np.int32).reshape(-1, 1, 2)
        self.cv2.polylines(self.pixels, [corners], True, colour, self.thickness, self.cv2.LINE_AA)

    def text(self, text: str, at: tuple[float, float], colour: Colour, *, below: bool = False) -> int:
        """Write a line on a filled ground; returns its height in pixels.

        ``at`` is its lower left corner (upper left if ``below``), moved so that the line lies in the picture. The font is
        ASCII: other characters appear as ``?``.
        """
        cv2, font = self.cv2, self.cv2.FONT_HERSHEY_SIMPLEX
        printable = text.encode("ascii", "replace").decode("ascii")
        (width, height), baseline = cv2.getTextSize(printable, font, self._font_scale, self._font_thickness)
        full = int(height + baseline + 2)
        x = int(np.clip(round(at[0]), 0, max(0, self.pixels.shape[1] - width)))
        y = round(at[1]) if below else round(at[1]) - full
        y = int(np.clip(y, 0, max(0, self.pixels.shape[0] - full)))
        cv2.rectangle(self.pixels, (x, y), (x + width, y + full), colour, -1)
        red, green, blue = colour[::-1] if self._blue_first else colour
        luma = (
            0.299 * red + 0.587 * green + 0.114 * blue
        )  # ITU-R BT.601: green looks brighter than it counts, blue darker
        ink = (0, 0, 0) if luma > 128 else (255, 255, 255)
        origin = (x, y + height + 1)
        cv2.putText(self.pixels, printable, origin, font, self._font_scale, ink, self._font_thickness, cv2.LINE_AA)
        return full


def _classification(pen: _Pen, result: Classification) -> None:
    y = 0
    for label, score in zip(result.labels, result.scores.tolist(), strict=True):
        y += pen.text(f"{label} {score:.2f}", (0, y), pen.colour(0), below=True)


def _detections(pen: _Pen, result: Detections) -> None:
    for xyxy, label, class_id, score in zip(
        result.xyxy, result.labels, result.class_ids.tolist(), result.scores.tolist(), strict=True
    ):
        pen.box(xyxy, pen.colour(class_id))
        pen.text(f"{label} {score:.2f}", (float(xyxy[0]), float(xyxy[1])), pen.colour(class_id))


def _faces(pen: _Pen, result: Faces) -> None:
    for xyxy, score, keypoints in zip(result.xyxy, result.scores.tolist(), result.keypoints, strict=True):
        pen.box(xyxy, pen.colour(0))
        pen.dots(keypoints, pen.colour(1), pen.thickness + 1)
        pen.text(f"face {score:.2f}", (float(xyxy[0]), float(xyxy[1])), pen.colour(0))


def _face_keypoints(pen: _Pen, result: FaceKeypoints) -> None:
    pen.dots(result.points, pen.colour(0), max(1, pen.thickness // 2))


def _text_regions(pen: _Pen, result: TextRegions) -> None:
    for quad in result.quads:
        pen.polygon(quad, pen.colour(0))


def _text_line(pen: _Pen, result: TextLine) -> None:
    pen.polygon(result.quad, pen.colour(0))
    pen.text(result.text, (float(result.quad[:, 0].min()), float(result.quad[:, 1].min())), pen.colour(0))


def _text(pen: _Pen, result: Text) -> None:
    for line in result.lines:
        _text_line(pen, line)


_DRAWERS: dict[type[Any], Callable[[_Pen, Any], None]] = {
    Classification: _classification,
    Detections: _detections,
    Faces: _faces,
    FaceKeypoints: _face_keypoints,
    TextRegions: _text_regions,
    TextLine: _text_line,
    Text: _text,
}
