"""The text detection task maps its map back to the picture, whatever the fit and the scale."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Picture
from edgesdk.tasks.api import Array, Task
from edgesdk.tasks.text_results import TextRegions
from edgesdk.tasks.vision.text_detection import TextDetection

pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")


def _contract(
    shape: tuple[int, ...] = (1, 1, 64, 64), *, fit: Any = "letterbox", options: dict[str, Any] | None = None
) -> Contract:
    source = ImageInput(layout="NCHW", mean=(0.5,), std=(0.5,), fit=fit)
    return Contract(
        task="text-detection",
        inputs=(InputSpec(name="x", shape=(1, 3, 64, 64), dtype="float32", source=source),),
        outputs=(OutputSpec(name="map", shape=shape, dtype="float32"),),
        options={"min_side": 1.0, "unclip_ratio": 0.01, "dilate": False, **(options or {})},
    )


def _bright(inputs: Sequence[Array]) -> list[Array]:
    """A model that finds every bright pixel to be text."""
    return [(inputs[0].mean(axis=1, keepdims=True) > 0.9).astype(np.float32)]


def _picture() -> Picture:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:40, 20:180] = 255
    pixels[60:80, 120:180] = 255
    pixels[60:80, 20:80] = 255
    return Picture(pixels=pixels, colour="BGR")


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_text_detection__quads_are_picture_pixels_in_reading_order(fit: str) -> None:
    task = TextDetection(_contract(fit=fit))
    assert isinstance(task, Task)
    result = task(_bright, _picture())
    assert isinstance(result, TextRegions)
    expected = [(20, 20, 180, 40), (20, 60, 80, 80), (120, 60, 180, 80)]
    corners = [[[le, to], [ri, to], [ri, bo], [le, bo]] for le, to, ri, bo in expected]
    np.testing.assert_allclose(result.quads, corners, atol=3.5)  # a pixel of the model is about three of the picture
    np.testing.assert_allclose(result.scores, [1, 1, 1], atol=0.1)
    assert result.picture_size_wh == (200, 100)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 16, 16, 1)])
def test_text_detection__map_of_another_scale_and_layout(shape: tuple[int, ...]) -> None:
    found = np.zeros((16, 16), np.float32)
    found[4:8, 2:14] = 0.8
    result = TextDetection(_contract(shape, fit="stretch"))(lambda _: [found.reshape(shape)], _picture())
    np.testing.assert_allclose(result.quads, [[[25, 25], [175, 25], [175, 50], [25, 50]]], atol=1)


def test_text_detection__border_of_the_canvas_is_not_the_picture() -> None:
    # Letterboxed, the picture covers rows 16..48; what the model sees above it does not exist.
    found = np.zeros((1, 1, 64, 64), np.float32)
    found[0, 0, 2:10, 10:50] = 1
    result = TextDetection(_contract())(lambda _: [found], _picture())
    assert len(result) == 0
    assert result.to_json() == {"kind": "text_regions", "picture_size_wh": [200, 100], "regions": []}


def test_text_detection__json_is_plain_and_rounded() -> None:
    built = TextDetection(_contract())(_bright, _picture()).to_json()
    assert json.loads(json.dumps(built)) == built
    assert len(built["regions"]) == 3
    quad = built["regions"][0]["quad"]
    assert all(value == round(value, 1) for corner in quad for value in corner)


def test_text_detection__feeds_are_the_arrays_of_the_inference() -> None:
    task = TextDetection(_contract())
    seen: list[Array] = []

    def run(inputs: Sequence[Array]) -> list[Array]:
        seen.append(inputs[0].copy())
        return _bright(inputs)

    task(run, _picture())
    (feed,) = task.feeds(_picture())
    assert np.array_equal(feed[0], seen[0])


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        (_contract((1, 2, 64, 64)), r"outputs are map \(1, 2, 64, 64\); expected one probability map \(1, 1, H, W\)"),
        (
            _contract(options={"box_treshold": 0.5}),
            r"option 'box_treshold' of task 'text-detection' is unknown. Did you mean 'box_threshold'\?",
        ),
        (_contract(options={"unclip_ratio": 0}), "option 'unclip_ratio' of task 'text-detection' is 0: Expected"),
    ],
)
def test_text_detection__contract_that_does_not_fit(contract: Contract, expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        TextDetection(contract)


def test_text_detection__sample_that_is_no_picture() -> None:
    audio = Audio(pcm=np.zeros(4, np.float32), sample_rate_hz=16000)
    with pytest.raises(TaskError, match=r"got Audio .*, it takes a Picture. Give it a picture file or a camera."):
        TextDetection(_contract())(_bright, audio)
