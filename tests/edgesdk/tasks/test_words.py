"""Results in a few words: every kind that the tasks make."""

import numpy as np
import pytest

from edgesdk.tasks.results import FaceKeypoints, Faces, RawResult
from edgesdk.tasks.words import in_words


def test_in_words__faces() -> None:
    faces = Faces(
        xyxy=np.array([[1, 2, 30, 40], [1, 2, 30, 40]], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        keypoints=np.zeros((2, 6, 2), np.float32),
        picture_size_wh=(100, 100),
    )
    assert in_words(faces.to_json()) == "2 faces"
    assert in_words(Faces.empty((100, 100)).to_json()) == "no face"


def test_in_words__face_keypoints() -> None:
    result = FaceKeypoints(
        points=np.zeros((468, 2), np.float32), depth=np.zeros(468, np.float32), score=0.75, picture_size_wh=(10, 10)
    )
    assert in_words(result.to_json()) == "468 keypoints"


def test_in_words__raw() -> None:
    assert in_words(RawResult(arrays={"y": np.zeros((1, 3))}).to_json()) == "y 1x3"


def test_in_words__unknown_kind_is_shown() -> None:
    assert in_words({"kind": "novelty", "value": 7}) == '{"value": 7}'


@pytest.mark.parametrize(
    ("lines", "words"), [([], "no text"), ([{"text": "Gate 7"}, {"text": "open"}], "Gate 7 | open")]
)
def test_in_words__text(lines: list[dict[str, str]], words: str) -> None:
    assert in_words({"kind": "text", "lines": lines}) == words
