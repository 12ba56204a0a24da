"""What every registered task must do, whatever it does: one example contract each, found by its entry point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgesdk import registry
from edgesdk.bundle.manifest import (
    AudioInput,
    Contract,
    ImageInput,
    InputSpec,
    OutputSpec,
    StateInput,
    TensorInput,
)
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Picture, Sample, Tensors
from edgesdk.tasks import Result, Task, make_task

Run = Callable[[Sequence[Any]], list[Any]]


def _image(height: int, width: int, **how: Any) -> InputSpec:
    source = ImageInput(layout="NCHW", **how)
    return InputSpec(name="image", shape=(1, 3, height, width), dtype="float32", source=source)


def _output(name: str, *shape: int) -> OutputSpec:
    return OutputSpec(name=name, shape=shape, dtype="float32")


PICTURE = Picture(pixels=np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3))
AUDIO = Audio(pcm=np.linspace(-1, 1, 512, dtype=np.float32), sample_rate_hz=16000)
TENSORS = Tensors(arrays={"x": np.ones((1, 3), np.float32)})

EXAMPLES: dict[str, tuple[Contract, Sample]] = {
    "raw": (
        Contract(
            task="raw",
            inputs=(
                InputSpec(name="x", shape=(1, 3), dtype="float32", source=TensorInput()),
                InputSpec(name="h", shape=(1, 2), dtype="float32", source=StateInput(from_output="hn")),
            ),
            outputs=(_output("y", 1, 3), _output("hn", 1, 2)),
        ),
        TENSORS,
    ),
    "image-classification": (
        Contract(
            task="image-classification",
            inputs=(_image(32, 32),),
            outputs=(_output("y", 1, 3),),
            labels=("a", "b", "c"),
        ),
        PICTURE,
    ),
    "object-detection": (
        Contract(
            task="object-detection",
            inputs=(_image(32, 32, fit="letterbox"),),
            outputs=(_output("y", 1, 6, 21),),
            options={"coordinates": "normalised"},
        ),
        PICTURE,
    ),
    "face-detection": (
        Contract(
            task="face-detection",
            inputs=(_image(128, 128, fit="letterbox"),),
            outputs=(_output("regressors", 1, 896, 16), _output("classificators", 1, 896, 1)),
        ),
        PICTURE,
    ),
    "face-keypoints": (
        Contract(
            task="face-keypoints",
            inputs=(_image(192, 192),),
            outputs=(_output("points", 1, 1, 1, 1404), _output("face", 1, 1, 1, 1)),
        ),
        PICTURE,
    ),
    "text-detection": (
        Contract(
            task="text-detection", inputs=(_image(64, 64, fit="letterbox"),), outputs=(_output("map", 1, 1, 64, 64),)
        ),
        PICTURE,
    ),
    "text-direction": (
        Contract(task="text-direction", inputs=(_image(48, 192, fit="pad-right"),), outputs=(_output("y", 1, 2),)),
        PICTURE,
    ),
    "text-recognition": (
        Contract(
            task="text-recognition",
            inputs=(_image(48, 160, fit="pad-right"),),
            outputs=(_output("y", 1, 20, 4),),
            labels=("a", "b", "c"),
        ),
        PICTURE,
    ),
    "voice-activity": (
        Contract(
            task="voice-activity",
            inputs=(
                InputSpec(
                    name="input",
                    shape=(1, 576),
                    dtype="float32",
                    source=AudioInput(sample_rate_hz=16000, chunk_samples=512, context_samples=64),
                ),
                InputSpec(name="state", shape=(2, 1, 128), dtype="float32", source=StateInput(from_output="stateN")),
            ),
            outputs=(_output("output", 1, 1), _output("stateN", 2, 1, 128)),
        ),
        AUDIO,
    ),
}


def _session(contract: Contract, fill: float = 0.0) -> Run:
    """A session that checks what it is fed, as a backend would, and returns constants."""

    def run(feed: Sequence[Any]) -> list[Any]:
        for spec, array in zip(contract.inputs, feed, strict=True):
            assert (array.shape, str(array.dtype)) == (spec.shape, spec.dtype), spec.name
            assert array.flags.c_contiguous, spec.name
        return [np.full(spec.shape, fill, spec.dtype) for spec in contract.outputs]

    return run


def _plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_plain(item) for item in value)
    return value is None or type(value) in {str, int, float, bool}


tasks = pytest.mark.parametrize("name", sorted(registry.plugins(registry.TASKS)))


@tasks
def test_task__has_an_example_here(name: str) -> None:
    assert name in EXAMPLES, f"add a contract and a sample for task {name!r} to EXAMPLES"


@tasks
def test_task__satisfies_the_protocol(name: str) -> None:
    contract, _ = EXAMPLES[name]
    task = make_task(contract)
    assert isinstance(task, Task)
    assert task.contract is contract


@tasks
@pytest.mark.parametrize("fill", [0.0, 1.0, -100.0], ids=["zeros", "ones", "far below"])
def test_task__constant_outputs_give_a_plain_result(name: str, fill: float) -> None:
    contract, sample = EXAMPLES[name]
    result = make_task(contract)(_session(contract, fill), sample)
    assert isinstance(result, Result)
    listed = result.to_json()
    assert _plain(listed), listed
    assert listed["kind"] == result.kind
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed


@tasks
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e20], ids=str)
def test_task__wild_outputs_give_valid_json_or_a_task_error(name: str, value: float) -> None:
    """What a model that was quantized to death returns: no crash, no warning, no NaN in a payload."""
    contract, sample = EXAMPLES[name]
    random = np.random.default_rng(0)

    def run(_: Sequence[Any]) -> list[Any]:
        outputs = []
        for spec in contract.outputs:
            output = random.normal(0, 30, spec.shape).astype(spec.dtype)
            output[random.random(spec.shape) < 0.2] = value
            outputs.append(output)
        return outputs

    task = make_task(contract)
    for _ in range(3):
        try:
            result = task(run, sample)
        except TaskError:
            continue
        json.dumps(result.to_json(), allow_nan=False)


@tasks
def test_task__feeds_are_copies_in_the_contracts_shapes(name: str) -> None:
    contract, sample = EXAMPLES[name]
    task = make_task(contract)
    feeds = task.feeds(sample)
    assert feeds
    kept = [[array.copy() for array in feed] for feed in feeds]
    for feed in feeds:
        _session(contract)(feed)
    other = Picture(pixels=255 - PICTURE.pixels) if isinstance(sample, Picture) else sample
    task(_session(contract), other)
    task.feeds(other)
    for before, feed in zip(kept, feeds, strict=True):
        for expected, array in zip(before, feed, strict=True):
            np.testing.assert_array_equal(array, expected)


@tasks
def test_task__reset_makes_the_next_result_like_the_first(name: str) -> None:
    contract, sample = EXAMPLES[name]
    task = make_task(contract)
    first = task(_session(contract, 0.6), sample).to_json()
    task(_session(contract, 0.4), sample)
    task.reset()
    assert task(_session(contract, 0.6), sample).to_json() == first


@tasks
def test_task__unknown_option_is_refused_with_the_nearest(name: str) -> None:
    contract, _ = EXAMPLES[name]
    with pytest.raises(TaskError, match=rf"option 'thresholdd' of task '{name}' is unknown\..*Known: "):
        make_task(msgspec.structs.replace(contract, options={"thresholdd": 1}))


@tasks
@pytest.mark.parametrize("outputs", [(), (_output("strange", 3, 5, 7, 9), _output("odd", 11))], ids=["none", "strange"])
def test_task__outputs_that_do_not_fit_are_refused(name: str, outputs: tuple[OutputSpec, ...]) -> None:
    contract, _ = EXAMPLES[name]
    if name == "raw":
        contract = msgspec.structs.replace(contract, outputs=())  # raw takes all, but its state's source is missing
    else:
        contract = msgspec.structs.replace(contract, outputs=outputs)
    with pytest.raises(TaskError) as caught:
        make_task(contract)
    assert name in str(caught.value)


@tasks
def test_task__wrong_kind_of_sample_is_refused(name: str) -> None:
    contract, sample = EXAMPLES[name]
    wrong = AUDIO if not isinstance(sample, Audio) else PICTURE
    with pytest.raises(TaskError, match=type(wrong).__name__):
        make_task(contract)(_session(contract), wrong)


@tasks
def test_task__session_with_other_shapes_is_refused(name: str) -> None:
    contract, sample = EXAMPLES[name]
    with pytest.raises(TaskError, match="shape"):
        make_task(contract)(lambda _: [np.zeros((2, 2), np.float32) for _ in contract.outputs], sample)


PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def _documented() -> dict[str, dict[str, str]]:
    """``{task: {option: default as written}}`` off the tables of docs/tasks.md.

    A section names its tasks in its heading; one of several tasks has the task in a first column, empty where it is that of
    the row above.
    """
    found: dict[str, dict[str, str]] = {}
    tasks: list[str] = []
    current = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            tasks = line.removeprefix("## ").split(", ")
            current = tasks[0]
            found.update({task: {} for task in tasks})
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(cells[0]) == {"-"} or "option" in cells:
            continue
        if len(tasks) > 1:
            current = cells.pop(0) or current
        found[current][cells[0].strip("`")] = cells[1]
    return found


def _written(default: object) -> str:
    """A default as the page writes it."""
    if isinstance(default, str):
        return f"`{default}`"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}"  # a number: the rest was told apart before


@tasks
def test_task__its_options_are_documented_with_their_defaults(name: str) -> None:
    """Options are what people write into a model spec; docs/tasks.md is where they look them up."""
    fields = msgspec.structs.fields(type(make_task(EXAMPLES[name][0])).Options)  # type: ignore[attr-defined]  # by convention
    table = _documented()[name]
    assert sorted(table) == sorted(field.encode_name for field in fields)
    for field in fields:
        if field.default is None or field.default == ():  # prose says what that means
            assert table[field.encode_name], field.encode_name
        else:
            assert table[field.encode_name] == _written(field.default), field.encode_name
