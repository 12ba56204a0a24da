"""Where a picture lies on a model's canvas, and the way back from model coordinates to picture pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Fit = Literal["letterbox", "stretch", "centre-crop", "pad-right"]
Region = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``model = picture * scale + offset``, for x and y each; both count from the canvas' or picture's upper left corner.

    The scale is that of the whole-pixel region which was really resized, so the way there and back is exact.
    """

    source: Region
    """The part of the picture that was taken, picture pixels."""
    target: Region
    """Where it lies on the canvas, model pixels."""
    picture_size_wh: tuple[int, int]
    """Of the whole picture, pixels."""
    model_size_wh: tuple[int, int]
    """Of the canvas, pixels."""

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Model pixels per picture pixel."""
        left, top, right, bottom = self.source
        return (self.target[2] - self.target[0]) / (right - left), (self.target[3] - self.target[1]) / (bottom - top)

    @property
    def offset_xy(self) -> tuple[float, float]:
        """Model coordinate of the picture's upper left corner; negative where that was cropped away."""
        scale_x, scale_y = self.scale_xy
        return self.target[0] - self.source[0] * scale_x, self.target[1] - self.source[1] * scale_y

    def to_picture(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Model coordinates to picture pixels, not clipped.

        Args:
            points: (..., 2) x, y in model pixels.

        Returns:
            float32 of the same shape, picture pixels.
        """
        shifted: NDArray[np.float32] = np.asarray(points, np.float32) - np.array(self.offset_xy, np.float32)
        mapped: NDArray[np.float32] = np.divide(shifted, np.array(self.scale_xy, np.float32))
        return mapped

    def to_model(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Picture pixels (..., 2) to model coordinates, float32."""
        scaled = np.asarray(points, np.float32) * np.array(self.scale_xy, np.float32)
        mapped: NDArray[np.float32] = scaled + np.array(self.offset_xy, np.float32)
        return mapped

    def boxes_to_picture(self, xyxy: NDArray[Any]) -> NDArray[np.float32]:
        """Boxes (n, 4) in model pixels to picture pixels, cut off at the picture's edges; float32 (n, 4)."""
        corners = self.to_picture(xyxy.reshape(-1, 2, 2))
        clipped: NDArray[np.float32] = np.clip(corners, np.float32(0), np.array(self.picture_size_wh, np.float32))
        return clipped.reshape(-1, 4)


def place(
    fit: Fit, picture_size_wh: tuple[int, int], model_size_wh: tuple[int, int], region: Region | None = None
) -> Placement:
    """Fit a picture, or a region of it, onto a model's canvas.

    Args:
        fit: As in `edgesdk.bundle.manifest.ImageInput`. ``pad-right`` squeezes a picture that is too wide even so.
        picture_size_wh: Pixels, both positive.
        model_size_wh: Pixels.
        region: Part of the picture, inside it and not empty; None is all of it.

    Returns:
        The placement; source and target are at least one pixel wide and high.
    """
    left, top, right, bottom = region or (0, 0, *picture_size_wh)
    width, height = right - left, bottom - top
    model_width, model_height = model_size_wh
    target = (0, 0, model_width, model_height)
    if fit == "letterbox":
        ratio = min(model_width / width, model_height / height)
        fitted_width = min(model_width, max(1, round(width * ratio)))
        fitted_height = min(model_height, max(1, round(height * ratio)))
        x, y = (model_width - fitted_width) // 2, (model_height - fitted_height) // 2
        target = (x, y, x + fitted_width, y + fitted_height)
    elif fit == "pad-right":
        fitted_width = min(model_width, max(1, round(width * model_height / height)))
        target = (0, 0, fitted_width, model_height)
    elif fit == "centre-crop":
        cropped_width = min(width, max(1, round(height * model_width / model_height)))
        cropped_height = min(height, max(1, round(width * model_height / model_width)))
        left += (width - cropped_width) // 2
        top += (height - cropped_height) // 2
        right, bottom = left + cropped_width, top + cropped_height
    return Placement(
        source=(left, top, right, bottom), target=target, picture_size_wh=picture_size_wh, model_size_wh=model_size_wh
    )
