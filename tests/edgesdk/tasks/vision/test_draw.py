from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgesdk.errors import TaskError
from edgesdk.samples import Picture
from edgesdk.tasks.api import Result
from edgesdk.tasks.results import Classification, Detections, FaceKeypoints, Faces, RawResult
from edgesdk.tasks.text_results import Text, TextLine, TextRegions
from edgesdk.tasks.vision.draw import annotate

SIZE = (200, 120)
QUAD = np.array([[20, 40], [90, 50], [88, 70], [18, 60]], np.float32)
BOX = np.array([[50, 40, 150, 100]], np.float32)
LINE = TextLine(text="h\u00e9llo", score=0.9, quad=QUAD)
ONE = np.array([0.9], np.float32)
KEYPOINTS = np.full((1, 6, 2), 60, np.float32)

RESULTS: dict[str, Callable[[], Any]] = {
    "classification": lambda: Classification(class_ids=np.array([1]), scores=ONE, labels=("cat",)),
    "detections": lambda: Detections(
        xyxy=BOX, scores=ONE, class_ids=np.array([70]), labels=("cat",), picture_size_wh=SIZE
    ),
    "faces": lambda: Faces(xyxy=BOX, scores=ONE, keypoints=KEYPOINTS, picture_size_wh=SIZE),
    "face keypoints": lambda: FaceKeypoints(
        points=KEYPOINTS[0], depth=np.zeros(6, np.float32), score=0.9, picture_size_wh=SIZE
    ),
    "text regions": lambda: TextRegions(quads=QUAD[None], scores=ONE, picture_size_wh=SIZE),
    "text line": lambda: LINE,
    "text": lambda: Text(lines=(LINE,), picture_size_wh=SIZE),
}
EMPTY: list[Result] = [
    Classification.empty(),
    Detections.empty(SIZE),
    Faces.empty(SIZE),
    FaceKeypoints.empty(SIZE),
    Text(lines=(), picture_size_wh=SIZE),
]


def _picture(**how: Any) -> Picture:
    fields: dict[str, Any] = {"pixels": np.full((120, 200, 3), 128, np.uint8), "uri": "x"}
    return Picture(**(fields | how))


@pytest.mark.parametrize("name", list(RESULTS))
def test_annotate__draws_into_a_copy(name: str) -> None:
    picture = _picture()
    drawn = annotate(picture, RESULTS[name]())
    assert (picture.pixels == 128).all()
    assert drawn.pixels.shape == picture.pixels.shape
    assert (drawn.pixels != 128).any()
    assert (drawn.captured, drawn.uri, drawn.colour) == (picture.captured, "x", "RGB")


@pytest.mark.parametrize("result", EMPTY, ids=lambda result: result.kind)
def test_annotate__nothing_found_draws_nothing(result: Result) -> None:
    assert (annotate(_picture(), result).pixels == 128).all()


def test_annotate__same_colours_in_rgb_and_bgr() -> None:
    result = RESULTS["detections"]()
    rgb = annotate(_picture(), result)
    bgr = annotate(_picture(colour="BGR"), result)
    assert bgr.colour == "BGR"
    np.testing.assert_array_equal(rgb.pixels, bgr.pixels[..., ::-1])


def test_annotate__grey_becomes_rgb() -> None:
    drawn = annotate(_picture(pixels=np.full((120, 200), 128, np.uint8), colour="GREY"), RESULTS["faces"]())
    assert (drawn.colour, drawn.pixels.shape) == ("RGB", (120, 200, 3))


def test_annotate__box_is_where_it_belongs() -> None:
    changed = (annotate(_picture(), RESULTS["detections"]()).pixels != 128).any(axis=2)
    assert changed[100, 55:145].all(), "the lower edge"
    assert not changed[60:90, 70:130].any(), "the inside"


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2000, 30)])
def test_annotate__any_picture_size(size: tuple[int, int]) -> None:
    for make in RESULTS.values():
        annotate(_picture(pixels=np.zeros((*size, 3), np.uint8)), make())


def test_annotate__read_only_and_flipped_pixels() -> None:
    pixels = np.full((120, 200, 3), 128, np.uint8)[:, ::-1]
    pixels.flags.writeable = False
    assert (annotate(_picture(pixels=pixels), RESULTS["faces"]()).pixels != 128).any()


def test_annotate__raw_is_refused() -> None:
    with pytest.raises(TaskError, match=r"kind 'raw' has nothing to draw; these have: classification.*to_json"):
        annotate(_picture(), RawResult.empty())
