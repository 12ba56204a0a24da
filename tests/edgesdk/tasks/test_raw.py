from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import (
    AudioInput,
    ConstantInput,
    Contract,
    ImageInput,
    InputKind,
    InputSpec,
    OutputSpec,
    StateInput,
    TensorInput,
)
from edgesdk.errors import TaskError
from edgesdk.samples import Picture, Tensors
from edgesdk.tasks.raw import RawTask


def _input(name: str, source: InputKind, *shape: int) -> InputSpec:
    return InputSpec(name=name, shape=shape, dtype="float32", source=source)


def _output(name: str, *shape: int) -> OutputSpec:
    return OutputSpec(name=name, shape=shape, dtype="float32")


COUNTER = Contract(
    task="raw",
    inputs=(
        _input("x", TensorInput(), 1, 2),
        _input("h", StateInput(from_output="hn"), 1),
        _input("k", ConstantInput(value=3), 1),
    ),
    outputs=(_output("y", 1, 2), _output("hn", 1)),
)


def _count(feed: Sequence[Any]) -> list[Any]:
    x, h, k = feed
    return [x * k, h + x.sum(keepdims=True).reshape(1)]


def test_raw__state_follows_its_output_until_reset() -> None:
    task = RawTask(COUNTER)
    sample = Tensors(arrays={"x": np.array([[1, 2]], np.float32)})
    assert [float(task(_count, sample).arrays["hn"][0]) for _ in range(3)] == [3, 6, 9]
    np.testing.assert_array_equal(task.feeds(sample)[0][1], [0])
    task.reset()
    result = task(_count, sample)
    assert float(result.arrays["hn"][0]) == 3
    np.testing.assert_array_equal(result.arrays["y"], [[3, 6]])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"no array for input 'x' \(float32 \(1, 2\)\).*it has: none.*Name npz keys"),
        (
            {"x": np.zeros((2, 1), np.float32)},
            r"is float32 \(2, 1\), the model takes float32 \(1, 2\)\. Convert it: array.astype",
        ),
        ({"x": np.zeros((1, 2))}, r"is float64 \(1, 2\)"),
        ({"x": np.zeros((1, 2), np.float32), "z": np.zeros(1)}, r"'z' is no input that takes an array\. Those are: x"),
    ],
    ids=["missing", "shape", "dtype", "unknown"],
)
def test_raw__wrong_arrays_are_refused(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        RawTask(COUNTER)(_count, Tensors(arrays=arrays))


def test_raw__takes_a_picture() -> None:
    image = _input("image", ImageInput(layout="NHWC"), 1, 4, 4, 3)
    contract = Contract(task="raw", inputs=(image,), outputs=(_output("y", 1, 4, 4, 3),))
    result = RawTask(contract)(lambda feed: [feed[0].copy()], Picture(pixels=np.full((9, 7, 3), 255, np.uint8)))
    np.testing.assert_allclose(result.arrays["y"], 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((_input("a", AudioInput(sample_rate_hz=16000, chunk_samples=4), 1, 4),), "kind audio.*voice-activity"),
        (
            (_input("a", ImageInput(layout="NHWC"), 1, 4, 4, 3), _input("b", ImageInput(layout="NHWC"), 1, 4, 4, 3)),
            "'a' and 'b' are both of kind image.*pass both as Tensors",
        ),
        ((_input("h", StateInput(from_output="gone"), 1),), "follows output 'gone', which is not there. Outputs: y"),
    ],
    ids=["audio", "two pictures", "state"],
)
def test_raw__inputs_it_cannot_feed_are_refused(inputs: tuple[InputSpec, ...], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        RawTask(Contract(task="raw", inputs=inputs, outputs=(_output("y", 1),)))
