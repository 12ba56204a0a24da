from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Branch, Contract, ImageInput, InputSpec, OutputSpec, TensorInput
from edgesdk_converters.guard.formats import Alike, decision_of


def classifier() -> Contract:
    return Contract(
        task="raw",
        inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32", branches=(Branch(name="y", class_axis=1),)),),
    )


def detector() -> Contract:
    return Contract(
        task="object-detection",
        inputs=(InputSpec(name="x", shape=(1, 3, 64, 64), dtype="float32", source=ImageInput(layout="NCHW")),),
        outputs=(OutputSpec(name="y", shape=(1, 6, 10), dtype="float32"),),
        labels=("a", "b"),
    )


def votes(*classes: int) -> list[NDArray[np.float32]]:
    return [np.eye(3, dtype=np.float32)[None, index] for index in classes]


def counted(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> Alike:
    alike = Alike(classifier())
    for x, y in zip(a, b, strict=True):
        alike.add([x], [y])
    return alike


def test_alike__one_miss_of_a_dozen_is_allowed_and_two_are_not() -> None:
    assert not counted(votes(*[0] * 12), votes(*[0] * 11, 1)).missed()
    missed = counted(votes(*[0] * 12), votes(*[0] * 10, 1, 2)).missed()
    assert missed.startswith("ONNX and TFLite decide differently on 2 of 12 inferences, expected at most 1 %")


@pytest.mark.parametrize(("unlike", "refused"), [(3, False), (4, True)])
def test_alike__one_percent_of_many(unlike: int, refused: bool) -> None:
    alike = counted(votes(*[0] * 300), votes(*[1] * unlike, *[0] * (300 - unlike)))
    assert bool(alike.missed()) is refused


def test_alike__values_without_a_decision_are_not_counted() -> None:
    contract = Contract(
        task="raw",
        inputs=classifier().inputs,
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32"),),
    )
    assert decision_of(contract) is None
    alike = Alike(contract)
    alike.add(votes(0), votes(1))
    assert (alike.samples, alike.missed()) == (0, "")


def scene(*boxes: tuple[float, float, float, float, float]) -> list[NDArray[np.float32]]:
    """Centre, size and score of objects of the first class."""
    rows = np.zeros((1, 6, 10), np.float32)
    for index, (x, y, w, h, score) in enumerate(boxes):
        rows[0, :5, index] = x, y, w, h, score
    return [rows]


def test_alike__boxes_must_all_find_their_partner() -> None:
    decide = decision_of(detector())
    assert decide is not None
    assert len(decide(scene((20, 20, 10, 10, 0.9)))) == 1
    near, one_more, elsewhere = Alike(detector()), Alike(detector()), Alike(detector())
    base = scene((20, 20, 10, 10, 0.9))
    near.add(base, scene((21, 20, 10, 10, 0.6)))
    one_more.add(base, scene((20, 20, 10, 10, 0.9), (50, 50, 10, 10, 0.26)))
    elsewhere.add(base, scene((30, 20, 10, 10, 0.9)))
    assert (near.unlike, one_more.unlike, elsewhere.unlike) == (0, 1, 1)
