from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import ImageInput, InputSpec
from edgesdk.errors import ConversionError, PassError
from edgesdk_converters.graph.conditions import (
    NO_BATCH_NORM,
    SORTED,
    STATIC_SHAPES,
    UNIQUE_NAMES,
    opset_at_least,
)
from edgesdk_converters.graph.fold import fold_input
from edgesdk_converters.graph.order import sort_nodes
from edgesdk_converters.graph.passes import Equal, Pass, Step, run_passes
from edgesdk_converters.graph.prepare import batch_norm_pass, names_pass, pin_pass, prepare
from edgesdk_converters.runner import OnnxRunner

Make = Callable[..., onnx.ModelProto]
Feeds = list[list[NDArray[np.float32]]]


def nothing(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
    return model, ()


def blank(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer[0].raw_data = b"\0" * len(copy.graph.initializer[0].raw_data)
    return copy, ("weights gone",)


def test_step__is_a_pass() -> None:
    assert isinstance(names_pass(), Pass)


def test_run__condition_that_does_not_hold(make_conv: Make) -> None:
    passes = [Step(name="one", run=nothing), Step(name="two", run=nothing, requires=(STATIC_SHAPES,))]
    with pytest.raises(
        PassError,
        match=r"(?s)requires static input shapes.*input 'x' is \['batch', 3, 'height', 'width'\]\. Run the pass that ensures it "
        r"first\..*in pass 'two'; after: one",
    ) as caught:
        run_passes(make_conv(dynamic=True), passes)
    assert (caught.value.failed, caught.value.done) == ("two", ("one",))
    assert isinstance(caught.value, ConversionError)


def test_run__promise_that_is_broken(small: onnx.ModelProto) -> None:
    with pytest.raises(PassError, match=r"(?s)ensures opset >= 18.*it is 17\. Pass developer:.*the first one"):
        run_passes(small, [Step(name="raise", run=nothing, ensures=(opset_at_least(18),))])


def test_run__functional_pass_that_changes_its_input(small: onnx.ModelProto) -> None:
    def wrong(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        model.graph.node[0].name = "renamed"
        return model, ()

    with pytest.raises(
        PassError, match=r"changed the model that it was given\. Pass developer: copy it first, or say in_place"
    ):
        run_passes(small, [Step(name="wrong", run=wrong)])
    run_passes(small, [Step(name="right", run=wrong, in_place=True)])


def test_run__in_place_pass_that_returns_another(small: onnx.ModelProto) -> None:
    with pytest.raises(PassError, match=r"returned another model\. Pass developer: return the one given"):
        run_passes(small, [Step(name="wrong", run=blank, in_place=True)])


def test_run__numbers_that_change(small: onnx.ModelProto, feeds: Feeds) -> None:
    equal = Equal(OnnxRunner(small), feeds[0])
    with pytest.raises(
        PassError, match=r"computes something else after it \(-?\d+\.\d dB, expected 60 dB or more\)"
    ) as caught:
        run_passes(small, [Step(name="good", run=nothing), Step(name="bad", run=blank)], equal=equal)
    assert caught.value.failed == "bad"
    notes: list[str] = []
    run_passes(small, [Step(name="bad", run=blank)], notes=notes)
    assert notes == ["weights gone"]


def test_run__foreign_exception_names_the_pass(small: onnx.ModelProto) -> None:
    def raises(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Sequence[str]]:
        raise RuntimeError("index 3 out of range.\nmore")

    with pytest.raises(PassError, match=r"(?s)RuntimeError: index 3 out of range\. Export.*in pass 'broken'"):
        run_passes(small, [Step(name="broken", run=raises)])


def test_passes__pin_and_name(make_conv: Make) -> None:
    model = make_conv(dynamic=True)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    for node in nodes:
        node.name = "same"
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    assert SORTED.violation(model) is not None
    assert UNIQUE_NAMES.violation(model) == "6 nodes are called 'same'"
    sort_nodes(model)
    made = run_passes(model, [pin_pass({"x": (1, 3, 8, 8)}), names_pass()])
    assert SORTED.violation(made) is UNIQUE_NAMES.violation(made) is STATIC_SHAPES.violation(made) is None


def with_batch_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    names = ["scale", "shift", "mean", "var"]
    for name in names:
        model.graph.initializer.append(
            numpy_helper.from_array(rng.uniform(0.5, 1.5, model.graph.initializer[0].dims[0]).astype(np.float32), name)
        )
    node = helper.make_node("BatchNormalization", ["c0", *names], ["normed"], "norm")
    model.graph.node.insert(1, node)
    model.graph.node[2].input[0] = "normed"
    return model


def test_batch_norm__goes_into_the_convolution(small: onnx.ModelProto, feeds: Feeds) -> None:
    model = with_batch_norm(small)
    assert NO_BATCH_NORM.violation(model) == "node 'norm' follows 'first'"
    made = run_passes(model, [batch_norm_pass()], equal=Equal(OnnxRunner(model), feeds[0]))
    assert [node.op_type for node in made.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv", "Add"]
    onnx.checker.check_model(made)


def test_batch_norm__one_behind_the_other_and_names_that_are_taken(small: onnx.ModelProto, feeds: Feeds) -> None:
    model = with_batch_norm(small)
    again = onnx.NodeProto.FromString(model.graph.node[1].SerializeToString())
    again.name, again.input[0], again.output[0] = "norm2", "normed", "twice"
    model.graph.node.insert(2, again)
    model.graph.node[3].input[0] = "twice"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "twice_weight"))
    model.graph.output.append(helper.make_tensor_value_info("twice_weight", 1, [1]))
    made = run_passes(model, [batch_norm_pass()], equal=Equal(OnnxRunner(model), feeds[0]))
    assert [node.op_type for node in made.graph.node] == ["Conv", "Relu", "Conv", "Relu", "Conv", "Add"]
    onnx.checker.check_model(made)


def test_batch_norm__in_training_mode_stays(small: onnx.ModelProto) -> None:
    model = with_batch_norm(small)
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    assert NO_BATCH_NORM.violation(model) is None
    assert run_passes(model, [batch_norm_pass()]) is model


@pytest.mark.parametrize("opset", [11, 17])
def test_prepare__pins_raises_and_simplifies(make_conv: Make, feeds: Feeds, opset: int) -> None:
    model = make_conv(opset=opset, dynamic=True)
    content = model.SerializeToString()
    made, notes = prepare(model, {"x": (1, 3, 16, 16)}, OnnxRunner(model), feeds[0], file="m.onnx")
    assert notes == []
    assert made.opset_import[0].version == 17
    assert STATIC_SHAPES.violation(made) is None
    assert model.SerializeToString() == content


def test_fold__runs_after_prepare(make_conv: Make, feeds: Feeds) -> None:
    model = make_conv(dynamic=True)
    made, _ = prepare(model, {"x": (1, 3, 16, 16)}, OnnxRunner(model), feeds[0], file="m.onnx")
    spec = InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW"))
    folded, _ = fold_input(made, spec)
    assert folded.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_prepare__pass_that_breaks_its_promise_is_named_and_done_without(
    make_conv: Make, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules[prepare.__module__],
        "pin_shapes",
        lambda model, _: onnx.ModelProto.FromString(model.SerializeToString()),
    )
    model = make_conv(dynamic=True)
    _, notes = prepare(model, {"x": (1, 3, 16, 16)}, OnnxRunner(model), feeds[0], file="m.onnx")
    assert any(
        note.startswith("shapes stay dynamic in the file (it ensures static input shapes, which does not hold")
        for note in notes
    )


def test_prepare__pass_that_changes_the_numbers_is_left_out(
    small: onnx.ModelProto, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[prepare.__module__], "canonical_pass", lambda *_: Step(name="blank", run=blank))
    made, notes = prepare(small, {"x": (1, 3, 16, 16)}, OnnxRunner(small), feeds[0], file="m.onnx")
    assert any(note.startswith("left out 'blank': the model computes something else after it") for note in notes)
    np.testing.assert_allclose(OnnxRunner(made).run(feeds[1])[0], OnnxRunner(small).run(feeds[1])[0], atol=1e-5)
