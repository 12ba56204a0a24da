"""Recognition reads lines of any width through a static input; direction looks at the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import TaskError
from edgesdk.samples import Picture, Tensors
from edgesdk.tasks.api import Array, Task
from edgesdk.tasks.vision.text_recognition import TextDirection, TextRecognition

pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")

# The model of these tests reads bars: one step is eight pixels wide and its class is the brightness of their middle.
LETTERS = ("a", "b", "c")
LEVEL = {"-": 0, "a": 80, "b": 160, "c": 240}


def _contract(
    *, steps: int = 20, labels: tuple[str, ...] = LETTERS, fit: Any = "pad-right", **options: Any
) -> Contract:
    source = ImageInput(layout="NCHW", colour="GREY", scale=1.0, fit=fit, pad_value=0)
    return Contract(
        task="text-recognition",
        inputs=(InputSpec(name="x", shape=(1, 1, 16, 160), dtype="float32", source=source),),
        outputs=(OutputSpec(name="steps", shape=(1, steps, 4), dtype="float32"),),
        labels=labels,
        options=options,
    )


class _Reader:
    def __init__(self) -> None:
        self.seen: list[Array] = []

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        (values,) = inputs
        assert values.shape == (1, 1, 16, 160)
        self.seen.append(values.copy())
        steps = values[0, 0, 8].reshape(20, 8)[:, 3:5].mean(axis=1)
        classes = np.round(steps / 80).astype(int)
        return [np.eye(4, dtype=np.float32)[classes][np.newaxis] * np.float32(0.9)]


def _line(text: str, height: int = 16) -> Picture:
    bars = np.repeat(np.array([LEVEL[character] for character in text], np.uint8), 8 * height // 16)
    return Picture(pixels=np.tile(bars, (height, 1)), colour="GREY")


def _bars(text: str) -> str:
    """Every character with a blank behind it: one bar each, so that repeats stay apart."""
    return "".join(f"{character}-" for character in text)


def test_recognition__short_line_goes_through_once() -> None:
    task, reader = TextRecognition(_contract()), _Reader()
    assert isinstance(task, Task)
    line = task(reader, _line(_bars("abcab")))
    assert (line.text, len(reader.seen)) == ("abcab", 1)
    assert line.score == pytest.approx(0.9)
    assert not reader.seen[0][..., 90:].any()  # padded on the right, not stretched
    assert line.quad.tolist() == [[0, 0], [80, 0], [80, 16], [0, 16]]


@pytest.mark.parametrize("height", [16, 32])
@pytest.mark.parametrize("length", [11, 12, 17, 23, 40])
def test_recognition__long_line_is_read_in_windows_and_nothing_twice(length: int, height: int) -> None:
    text = ("abcacbbac" * 5)[:length]
    task, reader = TextRecognition(_contract(squeeze=1.0)), _Reader()
    assert task(reader, _line(_bars(text), height)).text == text
    assert len(reader.seen) > 1
    assert len(task.feeds(_line(_bars(text), height))) == len(reader.seen)


def test_recognition__a_little_too_long_is_squeezed() -> None:
    reader = _Reader()
    TextRecognition(_contract(squeeze=1.1))(reader, _line("a" * 22))
    assert len(reader.seen) == 1


def test_recognition__number_of_windows_is_bounded() -> None:
    reader = _Reader()
    TextRecognition(_contract(max_windows=3))(reader, _line("a" * 400))
    assert len(reader.seen) == 3


def test_recognition__steps_that_do_not_divide_the_width_are_squeezed() -> None:
    probabilities = np.full((1, 19, 4), 0.25, np.float32)
    line = TextRecognition(_contract(steps=19))(lambda _: [probabilities], _line("a" * 60))
    assert line.text == ""


def test_recognition__logits_and_an_empty_line() -> None:
    logits = np.zeros((1, 20, 4), np.float32)
    logits[..., 0] = 9
    task = TextRecognition(_contract(activation="softmax"))
    assert task(lambda _: [logits], _line("----")).to_json() == {
        "kind": "text_line",
        "text": "",
        "score": 0.0,
        "quad": [[0.0, 0.0], [32.0, 0.0], [32.0, 16.0], [0.0, 16.0]],
    }
    logits[0, 3] = [0, 9, 0, 0]
    line = task(lambda _: [logits], _line("----"))
    assert line.text == "a"
    assert line.score == pytest.approx(np.exp(9) / (np.exp(9) + 3), rel=1e-4)
    assert json.loads(json.dumps(line.to_json()))["score"] == round(line.score, 4)


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        (_contract(labels=("a",)), "got 1 labels for 4 classes"),
        (
            _contract(fit="letterbox"),
            "is fitted by 'letterbox', expected 'pad-right' or 'stretch'. Say `fit: pad-right`",
        ),
        (_contract(blank=0), r"option 'blank' of task 'text-recognition' is unknown. Did you mean 'blank_index'\?"),
        (_contract(squeeze=0.5), "option 'squeeze' of task 'text-recognition' is 0.5: Expected `float` >= 1"),
    ],
)
def test_recognition__contract_that_does_not_fit(contract: Contract, expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        TextRecognition(contract)


def test_recognition__samples_that_it_does_not_take() -> None:
    task = TextRecognition(_contract())
    with pytest.raises(TaskError, match=r"got Tensors .*, it takes a Picture"):
        task(_Reader(), Tensors(arrays={}))
    with pytest.raises(TaskError, match="The picture is empty"):
        task(_Reader(), Picture(pixels=np.zeros((0, 8), np.uint8), colour="GREY"))


def _direction(labels: tuple[str, ...] = ("0", "180"), **options: Any) -> Contract:
    source = ImageInput(layout="NCHW", colour="GREY", scale=1.0, fit="pad-right", pad_value=0)
    return Contract(
        task="text-direction",
        inputs=(InputSpec(name="x", shape=(1, 1, 16, 64), dtype="float32", source=source),),
        outputs=(OutputSpec(name="scores", shape=(1, 2), dtype="float32"),),
        labels=labels,
        options=options,
    )


@pytest.mark.parametrize(
    ("labels", "scores", "degrees"),
    [((), [0.2, 0.8], 180), (("0", "180"), [0.7, 0.3], 0), (("180", "0"), [0.7, 0.3], 180)],
)
def test_direction__by_its_labels(labels: tuple[str, ...], scores: list[float], degrees: int) -> None:
    result = TextDirection(_direction(labels))(lambda _: [np.array([scores], np.float32)], _line("ab"))
    assert result.to_json() == {"kind": "text_direction", "degrees": degrees, "score": round(max(scores), 4)}


def test_direction__logits() -> None:
    task = TextDirection(_direction(activation="softmax"))
    assert task(lambda _: [np.array([[0, 2]], np.float32)], _line("ab")).score == pytest.approx(0.8808, abs=1e-4)


def test_direction__sees_the_middle_of_a_long_line_unsqueezed() -> None:
    seen: list[NDArray[Any]] = []

    def run(inputs: Sequence[Array]) -> list[Array]:
        seen.append(inputs[0].copy())
        return [np.array([[1, 0]], np.float32)]

    TextDirection(_direction())(run, _line("a" * 10 + "bbbbcccc" + "a" * 10))
    assert np.array_equal(seen[0][0, 0, 0], np.repeat([160.0, 240.0], 32))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(("0", "90"), "labels are .* expected '0' and '180'"), (("0",), "list of labels is shorter")],
)
def test_direction__labels_that_do_not_fit(labels: tuple[str, ...], expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        TextDirection(_direction(labels))


@pytest.mark.parametrize("activation", ["none", "softmax"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_recognition__nan_is_an_error_in_one_window_and_in_several(activation: str, value: float) -> None:
    broken = np.zeros((1, 20, 4), np.float32)
    broken[0, 19, 0] = value  # the blank's, in the part that two windows share
    task = TextRecognition(_contract(activation=activation))
    for line in ("ab", "ab" * 30):
        with pytest.raises(
            TaskError, match=r"TextLine\.score holds NaN or infinity.*run a variant of higher precision"
        ):
            task(lambda _: [broken], _line(line))


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_recognition__absurd_numbers_make_no_absurd_score(activation: str) -> None:
    absurd = np.zeros((1, 20, 4), np.float32)
    absurd[0, ::2, 1] = 3e38
    absurd[0, 1::2, 0] = 3e38
    line = TextRecognition(_contract(activation=activation))(lambda _: [absurd], _line("ab"))
    assert (line.text, line.score) == ("a" * 10, 1.0)


@pytest.mark.parametrize("activation", ["none", "softmax"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_direction__nan_is_an_error(activation: str, value: float) -> None:
    task = TextDirection(_direction(activation=activation))
    with pytest.raises(TaskError, match=r"Direction\.score holds NaN or infinity.*run a variant of higher precision"):
        task(lambda _: [np.array([[0.5, value]], np.float32)], _line("ab"))
