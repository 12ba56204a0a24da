from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.tasks.vision.placement import Fit, Placement, Region, place

FITS: list[Fit] = ["letterbox", "stretch", "centre-crop", "pad-right"]
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ("fit", "source", "target"),
    [
        ("letterbox", (0, 0, 1280, 720), (0, 140, 640, 500)),
        ("stretch", (0, 0, 1280, 720), (0, 0, 640, 640)),
        ("centre-crop", (280, 0, 1000, 720), (0, 0, 640, 640)),
        ("pad-right", (0, 0, 1280, 720), (0, 0, 640, 640)),  # too wide even so: squeezed
    ],
)
def test_place__wide_picture_on_a_square(fit: Fit, source: Region, target: Region) -> None:
    placement = place(fit, (1280, 720), (640, 640))
    assert (placement.source, placement.target) == (source, target)


def test_place__pad_right_keeps_the_scale_of_the_height() -> None:
    placement = place("pad-right", (100, 20), (320, 48))
    assert placement.target == (0, 0, 240, 48)


def test_place__region_is_a_part_of_the_picture() -> None:
    placement = place("stretch", (100, 100), (10, 10), (20, 40, 40, 60))
    np.testing.assert_allclose(placement.to_picture(np.array([[0, 0], [10, 10]])), [[20, 40], [40, 60]])


@given(fit=st.sampled_from(FITS), picture=sizes, model=sizes)
def test_placement__there_and_back_is_exact(fit: Fit, picture: tuple[int, int], model: tuple[int, int]) -> None:
    placement = place(fit, picture, model)
    left, top, right, bottom = placement.source
    assert 0 <= left < right <= picture[0]
    assert 0 <= top < bottom <= picture[1]
    x0, y0, x1, y1 = placement.target
    assert 0 <= x0 < x1 <= model[0]
    assert 0 <= y0 < y1 <= model[1]
    corners = np.array([[left, top], [right, bottom]], np.float32)
    np.testing.assert_allclose(placement.to_model(corners), [[x0, y0], [x1, y1]], atol=0.02, rtol=1e-4)
    np.testing.assert_allclose(placement.to_picture(placement.to_model(corners)), corners, atol=0.05, rtol=1e-4)


def test_placement__boxes_are_cut_off_at_the_picture() -> None:
    placement = place("letterbox", (200, 100), (100, 100))
    boxes = placement.boxes_to_picture(np.array([[-50, 0, 150, 100], [10, 30, 20, 60]], np.float32))
    np.testing.assert_allclose(boxes, [[0, 0, 200, 100], [20, 10, 40, 70]])
    assert boxes.dtype == np.float32


def test_placement__no_boxes_stay_no_boxes() -> None:
    placement: Placement = place("stretch", (10, 10), (5, 5))
    assert placement.boxes_to_picture(np.empty((0, 4), np.float32)).shape == (0, 4)
