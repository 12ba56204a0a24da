"""Anchors of MediaPipe's SSD heads (BlazeFace): one point per cell and anchor; their size is always 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDES: dict[str, tuple[int, ...]] = {
    "short-range": (8, 16, 16, 16),  # face_detection_short_range_common.pbtxt; the front camera's model is the same
    "back": (16, 32, 32, 32),  # face_detection_back_desktop_live.pbtxt
    "full-range": (4,),  # face_detection_full_range_common.pbtxt; also the sparse one
}
"""Stride in model pixels of each layer of the head, by variant."""

ANCHORS_PER_LAYER = {"short-range": 2, "back": 2, "full-range": 1}
"""Two where the options have interpolated_scale_aspect_ratio 1 (an anchor of an interpolated scale is added), else one."""


def ssd_anchors(size_wh: tuple[int, int], strides: tuple[int, ...], per_layer: int) -> NDArray[np.float32]:
    """Centres of all anchors, in the order of the model's output rows.

    Args:
        size_wh: The model's picture, pixels.
        strides: One per layer; layers of equal stride that follow each other share their cells.
        per_layer: Anchors per cell and layer.

    Returns:
        (n, 2) x, y in 0..1 of the model's picture.

    Source: mediapipe/calculators/tflite/ssd_anchors_calculator.cc, with offsets of 0.5.
    """
    parts: list[NDArray[np.float32]] = []
    layer = 0
    while layer < len(strides):
        same = layer
        while same < len(strides) and strides[same] == strides[layer]:
            same += 1
        columns, rows = size_wh[0] // strides[layer], size_wh[1] // strides[layer]
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
        parts.append(np.repeat(centres, per_layer * (same - layer), axis=0))
        layer = same
    return np.concatenate(parts)
