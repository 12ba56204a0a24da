"""Models that are damaged on purpose, in both formats: a guard that lets one of them through is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import Contract, Format
from edgesdk.profiles import load_profile
from edgesdk_converters.contract import build_contract
from edgesdk_converters.frontends import read_source
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.progress import Quiet
from edgesdk_converters.samples import gather
from edgesdk_converters.spec import ModelSpec, OutputHint
from edgesdk_converters.tflite.lower import lower
from edgesdk_converters.variants import Family, Form
from edgesdk_converters.variants.opening import open_family

EXAMPLE = Path(__file__).parents[3] / "examples" / "train_detector"
FORMATS: tuple[Format, ...] = ("onnx", "tflite")
Array = NDArray[Any]


@dataclass(frozen=True)
class Court:
    """A model, and the guard that knows it."""

    family: Family
    contract: Contract
    judge: Judge
    expected: Sequence[list[Array]]
    float_form: Form

    def model(self) -> onnx.ModelProto:
        """The float graph."""
        return onnx.load_from_string(self.float_form.content)

    def reasons(self, model: onnx.ModelProto, kind: Format) -> str:
        """Why the guard refuses the model as an int8 file; empty is a yes."""
        content = lower(model) if kind == "tflite" else model.SerializeToString()
        names = self.float_form
        form = Form(content=content, format=kind, precision="int8", inputs=names.inputs, outputs=names.outputs)
        runner = self.family.open(form)
        measurement = self.judge.judge(form.id, form, runner, runner, always_time=False)
        assert measurement.kept == (not measurement.reasons)
        return "\n".join(measurement.reasons)


def court(path: Path, calibration: Path, spec: ModelSpec, media: Any, evaluation: Path | None = None) -> Court:
    source = read_source(path, spec)
    family = open_family(source, spec, load_profile("raspberry-pi-5"), FORMATS, Quiet())
    contract, _ = build_contract(
        source, spec, shapes=family.shapes, outputs=family.outputs, branches=family.branches, media=media
    )
    if media == "pictures":
        contract = family.settle(contract)
    runner = family.source()
    samples = gather(contract, runner.run, calibration, evaluation, Quiet())
    # Room for the float weights: the files here are damaged, not small.
    judge = Judge(contract, runner, samples.held_out, source_size_bytes=1 << 30, optimize="size")
    expected = [[np.array(one) for one in runner.run(feed)] for unit in samples.held_out for feed in unit]
    return Court(family, contract, judge, expected, next(form for form in family.floats() if form.format == "onnx"))


def changed(model: onnx.ModelProto, factor: Array | float = 1.0, offset: Array | float = 0.0) -> onnx.ModelProto:
    """The model with ``y * factor + offset`` for its last output ``y``."""
    name = model.graph.output[-1].name
    dtype = helper.tensor_dtype_to_np_dtype(model.graph.output[-1].type.tensor_type.elem_type)
    for node in model.graph.node:
        node.output[:] = ["damage_whole" if one == name else one for one in node.output]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, dtype), label)
        for label, value in (("damage_factor", factor), ("damage_offset", offset))
    )
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["damage_whole", "damage_factor"], ["damage_part"], "damage_mul"),
            helper.make_node("Add", ["damage_part", "damage_offset"], [name], "damage_add"),
        ]
    )
    return model


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Court:
    """The trained detector of the examples: (1, 4 boxes + 4 scores, anchors) on drawn scenes."""
    pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        scenes: ModuleType = __import__("scenes")
        folder = scenes.write_folder(tmp_path_factory.mktemp("scenes"), count=60, seed=41)
    return court(EXAMPLE / "detector.onnx", folder, ModelSpec(), "pictures")


def vector(**values: float) -> Array:
    """(1, 8, 1): a value per channel, one elsewhere: x, y, w, h, ball, ..."""
    found = np.ones((1, 8, 1), np.float32)
    for name, value in values.items():
        found[0, ["x", "y", "w", "h", "a", "b", "c", "d"].index(name)] = value
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_guard__an_undamaged_detector_passes(detector: Court, kind: Format) -> None:
    assert detector.reasons(detector.model(), kind) == ""
    noise = np.random.default_rng(0).normal(0, 0.5, (1, 8, detector.expected[0][0].shape[2]))
    noise[:, 4:] *= 0.002
    assert detector.reasons(changed(detector.model(), offset=noise), kind) == ""


def _mean(detector: Court, start: int, stop: int) -> tuple[Array, Array]:
    """Factor and offset that make channels always say their mean."""
    mean = np.mean([one[0] for one in detector.expected], axis=0)
    factor, offset = np.ones((1, 8, 1), np.float32), np.zeros_like(mean)
    factor[:, start:stop], offset[:, start:stop] = 0.0, mean[:, start:stop]
    return factor, offset


DAMAGE: dict[str, tuple[Callable[[Court], tuple[Any, Any]], str]] = {
    "a channel of the boxes is zero": (lambda _: (vector(w=0.0), 0.0), r"boxes|\[0:4\]"),
    "a class is dead": (lambda _: (vector(c=0.0), 0.0), r"channel 2 of 4|F1"),
    "boxes lie four pixels to the right": (lambda _: (1.0, vector(x=5.0) - 1), r"overlap those of the float model by 0\.\d+ on average"),
    "scores are scaled": (lambda _: (vector(a=0.8, b=0.8, c=0.8, d=0.8), 0.0), "expected at least 20 dB"),
    "boxes are always the same": (lambda one: _mean(one, 0, 4), "F1"),
    "scores are always the same": (lambda one: _mean(one, 4, 8), "F1|expected at least 20 dB"),
    "one value is NaN": (lambda _: (1.0, vector(d=float("nan")) - 1), "NaN, infinity or another shape"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_guard__a_damaged_detector_is_refused(detector: Court, damage: str, kind: Format) -> None:
    made, reason = DAMAGE[damage]
    factor, offset = made(detector)
    found = detector.reasons(changed(detector.model(), factor, offset), kind)
    assert re.search(reason, found), found


CLASSES, WIDTH = 6, 24


def _centres() -> Array:
    return np.random.default_rng(5).normal(0, 1, (CLASSES, WIDTH)).astype(np.float32)


def _classifier(path: Path, *, softmax: bool = True) -> Path:
    """Nearest centre: logits 2 W x, which a Softmax makes sure."""
    weights = (2 * _centres() / np.linalg.norm(_centres(), axis=1, keepdims=True)).T
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y" if not softmax else "logits"], "head")]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["y"], "softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", 1, [1, WIDTH])],
        [helper.make_tensor_value_info("y", 1, [1, CLASSES])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(CLASSES, np.float32), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _folder(path: Path, classes: Sequence[int]) -> Path:
    rng = np.random.default_rng(6)
    path.mkdir()
    np.save(
        path / "samples.npy", _centres()[list(classes)] + rng.normal(0, 0.4, (len(classes), WIDTH)).astype(np.float32)
    )
    return path


BY_CLASS = ModelSpec(outputs={"y": OutputHint(class_axis=1)})


@pytest.fixture(params=[True, False], ids=["probabilities", "logits"])
def many(tmp_path: Path, request: pytest.FixtureRequest) -> Court:
    """Two hundred samples, of which three are of class 5."""
    judged = [5 if index in (20, 90, 150) else index % 5 for index in range(200)]
    model = _classifier(tmp_path / "m.onnx", softmax=request.param)
    return court(
        model,
        _folder(tmp_path / "c", [index % CLASSES for index in range(60)]),
        BY_CLASS,
        "arrays",
        _folder(tmp_path / "e", judged),
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_guard__a_damaged_classifier_is_refused(many: Court, kind: Format) -> None:
    assert many.reasons(many.model(), kind) == ""
    assert sum(int(one[0].argmax()) == 5 for one in many.expected) == 3
    alive = np.asarray([[1, 1, 1, 1, 1, 0]], np.float32)
    # Three of two hundred are 1.5 %: the agreement is still 0.985.
    found = many.reasons(changed(many.model(), alive, alive - 1), kind)
    assert "class 5: float is sure of it 3 times, the variant agrees in 0 of them, expected at least half" in found
    assert "a threshold on them would no longer hold" in many.reasons(changed(many.model(), 0.6), kind)
    always = np.mean([one[0] for one in many.expected], axis=0)
    assert "top-1 agreement" in many.reasons(changed(many.model(), 0.0, always), kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_guard__few_votes_are_not_enough_for_a_damaged_classifier(tmp_path: Path, kind: Format) -> None:
    # Six held-out samples, all of one class: an answer that never changes agrees with all of them.
    small = court(_classifier(tmp_path / "m.onnx"), _folder(tmp_path / "c", [3] * 30), BY_CLASS, "arrays")
    assert len(small.expected) == 6
    assert small.reasons(small.model(), kind) == ""
    sure_of_it = np.eye(CLASSES, dtype=np.float32)[[3]]
    found = small.reasons(changed(small.model(), 0.0, 0.4 * sure_of_it + 0.1), kind)
    assert "where so few class vectors are judged: 6, give 50 or more" in found
