"""Probability maps to quads, reading order, cut-outs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.samples import Picture
from edgesdk.tasks.vision.text_geometry import along_text, crop_quad, probability_boxes, reading_order, rectangle

pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")

Quads = NDArray[np.float32]


def _boxes(probability: NDArray[np.float32], **changes: float | bool) -> tuple[Quads, NDArray[np.float32]]:
    options = {
        "threshold": 0.3,
        "box_threshold": 0.5,
        "unclip_ratio": 1.6,
        "min_side": 3.0,
        "max_candidates": 1000,
        "dilate": False,
    }
    return probability_boxes(probability, **{**options, **changes})  # type: ignore[arg-type]  # numbers of both kinds


def _map(*blobs: tuple[int, int, int, int, float]) -> NDArray[np.float32]:
    probability = np.zeros((100, 200), np.float32)
    for left, top, right, bottom, value in blobs:
        probability[top:bottom, left:right] = value
    return probability


def _quad(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_boxes__grow_by_area_times_ratio_over_perimeter() -> None:
    quads, scores = _boxes(_map((20, 30, 120, 50, 0.9)))
    grow = 100 * 20 * 1.6 / (2 * (100 + 20))
    np.testing.assert_allclose(quads, [_quad(20 - grow, 30 - grow, 120 + grow, 50 + grow)], atol=1e-3)
    np.testing.assert_allclose(scores, [0.9], rtol=1e-5)


@pytest.mark.parametrize(
    ("blob", "changes", "count"),
    [
        ((20, 30, 120, 50, 0.45), {}, 0),  # text, but not sure enough
        ((20, 30, 120, 50, 0.45), {"box_threshold": 0.4}, 1),
        ((20, 30, 120, 50, 0.2), {"box_threshold": 0.1}, 0),  # below the pixel threshold
        ((20, 30, 120, 32, 0.9), {}, 0),  # two pixels high
        ((20, 30, 120, 32, 0.9), {"min_side": 2.0}, 1),
        ((0, 0, 200, 100, 0.9), {}, 1),  # the whole map
    ],
)
def test_boxes__what_is_dropped(blob: tuple[int, int, int, int, float], changes: dict[str, float], count: int) -> None:
    quads, scores = _boxes(_map(blob), **changes)
    assert (quads.shape, scores.shape) == ((count, 4, 2), (count,))
    assert quads.dtype == scores.dtype == np.float32


def test_boxes__holes_are_no_text_but_what_is_in_them_may_be() -> None:
    frame = _map((10, 10, 150, 90, 0.9), (20, 20, 140, 80, 0.0), (40, 40, 100, 60, 0.9))
    quads, scores = _boxes(frame, box_threshold=0.1, unclip_ratio=0.01)
    assert len(quads) == 2
    assert scores.max() == pytest.approx(0.9)


def test_boxes__dilation_joins_what_is_a_pixel_apart() -> None:
    halves = _map((20, 30, 60, 50, 0.9), (61, 30, 120, 50, 0.9))
    assert len(_boxes(halves)[0]) == 2
    assert len(_boxes(halves, dilate=True)[0]) == 1


def test_boxes__at_most_the_largest() -> None:
    blobs = _map((10, 10, 20, 20, 0.9), (30, 10, 190, 60, 0.9), (10, 80, 20, 90, 0.9))
    quads, scores = _boxes(blobs, max_candidates=1, unclip_ratio=0.01)
    assert len(scores) == 1
    assert quads[0, 0] == pytest.approx([30, 10], abs=0.5)


@given(
    centre=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    size=st.tuples(st.floats(1, 100), st.floats(1, 100)),
    angle=st.floats(-360, 360),
)
def test_rectangle__is_clockwise_from_the_upper_left(
    centre: tuple[float, float], size: tuple[float, float], angle: float
) -> None:
    corners = rectangle(centre, size, angle).astype(np.float64)
    np.testing.assert_allclose(corners.mean(axis=0), centre, atol=1e-3)
    sides = np.roll(corners, -1, axis=0) - corners
    assert sides[0, 0] >= abs(sides[0, 1]) - 1e-3  # the upper side runs right, at most 45 degrees from level
    crosses = sides[:, 0] * np.roll(sides, -1, axis=0)[:, 1] - sides[:, 1] * np.roll(sides, -1, axis=0)[:, 0]
    np.testing.assert_allclose(crosses, size[0] * size[1], rtol=1e-3)  # right angles, turning clockwise on a picture


LINES = [
    _quad(10, 10, 90, 30),
    _quad(110, 14, 190, 34),
    _quad(10, 40, 190, 60),
    _quad(10, 70, 60, 90),
    _quad(80, 66, 190, 86),
]


def _turn(quads: Quads, degrees: float) -> Quads:
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(quads @ matrix, np.float32)


@pytest.mark.parametrize("degrees", [0, 12, -30, 90, 180, -90, 185])
@given(order=st.permutations(range(len(LINES))))
def test_reading_order__rows_then_columns_however_the_page_lies(degrees: float, order: list[int]) -> None:
    quads = _turn(np.array(LINES, np.float32), degrees)[order]
    assert [order[index] for index in reading_order(quads)] == [0, 1, 2, 3, 4]


def test_reading_order__nothing() -> None:
    assert reading_order(np.empty((0, 4, 2), np.float32)).tolist() == []


@pytest.mark.parametrize(
    ("quad", "first"),
    [(_quad(0, 0, 100, 20), [0, 0]), (_quad(0, 0, 20, 20), [0, 0]), (_quad(0, 0, 20, 100), [20, 0])],
)
def test_along_text__a_tall_quad_is_read_upwards(quad: list[list[float]], first: list[float]) -> None:
    # Turned counter-clockwise, the upper right corner becomes the upper left one.
    assert along_text(np.array(quad, np.float32))[0].tolist() == first


def test_crop__whole_pixels_are_copied_exactly() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Picture(pixels=pixels, colour="BGR", uri="x.png")
    crop = crop_quad(picture, np.array(_quad(10, 5, 50, 25), np.float32))
    assert np.array_equal(crop.pixels, pixels[5:25, 10:50])
    assert (crop.colour, crop.uri, crop.captured) == ("BGR", "x.png", picture.captured)


@pytest.mark.parametrize(("roll", "turns"), [(1, 1), (2, 2), (3, 3)])
def test_crop__begins_at_the_first_corner(roll: int, turns: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 60), np.uint8)
    quad = np.roll(np.array(_quad(10, 5, 50, 25), np.float32), -roll, axis=0)
    crop = crop_quad(Picture(pixels=pixels, colour="GREY"), quad)
    assert np.array_equal(crop.pixels, np.rot90(pixels[5:25, 10:50], turns))


def test_crop__over_the_edge_and_thinner_than_a_pixel() -> None:
    picture = Picture(pixels=np.full((10, 10, 3), 7, np.uint8))
    assert crop_quad(picture, np.array(_quad(-5, -5, 15, 5), np.float32)).pixels.shape == (10, 20, 3)
    assert crop_quad(picture, np.array(_quad(2, 2, 2.2, 2.2), np.float32)).pixels.shape == (1, 1, 3)
