"""Task `face-keypoints`: the face mesh of MediaPipe's face_landmark, or eye contour and iris of its iris_landmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TaskError
from edgesdk.samples import Picture
from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.outputs import LARGEST_COORDINATE, sigmoid
from edgesdk.tasks.results import FaceKeypoints
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.placement import Placement, Region
from edgesdk.tasks.vision.preprocess import region_around

FACE_POINTS, EYE_POINTS, IRIS_POINTS = 468, 71, 5
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class FaceKeypointsOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `face-keypoints`."""

    score_threshold: Fraction = 0.5
    """Presence below which no points are given, 0..1."""
    roi: tuple[Fraction, Fraction, Fraction, Fraction] | None = None
    """Left, top, right, bottom of the part of the picture that shows the face, as fractions of its width and height; None
    takes the whole picture. The model wants the face upright with a quarter of its size as a margin on each side."""
    coordinates: Literal["pixels", "normalised"] = "pixels"
    """Unit of the model's points: pixels of its picture (MediaPipe's own files), or 0..1 of it."""

    def __post_init__(self) -> None:
        if self.roi is not None and not (self.roi[0] < self.roi[2] and self.roi[1] < self.roi[3]):
            raise ValueError(
                f"roi {list(self.roi)} is empty; give left, top, right, bottom with left < right, top < bottom"
            )


class FaceKeypointsTask(PictureTask[FaceKeypointsOptions, FaceKeypoints]):
    """Keypoints of one face that fills the picture.

    Outputs are found by their number of elements: 1404 (468 points x, y, z) and 1 (presence, a logit), or 213 (71 points)
    and 15 (5 points of the iris), which have no presence.
    """

    Options: ClassVar[type[TaskOptions]] = FaceKeypointsOptions

    def prepare(self) -> None:
        """Find the outputs by their size."""
        sizes = [int(np.prod(spec.shape)) for spec in self.contract.outputs]
        self._presence: int | None = None
        self._points: tuple[int, ...]
        if sorted(sizes) == [1, 3 * FACE_POINTS]:
            self._points = (sizes.index(3 * FACE_POINTS),)
            self._presence = sizes.index(1)
        elif sorted(sizes) == [3 * IRIS_POINTS, 3 * EYE_POINTS]:
            self._points = (sizes.index(3 * EYE_POINTS), sizes.index(3 * IRIS_POINTS))
        else:
            raise self.refuse(
                "1404 numbers (468 points) and 1 (presence), or 213 (71 points of an eye) and 15 (5 of its iris)",
                "Name these two outputs in the model spec, or use task 'raw'.",
            )

    def region(self, picture: Picture) -> Region | None:
        """Option ``roi`` in pixels of this picture."""
        roi = self.options.roi
        if roi is None:
            return None
        width, height = picture.size_wh
        return region_around((roi[0] * width, roi[1] * height, roi[2] * width, roi[3] * height), picture.size_wh)

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> FaceKeypoints:
        """Points in picture pixels, none of them where no face is present."""
        score = 1.0
        if self._presence is not None:
            score = float(sigmoid(outputs[self._presence]).reshape(-1)[0])
        points = np.concatenate([outputs[index].reshape(-1, 3) for index in self._points])
        # "not <" rather than ">=": a comparison with NaN is false.
        if not np.abs(points).max() < LARGEST_COORDINATE or not np.isfinite(score):
            raise TaskError(
                f"task {self.contract.task!r}: the outputs hold NaN, infinity or points far outside any picture. "
                "Compare the variant with its source (edgesdk convert does), or run a variant of higher precision."
            )
        if score < self.options.score_threshold:
            return FaceKeypoints.empty(placement.picture_size_wh, score)
        width, height = placement.model_size_wh if self.options.coordinates == "normalised" else (1, 1)
        scaled = points * np.array([width, height, width], np.float32)
        return FaceKeypoints(
            points=placement.to_picture(scaled[:, :2]),
            depth=(scaled[:, 2] / placement.scale_xy[0]).astype(np.float32),
            score=score,
            picture_size_wh=placement.picture_size_wh,
        )
