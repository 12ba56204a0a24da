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
from edgesdk.tasks.results import FACE_KEYPOINTS, Faces
from edgesdk.tasks.vision.anchors import ANCHORS_PER_LAYER, STRIDES, ssd_anchors
from edgesdk.tasks.vision.blazeface import FaceDetection

PICTURE = Picture(pixels=np.zeros((256, 256, 3), np.uint8))
FACE = ImageInput(layout="NHWC", scale=1 / 127.5, mean=(1.0,), fit="letterbox", pad_value=0)


def _image(side: int = 128) -> InputSpec:
    return InputSpec(name="input", shape=(1, side, side, 3), dtype="float32", source=FACE)


def _contract(boxes: tuple[int, ...] = (1, 896, 16), scores: tuple[int, ...] = (1, 896, 1), **options: Any) -> Contract:
    outputs = (
        OutputSpec(name="regressors", shape=boxes, dtype="float32"),
        OutputSpec(name="classificators", shape=scores, dtype="float32"),
    )
    return Contract(task="face-detection", inputs=(_image(),), outputs=outputs, options=options)


def _outputs(faces: dict[int, float], offset: float = 0.0) -> list[NDArray[np.float32]]:
    """Anchor index -> logit; each a box of 20 x 30 model pixels around its anchor, keypoints at its centre."""
    boxes, logits = np.zeros((1, 896, 16), np.float32), np.full((1, 896, 1), -100, np.float32)
    for index, value in faces.items():
        boxes[0, index] = [offset, offset, 20, 30, *([offset] * 12)]
        logits[0, index] = value
    return [boxes, logits]


def _detect(faces: dict[int, float], offset: float = 0.0, **options: Any) -> Faces:
    return FaceDetection(_contract(**options))(lambda _: _outputs(faces, offset), PICTURE)


@pytest.mark.parametrize(
    ("variant", "side", "count", "first", "last"),
    [
        ("short-range", 128, 896, (1 / 32, 1 / 32), (15 / 16, 15 / 16)),
        ("back", 256, 896, (1 / 32, 1 / 32), (15 / 16, 15 / 16)),
        ("full-range", 192, 2304, (1 / 96, 1 / 96), (95 / 96, 95 / 96)),
    ],
)
def test_anchors__of_the_published_variants(
    variant: str, side: int, count: int, first: tuple[float, float], last: tuple[float, float]
) -> None:
    anchors = ssd_anchors((side, side), STRIDES[variant], ANCHORS_PER_LAYER[variant])
    assert anchors.shape == (count, 2)
    np.testing.assert_allclose(anchors[[0, -1]], [first, last], rtol=1e-5)


def test_anchors__layers_of_equal_stride_share_cells() -> None:
    """Short range: 16 x 16 cells with 2 anchors, then 8 x 8 cells with 3 x 2; x runs fastest."""
    anchors = ssd_anchors((128, 128), STRIDES["short-range"], 2)
    assert len(np.unique(anchors[:512], axis=0)) == 256
    assert len(np.unique(anchors[512:], axis=0)) == 64
    np.testing.assert_allclose(anchors[512:519], [[1 / 16, 1 / 16]] * 6 + [[3 / 16, 1 / 16]])


def test_faces__box_and_keypoints_land_in_picture_pixels() -> None:
    """Anchor 272 is cell (8, 8) of 16 x 16: its centre is at 68, 68 of 128, so at 136, 136 of 256."""
    result = _detect({272: 3.0})
    np.testing.assert_allclose(result.xyxy, [[116, 106, 156, 166]], atol=1e-3)
    np.testing.assert_allclose(result.keypoints, np.full((1, 6, 2), 136.0), atol=1e-3)
    np.testing.assert_allclose(result.scores, [0.952574], rtol=1e-5)
    assert result.picture_size_wh == (256, 256)


@pytest.mark.parametrize("suppression", ["weighted", "greedy"])
def test_faces__overlapping_candidates_are_one_face(suppression: str) -> None:
    result = _detect({272: 3.0, 273: 2.0, 0: 1.0}, suppression=suppression)
    np.testing.assert_allclose(result.scores, [0.952574, 0.731059], rtol=1e-5)


def test_faces__none_and_extreme_logits() -> None:
    assert len(_detect({})) == 0
    assert len(_detect({272: -0.01})) == 0
    assert _detect({272: 1e30}).scores.tolist() == [1.0]


def test_faces__bounded_by_max_detections() -> None:
    assert len(_detect(dict.fromkeys(range(0, 512, 2), 2.0), max_detections=3, iou_threshold=0.99)) == 3


def test_faces__outputs_are_found_by_shape() -> None:
    contract = Contract(task="face-detection", inputs=(_image(),), outputs=tuple(reversed(_contract().outputs)))
    assert len(FaceDetection(contract)(lambda _: _outputs({272: 3.0})[::-1], PICTURE)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": (1, 896, 18)}, r"outputs are regressors \(1, 896, 18\).*expected regressors \(1, n, 16\)"),
        ({"scores": (1, 512, 1)}, r"classificators \(1, 512, 1\)"),
        (
            {"boxes": (1, 900, 16), "scores": (1, 900, 1)},
            r"128 x 128 \(short-range 896, back 224, full-range 1024\), got 900.*Set option",
        ),
        ({"variant": "full-range"}, r"\(full-range 1024\), got 896"),
        ({"strides": [8]}, r"\(strides 512\), got 896"),
    ],
)
def test_faces__shapes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        FaceDetection(_contract(**change))


def test_faces__strides_of_ones_own() -> None:
    task = FaceDetection(_contract(strides=[8, 16, 16, 16], anchors_per_layer=2))
    assert len(task(lambda _: _outputs({272: 3.0}), PICTURE)) == 1


@pytest.mark.zoo
@pytest.mark.parametrize(("name", "side", "rows"), [("blazeface-short", 128, 896), ("blazeface-full", 192, 2304)])
def test_faces__the_astronauts_face_is_found(name: str, side: int, rows: int, zoo: Callable[[str], Path]) -> None:
    backend = get_backend("tflite")
    if not backend.availability().available:
        pytest.skip(backend.availability().fix)
    model = ModelFile(content=zoo(name).read_bytes(), format="tflite", name=name, sha256=name)
    with_session = backend.open(model, SessionOptions(threads=1))
    try:
        outputs = tuple(OutputSpec(name=info.name, shape=info.shape, dtype="float32") for info in with_session.outputs)
        assert (1, rows, 16) in {spec.shape for spec in outputs}
        task = FaceDetection(Contract(task="face-detection", inputs=(_image(side),), outputs=outputs))
        picture = read_picture(zoo("astronaut"))
        result = task(with_session.run, picture)
    finally:
        with_session.close()
    assert len(result) == 1
    assert result.scores[0] > 0.85
    # Read off the photograph: the face from the brows to the chin, and where the eyes, nose and mouth are.
    np.testing.assert_allclose(result.xyxy[0], [176, 76, 275, 174], atol=12)
    keypoints = dict(zip(FACE_KEYPOINTS, result.keypoints[0].tolist(), strict=True))
    for part, place in {
        "right_eye": (206, 102),
        "left_eye": (247, 106),
        "nose_tip": (224, 127),
        "mouth": (223, 147),
    }.items():
        np.testing.assert_allclose(keypoints[part], place, atol=8, err_msg=part)
