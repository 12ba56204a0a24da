from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.backends import ModelFile, SessionOptions, get_backend
from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import TaskError
from edgesdk.samples import Picture
from edgesdk.sources.reading import read_picture
from edgesdk.tasks.results import FaceKeypoints
from edgesdk.tasks.vision.face_keypoints import FaceKeypointsTask

FACE = ((1, 1, 1, 1404), (1, 1, 1, 1))
EYE = ((1, 213), (1, 15))


def _contract(shapes: tuple[tuple[int, ...], ...], side: int = 192, **options: Any) -> Contract:
    image = InputSpec(name="input", shape=(1, side, side, 3), dtype="float32", source=ImageInput(layout="NHWC"))
    outputs = tuple(OutputSpec(name=f"o{n}", shape=shape, dtype="float32") for n, shape in enumerate(shapes))
    return Contract(task="face-keypoints", inputs=(image,), outputs=outputs, options=options)


def _face(logit: float, **options: Any) -> FaceKeypoints:
    """All points at 96, 48 of 192 x 192, depth -12; the picture is 384 x 96."""
    points = np.tile(np.array([96, 48, -12], np.float32), 468).reshape(FACE[0])
    presence = np.full(FACE[1], logit, np.float32)
    picture = Picture(pixels=np.zeros((96, 384, 3), np.uint8))
    return FaceKeypointsTask(_contract(FACE, **options))(lambda _: [points, presence], picture)


def test_face_keypoints__land_in_picture_pixels() -> None:
    result = _face(5.0)
    np.testing.assert_allclose(result.points, np.tile([192.0, 24.0], (468, 1)), rtol=1e-5)
    np.testing.assert_allclose(result.depth, np.full(468, -24.0))
    assert result.score == pytest.approx(0.993307, rel=1e-4)


def test_face_keypoints__region_of_interest() -> None:
    result = _face(5.0, roi=[0.5, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(result.points[0], [192 + 96, 24])


def test_face_keypoints__no_face_no_points() -> None:
    result = _face(-2.0)
    assert len(result) == 0
    assert result.to_json() == {"kind": "face_keypoints", "picture_size_wh": [384, 96], "score": 0.1192, "points": []}


def test_face_keypoints__normalised_coordinates() -> None:
    result = _face(5.0, coordinates="normalised")
    np.testing.assert_allclose(result.points[0], [96 * 384, 48 * 96])


def test_face_keypoints__eye_and_iris() -> None:
    eye = np.zeros((1, 213), np.float32)
    iris = np.tile(np.array([32, 16, 0], np.float32), 5)[None]
    picture = Picture(pixels=np.zeros((64, 64, 3), np.uint8))
    task = FaceKeypointsTask(_contract(tuple(reversed(EYE)), 64))
    result = task(lambda _: [iris, eye], picture)
    assert (len(result), result.score) == (76, 1.0)
    np.testing.assert_allclose(result.points[71:], np.tile([32.0, 16.0], (5, 1)))


@pytest.mark.parametrize("shapes", [(FACE[0],), ((1, 1405), (1, 1)), (FACE[0], EYE[1]), ()])
def test_face_keypoints__outputs_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(TaskError, match=r"outputs are .*; expected 1404 numbers .* or 213"):
        FaceKeypointsTask(_contract(shapes))


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ([0.5, 0, 0.5, 1], r"roi \[0\.5, 0\.0, 0\.5, 1\.0\] is empty; give left, top, right, bottom"),
        ([0, 0, 2, 1], "option 'roi'"),
        ([0, 0, 1], "option 'roi'"),
    ],
)
def test_face_keypoints__wrong_roi_is_refused(roi: list[float], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        _face(0.0, roi=roi)


def test_face_keypoints__nan_is_an_error() -> None:
    points: list[NDArray[np.float32]] = [np.full(FACE[0], np.nan, np.float32), np.ones(FACE[1], np.float32)]
    with pytest.raises(TaskError, match="hold NaN, infinity or points far outside"):
        FaceKeypointsTask(_contract(FACE))(lambda _: points, Picture(pixels=np.zeros((9, 9, 3), np.uint8)))


@pytest.mark.zoo
def test_face_keypoints__on_the_astronaut(zoo: Callable[[str], Path]) -> None:
    backend = get_backend("tflite")
    if not backend.availability().available:
        pytest.skip(backend.availability().fix)
    picture = read_picture(zoo("astronaut"))
    model = ModelFile(content=zoo("face-landmark").read_bytes(), format="tflite", name="face", sha256="face")
    session = backend.open(model, SessionOptions(threads=1))
    try:
        shapes = tuple(info.shape for info in session.outputs)
        face = FaceKeypointsTask(_contract(shapes, roi=[0.33, 0.05, 0.57, 0.42]))(session.run, picture)
        whole = FaceKeypointsTask(_contract(shapes))(session.run, picture)
    finally:
        session.close()
    assert face.score > 0.99
    # Outer corners of the eyes, nose tip, chin; numbers of MediaPipe's mesh.
    expected = [[194, 100], [256, 103], [224, 129], [221, 181]]
    np.testing.assert_allclose(face.points[[33, 263, 1, 152]], expected, atol=6)
    assert whole.score < 0.1, "the face fills a fifth of the whole photograph"
    assert len(whole) == 0
