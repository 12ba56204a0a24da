from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec, Quantization, TensorInput
from edgesdk.errors import TaskError
from edgesdk.samples import Picture
from edgesdk.tasks.results import Classification
from edgesdk.tasks.vision.classification import ImageClassification

PICTURE = Picture(pixels=np.zeros((8, 8, 3), np.uint8))
IMAGE = InputSpec(name="image", shape=(1, 8, 8, 3), dtype="float32", source=ImageInput(layout="NHWC"))


def _contract(shape: tuple[int, ...], labels: tuple[str, ...] = (), **options: Any) -> Contract:
    output = OutputSpec(name="scores", shape=shape, dtype="float32")
    return Contract(task="image-classification", inputs=(IMAGE,), outputs=(output,), labels=labels, options=options)


def _classify(values: Any, labels: tuple[str, ...] = (), **options: Any) -> Classification:
    output = np.asarray(values, np.float32)[None]
    return ImageClassification(_contract(output.shape, labels, **options))(lambda _: [output], PICTURE)


def test_classification__logits_become_probabilities() -> None:
    result = _classify([0.0, 2.0, 1.0, -1.0], ("a", "b", "c", "d"), top_k=2)
    expected = np.exp([2.0, 1.0]) / np.exp([0.0, 2.0, 1.0, -1.0]).sum()
    np.testing.assert_allclose(result.scores, expected, rtol=1e-5)
    assert result.labels == ("b", "c")
    assert result.class_ids.tolist() == [1, 2]


def test_classification__probabilities_stay() -> None:
    result = _classify([0.1, 0.7, 0.2])
    np.testing.assert_allclose(result.scores, [0.7, 0.2, 0.1], rtol=1e-6)
    assert result.labels == ("class 1", "class 2", "class 0")


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("none", [3.0, -3.0]), ("sigmoid", [0.952574, 0.047426]), ("softmax", [0.997527, 0.002473])],
)
def test_classification__activation(activation: str, expected: list[float]) -> None:
    np.testing.assert_allclose(_classify([-3.0, 3.0], activation=activation).scores, expected, rtol=1e-3)


def test_classification__score_threshold_may_leave_nothing() -> None:
    result = _classify([0.4, 0.6], score_threshold=0.9)
    assert len(result) == 0
    assert result.to_json() == {"kind": "classification", "classes": []}


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1), (1, 1, 4)])
def test_classification__any_vector(shape: tuple[int, ...]) -> None:
    assert _classify(np.arange(4.0).reshape(shape)).class_ids.tolist() == [3, 2, 1, 0]


def test_classification__int8_probabilities_need_not_sum_to_one() -> None:
    """A flat softmax over many classes loses half its sum to rounding; it is still one."""
    quantization = Quantization(scale=(1 / 256,), zero_point=(-128,))
    output = OutputSpec(name="scores", shape=(1, 100), dtype="int8", quantization=quantization)
    values = np.full((1, 100), -128, np.int8)
    values[0, 5] = 0
    contract = Contract(task="image-classification", inputs=(IMAGE,), outputs=(output,), options={"top_k": 1})
    result = ImageClassification(contract)(lambda _: [values], PICTURE)
    assert result.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "b"), "list of labels is shorter than the model's classes: 2 labels, 3 classes"),
        (("a", "b", "c", "d"), "list of labels is longer than the model's classes: 4 labels, 3 classes"),
    ],
)
def test_classification__wrong_number_of_labels_is_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(TaskError, match=message + r".*Give one label per class"):
        ImageClassification(_contract((1, 3), labels))


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 4)])
def test_classification__outputs_that_are_no_vector_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(TaskError, match=r"outputs are scores \(.*; expected one output \(1, classes\)"):
        ImageClassification(_contract(shape))


def test_classification__one_class_needs_an_activation() -> None:
    with pytest.raises(TaskError, match=r"softmax over one class is always 1.*Set option 'activation' to 'sigmoid'"):
        ImageClassification(_contract((1, 1)))
    assert _classify([0.0], activation="sigmoid").scores.tolist() == [0.5]


def test_classification__nan_is_an_error() -> None:
    with pytest.raises(TaskError, match="'scores' holds NaN or infinity"):
        _classify([0.1, np.nan])


def test_classification__all_option_problems_at_once() -> None:
    with pytest.raises(TaskError) as caught:
        ImageClassification(_contract((1, 3), top_k=0, activaton="none"))
    assert "'top_k' of task 'image-classification' is 0" in str(caught.value)
    assert "'activaton' of task 'image-classification' is unknown. Did you mean 'activation'?" in str(caught.value)


def test_picture_task__inputs_that_are_no_picture_are_refused() -> None:
    tensor = InputSpec(name="x", shape=(1, 3), dtype="float32", source=TensorInput())
    output = OutputSpec(name="scores", shape=(1, 3), dtype="float32")
    with pytest.raises(TaskError, match=r"takes one input of kind image.*x \(TensorInput\).*use task 'raw'"):
        ImageClassification(Contract(task="image-classification", inputs=(tensor,), outputs=(output,)))
