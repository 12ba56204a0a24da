"""Geometry of text lines: from a probability map to quads, their reading order, and the picture inside a quad."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.extras import import_extra
from edgesdk.samples import Picture

TALL = 1.5
"""Height over width from which a region is taken for a line that was turned by 90 degrees (PaddleOCR's value)."""


def probability_boxes(
    probability: NDArray[np.float32],
    *,
    threshold: float,
    box_threshold: float,
    unclip_ratio: float,
    min_side: float,
    max_candidates: int,
    dilate: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes around the blobs of a text probability map (the post-processing of Differentiable Binarization).

    The network marks the core of each line only, shrunk by ``area * ratio / perimeter``; the box grows by as much again.
    Growing the blob's smallest rectangle gives the same rectangle as growing its polygon and boxing that.

    Args:
        probability: (H, W), 0..1.
        threshold: Probability from which a pixel is text.
        box_threshold: Mean probability inside a blob's rectangle below which it is dropped.
        unclip_ratio: How far a box grows.
        min_side: Blobs whose shorter side is smaller are dropped, pixels of the map.
        max_candidates: At most so many blobs are looked at, the largest.
        dilate: Join what is one pixel apart first.

    Returns:
        Quads float32 (n, 4, 2) in pixels of the map, in no particular order, and scores float32 (n,).

    Source: Liao et al., Real-time Scene Text Detection with Differentiable Binarization, 2019, section 3.5.
    """
    cv2 = import_extra("cv2", extra="vision", purpose="finding text")
    mask = np.asarray(probability > threshold, np.uint8)
    if dilate:
        mask = cv2.dilate(mask, np.ones((2, 2), np.uint8))
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return np.empty((0, 4, 2), np.float32), np.empty(0, np.float32)
    parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
    outer = [contour for contour, parent in zip(contours, parents, strict=True) if parent < 0]  # holes are no text
    if len(outer) > max_candidates:
        outer.sort(key=cv2.contourArea, reverse=True)
    quads: list[NDArray[np.float32]] = []
    scores: list[float] = []
    for contour in outer[:max_candidates]:
        # Contours run through the centres of pixels; coordinates here count from their upper left corners.
        centre, size_wh, angle = cv2.minAreaRect(contour)
        centre = (centre[0] + 0.5, centre[1] + 0.5)
        width, height = size_wh[0] + 1, size_wh[1] + 1
        if min(width, height) < min_side:
            continue
        score = _mean_inside(cv2, probability, rectangle(centre, (width, height), angle))
        if score < box_threshold:
            continue
        grow = 2 * (width * height) * unclip_ratio / (2 * (width + height))  # both sides; area / perimeter
        quads.append(rectangle(centre, (width + grow, height + grow), angle))
        scores.append(score)
    return np.asarray(quads, np.float32).reshape(-1, 4, 2), np.asarray(scores, np.float32)


def rectangle(centre: tuple[float, float], size_wh: tuple[float, float], angle: float) -> NDArray[np.float32]:
    """Corners (4, 2) of a turned rectangle, clockwise from the upper left: its upper side is the one nearest to level.

    Args:
        centre: x, y.
        size_wh: Lengths along the angle and across it.
        angle: Degrees, clockwise on a picture (y down).
    """
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, (width, height) = np.array([cos, sin]), size_wh
    if abs(cos) < abs(sin):
        along, width, height = np.array([-sin, cos]), height, width
    if along[0] < 0:
        along = -along
    across = np.array([-along[1], along[0]])
    right, down = along * (width / 2), across * (height / 2)
    corners = np.asarray(centre) + np.stack((-right - down, right - down, right + down, down - right))
    return corners.astype(np.float32)


def reading_order(quads: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices (n,) that bring quads (n, 4, 2) into reading order: row by row, each along the text.

    The text runs from the first corner to the second; the direction of most text (by length) is the page's, so a page that
    was turned, or stands on its head, is read along its own rows. Two quads are of one row when the centre of the lower is
    less than half a height below the row's.
    """
    if not len(quads):
        return np.empty(0, np.int64)
    upper = (quads[:, 1] - quads[:, 0]).astype(np.float64)
    angles = np.arctan2(upper[:, 1], upper[:, 0])
    quarter = np.round(angles / (np.pi / 2)).astype(np.int64) % 4
    main = int(np.bincount(quarter, weights=np.hypot(*upper.T), minlength=4).argmax())
    deviations = (angles[quarter == main] - main * np.pi / 2 + np.pi) % (2 * np.pi) - np.pi
    slope = main * np.pi / 2 + float(np.median(deviations))
    along = quads @ np.array([np.cos(slope), np.sin(slope)])
    down = quads @ np.array([-np.sin(slope), np.cos(slope)])
    x, y, heights = along.mean(axis=1), down.mean(axis=1), np.ptp(down, axis=1)
    rows: list[list[int]] = []
    for index in np.argsort(y, kind="stable").tolist():
        if rows:
            row = rows[-1]
            reach = min(float(heights[row].mean()), float(heights[index])) / 2
            if y[index] - float(y[row].mean()) < reach:
                row.append(index)
                continue
        rows.append([index])
    return np.array([index for row in rows for index in sorted(row, key=lambda one: x[one])], np.int64)


def along_text(quad: NDArray[np.float32]) -> NDArray[np.float32]:
    """The corners of a quad (4, 2) from the upper left of a level line on; a tall quad is read from its bottom to its top."""
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    tall = max(sides[1], sides[3]) >= TALL * max(sides[0], sides[2])
    return np.roll(quad, -1, axis=0) if tall else quad


def crop_quad(picture: Picture, quad: NDArray[np.float32]) -> Picture:
    """The part of a picture inside a quad, made level: the quad's first corner becomes the upper left one.

    Args:
        picture: Any colour.
        quad: (4, 2), clockwise, picture pixels; may reach over the edge (its pixels are repeated).

    Returns:
        A picture at least one pixel wide and high, in the same colour, of the same moment.
    """
    cv2 = import_extra("cv2", extra="vision", purpose="cutting out text")
    sides = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    width, height = max(1, round(max(sides[0], sides[2]))), max(1, round(max(sides[1], sides[3])))
    # Corner coordinates against OpenCV's pixel centres: half a pixel apart on both sides.
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - np.float32(0.5)
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32) - np.float32(0.5), target)
    pixels: NDArray[Any] = cv2.warpPerspective(
        picture.pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return Picture(pixels=pixels, colour=picture.colour, captured=picture.captured, uri=picture.uri)


def _mean_inside(cv2: Any, probability: NDArray[np.float32], quad: NDArray[np.float32]) -> float:
    """Mean of the map over the pixels whose centres are in the quad; the quad's own box where it is thinner than a pixel."""
    height, width = probability.shape
    left, top = np.clip(np.floor(quad.min(axis=0)).astype(int), 0, (width - 1, height - 1)).tolist()
    right, bottom = np.clip(np.ceil(quad.max(axis=0)).astype(int), (left + 1, top + 1), (width, height)).tolist()
    mask = np.zeros((bottom - top, right - left), np.uint8)
    # fillPoly draws its outline, too, and counts from pixel centres
    cv2.fillPoly(mask, [np.round(quad - (left + 0.5, top + 0.5)).astype(np.int32)], 1)
    part = probability[top:bottom, left:right]
    return float(cv2.mean(part, mask)[0]) if mask.any() else float(part.mean())
