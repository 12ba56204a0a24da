"""Task `text-detection`: a probability map of text (PP-OCR's DB detectors) becomes quads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.tasks.options import TaskOptions
from edgesdk.tasks.text_results import TextRegions
from edgesdk.tasks.vision.base import PictureTask
from edgesdk.tasks.vision.placement import Placement
from edgesdk.tasks.vision.text_geometry import along_text, probability_boxes, reading_order

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class TextDetectionOptions(TaskOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of task `text-detection`; the defaults suit PP-OCRv4."""

    threshold: Probability = 0.3
    """Probability from which a pixel is text."""
    box_threshold: Probability = 0.4
    """Mean probability below which a region is dropped. RapidOCR's 0.5 loses two of seven lines of a photographed page that
    0.4 finds (PP-OCRv4, 640x640), with one region more on five photographs without text."""
    unclip_ratio: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.6
    """How far regions grow: the network marks the core of a line only."""
    min_side: Annotated[float, msgspec.Meta(ge=0)] = 3.0
    """Regions with a shorter side are dropped, pixels of the model's map before growing."""
    max_candidates: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """At most so many regions, the largest."""
    dilate: bool = True
    """Join what is one pixel apart."""


class TextDetection(PictureTask[TextDetectionOptions, TextRegions]):
    """One picture, one probability map (1, 1, H, W) or (1, H, W, 1) of the whole canvas, at any scale of it."""

    Options: ClassVar[type[TaskOptions]] = TextDetectionOptions

    def prepare(self) -> None:
        """Find the map's size."""
        outputs = self.contract.outputs
        shape = outputs[0].shape if len(outputs) == 1 else ()
        if len(shape) != 4 or shape[0] != 1 or 1 not in {shape[1], shape[3]}:
            raise self.refuse(
                "one probability map (1, 1, H, W) or (1, H, W, 1)",
                "Name the map alone under `outputs:` of the model spec.",
            )
        self._map_hw = shape[2:] if shape[1] == 1 else shape[1:3]

    def decode(self, outputs: Sequence[NDArray[np.float32]], placement: Placement) -> TextRegions:
        """Quads in picture pixels; regions that lie on the border around the picture are gone."""
        options = self.options
        height, width = self._map_hw
        quads, scores = probability_boxes(
            outputs[0].reshape(height, width),
            threshold=options.threshold,
            box_threshold=options.box_threshold,
            unclip_ratio=options.unclip_ratio,
            min_side=options.min_side,
            max_candidates=options.max_candidates,
            dilate=options.dilate,
        )
        model_width, model_height = placement.model_size_wh
        quads = placement.to_picture(quads * np.array([model_width / width, model_height / height], np.float32))
        quads = np.clip(quads, np.float32(0), np.array(placement.picture_size_wh, np.float32))
        sides = np.linalg.norm(np.roll(quads, -1, axis=1) - quads, axis=2)
        inside = (sides >= 1).all(axis=1)
        quads, scores = quads[inside], scores[inside]
        order = reading_order(np.array([along_text(quad) for quad in quads], np.float32).reshape(-1, 4, 2))
        return TextRegions(quads=quads[order], scores=scores[order], picture_size_wh=placement.picture_size_wh)
