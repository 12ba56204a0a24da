"""Task `object-detection`: the exports of YOLOv8, YOLO11 and their like, one output of boxes and class scores.

The head of these models emits, per prediction, a box ``cxcywh`` and one score per class that went through a sigmoid already;
there is no objectness. The export must leave suppression out of the graph (Ultralytics' default, ``nms=False``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import AssumptionWarning
from edgesdk.extras import import_extra
from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.outputs import LARGEST_COORDINATE
from edgesdk.tasks.results import Detections
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.labels import check_labels, names_of
from edgesdk.tasks.vision.nms import suppress_per_class
from edgesdk.tasks.vision.placement import Placement

BOX = 4
"""Numbers before the class scores: centre x, centre y, width, height."""
MAX_CANDIDATES = 1000
"""Predictions that enter suppression at most, the best ones: with more, suppression would take longer than the model."""


class DetectionOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `object-detection`."""

    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.25
    """Objects below it are left out, 0..1."""
    iou_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.7
    """Boxes of one class that overlap more are one object, 0..1."""
    max_detections: Annotated[int, msgspec.Meta(ge=1)] = 300
    """Objects at most."""
    agnostic: bool = False
    """Boxes of different classes compete as well."""
    coordinates: Literal["pixels", "normalised"] = "pixels"
    """Unit of the boxes: pixels of the model's picture (ONNX exports), or 0..1 of it (TFLite exports)."""
    layout: Literal["auto", "channels-first", "channels-last"] = "auto"
    """(1, 4 + classes, n), or (1, n, 4 + classes). ``auto`` decides by the number of labels; without labels the shorter of
    the two axes holds box and classes."""


class ObjectDetection(PictureTask[DetectionOptions, Detections]):
    """Objects with boxes, classes and scores."""

    Options: ClassVar[type[TaskOptions]] = DetectionOptions

    def prepare(self) -> None:
        """Find which axis holds the predictions, and compare the number of classes with the labels."""
        outputs, labels = self.contract.outputs, self.contract.labels
        channels = f"{BOX + len(labels)} = 4 + {len(labels)} labels" if labels else "4 + classes"
        expected = f"one output (1, {channels}, n) or (1, n, {channels})"
        if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[0] != 1:
            raise self.refuse(expected, "Export without nms and without extra heads, or use task 'raw'.")
        first, last = outputs[0].shape[1:]
        if self.options.layout != "auto":
            self._transposed = self.options.layout == "channels-last"
        elif labels and BOX + len(labels) in {first, last}:
            self._transposed = first != BOX + len(labels)
        elif labels and BOX + 1 + len(labels) in {first, last}:
            raise self.refuse(
                expected,
                f"{BOX + 1 + len(labels)} = 4 + objectness + {len(labels)} labels is an export of YOLOv5 or earlier: "
                "use a YOLOv8 or YOLO11 export, or task 'raw'.",
            )
        elif labels and last == 6:
            raise self.refuse(
                expected,
                "(1, n, 6) is an export with suppression in the graph (nms=True, YOLOv10, YOLO26): "
                "export again with nms=False and end2end=False.",
            )
        else:
            self._transposed = last < first
        classes = (last if self._transposed else first) - BOX
        if classes < 1:
            raise self.refuse(expected, "Name the output with boxes and class scores in the model spec.")
        check_labels(self.contract, classes, output=f"{outputs[0].name} {outputs[0].shape}")
        self._unit = np.ones(2, np.float32)
        if self.options.coordinates == "normalised":
            self._unit = np.array(self.preprocess.size_wh, np.float32)
        self._cv2 = import_extra("cv2", extra="vision", purpose="decoding detections")
        self._warned = False

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> Detections:
        """The predictions above the threshold, suppressed, in picture pixels."""
        rows = outputs[0][0]
        if self._transposed:
            rows = self._cv2.transpose(rows)  # the maximum over rows below is four times faster than over columns
        scores = rows[BOX:].max(axis=0)
        candidates = np.flatnonzero(scores >= self.options.score_threshold)
        if len(candidates) > MAX_CANDIDATES:
            best = np.argpartition(-scores[candidates], MAX_CANDIDATES)[:MAX_CANDIDATES]
            candidates = candidates[np.sort(best)]
        boxes = rows[:BOX, candidates].T  # (k, 4) cxcywh
        plausible = np.abs(boxes).max(axis=1) < LARGEST_COORDINATE
        candidates, boxes = candidates[plausible], boxes[plausible]
        if not len(candidates):
            return Detections.empty(placement.picture_size_wh)
        self._check_unit(boxes)
        half = boxes[:, 2:] * (self._unit / 2)
        centres = boxes[:, :2] * self._unit
        xyxy = np.concatenate([centres - half, centres + half], axis=1)
        class_ids = rows[BOX:, candidates].argmax(axis=0).astype(np.int64)
        options = self.options
        kept = suppress_per_class(
            xyxy,
            scores[candidates],
            None if options.agnostic else class_ids,
            options.iou_threshold,
            options.max_detections,
        )
        class_ids = class_ids[kept]
        return Detections(
            xyxy=placement.boxes_to_picture(xyxy[kept]),
            scores=np.clip(scores[candidates[kept]], 0, 1),
            class_ids=class_ids,
            labels=names_of(self.contract, class_ids.tolist()),
            picture_size_wh=placement.picture_size_wh,
        )

    def _check_unit(self, boxes: NDArray[np.float32]) -> None:
        if not self._warned and self.options.coordinates == "pixels" and float(boxes.max()) <= 1.5:
            self._warned = True
            warnings.warn(
                f"task {self.contract.task!r}: all boxes lie within 1.5 pixels of the upper left corner, so their "
                "coordinates are probably 0..1. Set option 'coordinates' to 'normalised'.",
                AssumptionWarning,
                stacklevel=4,
            )
