"""Task `face-detection`: BlazeFace (short range, front, back, full range, full range sparse) of MediaPipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.outputs import LARGEST_COORDINATE, logit, sigmoid
from edgesdk.tasks.results import Faces
from edgesdk.tasks.vision.anchors import ANCHORS_PER_LAYER, STRIDES, ssd_anchors
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.nms import suppress, suppress_weighted
from edgesdk.tasks.vision.placement import Placement

VALUES = 16
"""Numbers per anchor: centre x, y, width, height, then six keypoints x, y; model pixels, centres relative to the anchor."""


class FaceDetectionOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `face-detection`."""

    variant: Literal["auto", "short-range", "back", "full-range"] = "auto"
    """Which anchors; ``auto`` finds those whose number is that of the output rows. The front model has those of short-range."""
    strides: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = ()
    """Strides of the head's layers in model pixels, for a BlazeFace of another shape; overrides ``variant``."""
    anchors_per_layer: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    """Anchors per cell and layer; counts only with ``strides``."""
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """Faces below it are left out, 0..1."""
    iou_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    """Boxes that overlap more are one face, 0..1."""
    suppression: Literal["weighted", "greedy"] = "weighted"
    """``weighted`` averages overlapping boxes by score (steadier in video), ``greedy`` keeps the best."""
    max_detections: Annotated[int, msgspec.Meta(ge=1)] = 100
    """Faces at most."""


class FaceDetection(PictureTask[FaceDetectionOptions, Faces]):
    """Faces with six keypoints. Outputs, in any order: regressors (1, n, 16) and logits (1, n, 1)."""

    Options: ClassVar[type[TaskOptions]] = FaceDetectionOptions

    def prepare(self) -> None:
        """Find the two outputs by their shape, and the anchors by the number of rows."""
        expected = "regressors (1, n, 16) and logits (1, n, 1)"
        fix = "Name these two outputs in the model spec; other face detectors need a task of their own."
        shapes = [spec.shape for spec in self.contract.outputs]
        if len(shapes) != 2 or any(len(shape) != 3 or shape[0] != 1 for shape in shapes):
            raise self.refuse(expected, fix)
        self._boxes = next((index for index, shape in enumerate(shapes) if shape[2] == VALUES), -1)
        self._logits = 1 - self._boxes
        if self._boxes < 0 or shapes[self._logits] != (1, shapes[self._boxes][1], 1):
            raise self.refuse(expected, fix)
        width, height = self.preprocess.size_wh
        self._anchors = self._find_anchors(shapes[self._boxes][1]) * np.array([width, height], np.float32)
        self._threshold = logit(self.options.score_threshold)

    def _find_anchors(self, rows: int) -> NDArray[np.float32]:
        size_wh = self.preprocess.size_wh
        options = self.options
        if options.strides:
            candidates = {"strides": ssd_anchors(size_wh, options.strides, options.anchors_per_layer)}
        else:
            names = tuple(STRIDES) if options.variant == "auto" else (options.variant,)
            candidates = {name: ssd_anchors(size_wh, STRIDES[name], ANCHORS_PER_LAYER[name]) for name in names}
        for anchors in candidates.values():
            if len(anchors) == rows:
                return anchors
        counts = ", ".join(f"{name} {len(anchors)}" for name, anchors in candidates.items())
        raise self.refuse(
            f"as many rows as anchors for a picture of {size_wh[0]} x {size_wh[1]} ({counts}), got {rows}",
            "Set option 'variant', or 'strides' and 'anchors_per_layer', to the model's own.",
        )

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> Faces:
        """Boxes and keypoints of the anchors above the threshold, suppressed, in picture pixels."""
        logits = outputs[self._logits].reshape(-1)
        candidates = np.flatnonzero(logits >= self._threshold)
        values = outputs[self._boxes][0, candidates]
        plausible = np.abs(values).max(axis=1) < LARGEST_COORDINATE
        candidates = candidates[plausible]
        if not len(candidates):
            return Faces.empty(placement.picture_size_wh)
        # (k, 8, 2): centre, size, six keypoints; all but the size are relative to the anchor.
        points = values[plausible].reshape(-1, VALUES // 2, 2)
        anchors = self._anchors[candidates]
        half = points[:, 1] / 2
        centre = points[:, 0] + anchors
        rows = np.concatenate(
            [centre - half, centre + half, (points[:, 2:] + anchors[:, None]).reshape(-1, VALUES - 4)], axis=1
        )
        valid = np.all(half > 0, axis=1)
        rows, scores = rows[valid], sigmoid(logits[candidates[valid]])
        options = self.options
        if options.suppression == "weighted":
            rows, scores = suppress_weighted(rows, scores, options.iou_threshold, options.max_detections)
        else:
            kept = suppress(rows[:, :4], scores, options.iou_threshold, options.max_detections)
            rows, scores = rows[kept], scores[kept]
        return Faces(
            xyxy=placement.boxes_to_picture(rows[:, :4]),
            scores=scores,
            keypoints=placement.to_picture(rows[:, 4:].reshape(-1, (VALUES - 4) // 2, 2)),
            picture_size_wh=placement.picture_size_wh,
        )
