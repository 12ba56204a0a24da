from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import CalibrationError, ConfigError, ModelFormatError
from edgesdk_converters.auto import Proposal, proposals, read_plan, sensitivity, tuner, write_plan
from edgesdk_converters.auto import switchboard as switchboard_module
from edgesdk_converters.auto.proposals import SPARE_DB
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.graph import find_branches
from edgesdk_converters.guard import Budget
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Recipe, Rule

Feeds = list[list[NDArray[Any]]]
AUTO = Recipe(name="auto", scheme="auto")
proposals_module = sys.modules["edgesdk_converters.auto.proposals"]  # the package has a function of this name


def good(
    model: onnx.ModelProto, outputs: tuple[OutputSpec, ...], feeds: Feeds, **options: Any
) -> tuple[Proposal, float]:
    """The first proposal that a guard on the same samples would keep, and by how much."""
    quantizer = Quantizer(model, feeds)
    judge = Tuner(model, outputs, feeds, budget=options.get("budget") or Budget())
    options = {"recipe": AUTO, **options}
    for proposal in proposals(quantizer, model, outputs, feeds, **options):
        margin = judge.check(proposal.model).margin
        if margin >= 0:
            return proposal, margin
    raise AssertionError("nothing was good enough")


def test_proposals__the_simple_thing_first(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    proposal, margin = good(plain, outputs, dead_feeds)
    assert proposal.recipe == "everything int8"
    assert proposal.float_nodes == ()
    assert margin > 5


def test_proposals__keep_exactly_the_planted_layer(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    made = list(proposals(Quantizer(planted, dead_feeds), planted, outputs, dead_feeds, recipe=AUTO))
    assert made[0].recipe == "everything int8"  # shows what it would have been without help
    best, margin = good(planted, outputs, dead_feeds)
    assert best.float_nodes == ("conv0",)
    assert margin > 0
    assert best.costs[0].node == "conv0"
    assert best.costs[0].scheme == "float"
    assert best.costs[0].error["y"] > 10 * best.costs[1].error["y"]
    assert "4 nodes int8, 1 in float" in best.recipe
    onnx.checker.check_model(best.model)


def test_proposals__branches_behind_one_concat(yolo: onnx.ModelProto, feeds: Feeds) -> None:
    branches = find_branches(yolo)["output0"]
    assert len(branches) == 2
    spec = (OutputSpec(name="output0", shape=(1, 6, 64), dtype="float32", branches=branches),)
    contract = Contract(
        task="object-detection",
        inputs=(InputSpec(name="images", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW")),),
        outputs=spec,
        labels=("cat", "dog"),
        options={"score_threshold": 0.05},
    )
    proposal, margin = good(yolo, spec, feeds, contract=contract)
    assert margin >= 0
    errors = Tuner(yolo, spec, feeds, budget=Budget()).check(proposal.model).errors
    assert len(errors) == 2
    assert all(error <= 0.01 for error in errors.values())


def test_proposals__a_stricter_budget_keeps_more(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    loose, _ = good(plain, outputs, dead_feeds)
    reached = Tuner(plain, outputs, dead_feeds, budget=Budget()).check(loose.model).margin + 20
    strict, margin = good(plain, outputs, dead_feeds, budget=Budget(min_snr_db=reached + 3))
    assert 0 < len(strict.float_nodes) <= 3
    assert margin >= 0


def test_proposals__another_recipe_is_its_plan(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    recipe = Recipe(name="mine", scheme="w8", calibrator="minmax")
    (only,) = proposals(
        Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=recipe, keep_float=frozenset({"conv1"})
    )
    assert only.recipe == "mine"
    assert only.plan.schemes["conv0"] == "w8"
    assert only.float_nodes == ("conv1",)


def test_proposals__a_recipe_that_quantizes_nothing(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    recipe = Recipe(name="mine", scheme="w8a8", rules=(Rule(nodes="conv*", scheme="float"),))
    with pytest.raises(ConfigError, match=r"recipe 'mine' leaves all 5 nodes in float.*Take out what keeps them there"):
        list(proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=recipe))


def test_proposals__names_with_brackets_are_pinned(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    for node in planted.graph.node:
        node.name = f"{node.name}[0]"
    recipe = Recipe(name="auto", scheme="auto", rules=(Rule(nodes="conv0[0]", scheme="w8a8"),))
    for proposal in proposals(Quantizer(planted, dead_feeds), planted, outputs, dead_feeds, recipe=recipe):
        assert proposal.plan.schemes["conv0[0]"] == "w8a8"


def test_proposals__rules_and_the_spec_are_left_alone(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    recipe = Recipe(name="auto", scheme="auto", rules=(Rule(nodes="conv0", scheme="w8a8"),))
    for proposal in proposals(
        Quantizer(planted, dead_feeds), planted, outputs, dead_feeds, recipe=recipe, keep_float=frozenset({"conv3"})
    ):
        assert proposal.plan.schemes["conv0"] == "w8a8"
        assert proposal.plan.schemes["conv3"] == "float"


def test_proposals__a_rule_that_meets_no_node(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    recipe = Recipe(name="auto", scheme="auto", rules=(Rule(nodes="convv0", scheme="float"),))
    with pytest.raises(ConfigError, match=r"convv0.*Did you mean 'conv0'"):
        list(proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=recipe))


def test_proposals__higher_precision_instead_of_float(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    loose, _ = good(plain, outputs, dead_feeds)
    reached = Tuner(plain, outputs, dead_feeds, budget=Budget()).check(loose.model).margin + 20
    wide, margin = good(plain, outputs, dead_feeds, budget=Budget(min_snr_db=reached + 2), instead="w8a16")
    assert "w8a16" in wide.plan.schemes.values()
    assert wide.float_nodes == ()
    assert "in w8a16" in wide.recipe
    assert margin >= 0


def test_proposals__float_where_higher_precision_does_not_help(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    # 16-bit activations do nothing for a layer whose weights are the trouble.
    proposal, _ = good(planted, outputs, dead_feeds, instead="w8a16")
    assert proposal.float_nodes == ("conv0",)


def test_proposals__smaller_where_the_budget_asks_for_it(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    loose, _ = good(plain, outputs, dead_feeds)
    reached = Tuner(plain, outputs, dead_feeds, budget=Budget()).check(loose.model).margin + 20
    large, _ = good(plain, outputs, dead_feeds, budget=Budget(min_snr_db=reached + 2))
    budget = Budget(min_snr_db=reached + 2, max_size_bytes=large.model.ByteSize() - 1)
    small, margin = good(plain, outputs, dead_feeds, budget=budget)
    assert "w8" in small.plan.schemes.values()
    assert small.model.ByteSize() <= large.model.ByteSize() - 1
    assert margin >= 0


def test_proposals__tuning_samples_of_their_own(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    quantizer = Quantizer(planted, dead_feeds[:20])
    made = list(proposals(quantizer, planted, outputs, dead_feeds[:20], recipe=AUTO, tuning=dead_feeds[20:]))
    assert [one for one in made if one.plan.rounding == "nearest"][-1].float_nodes == ("conv0",)


def rounded_margin(model: onnx.ModelProto, outputs: tuple[OutputSpec, ...], feeds: Feeds) -> float:
    """SNR of everything int8 with weights rounded by what layers read."""
    quantizer = Quantizer(model, feeds)
    plan = quantizer.plan(msgspec.structs.replace(AUTO, rounding="gptq", equalize=True))
    return Tuner(model, outputs, feeds, budget=Budget()).check(quantizer.apply(plan)).margin + 20


def test_proposals__rounding_by_inputs_before_many_nodes_in_float(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals_module, "SPARE_DB", (30.0,))  # no few nodes in float reach that
    budget = Budget(min_snr_db=rounded_margin(plain, outputs, dead_feeds) - 0.3)
    first, second, *_ = proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=AUTO, budget=budget)
    assert (first.recipe, first.plan.rounding) == ("everything int8", "nearest")
    assert second.plan.rounding == "gptq"
    assert second.recipe.endswith("weights rounded by what the layers read (GPTQ)")
    assert not second.float_nodes
    assert Tuner(plain, outputs, dead_feeds, budget=budget).check(second.model).margin >= 0


def test_proposals__nodes_in_float_and_rounding_by_inputs_together(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals_module, "LEAST_GAIN_DB", 0.1)  # on so small a model rounding brings little
    monkeypatch.setattr(proposals_module, "SPARE_DB", (30.0, *SPARE_DB))
    budget = Budget(min_snr_db=rounded_margin(plain, outputs, dead_feeds) + 1)
    made = list(proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=AUTO, budget=budget))
    both = next(one for one in made if one.plan.rounding == "gptq" and one.float_nodes)
    others = [one for one in made if one.plan.rounding == "nearest" and one.float_nodes]
    assert made.index(both) < min(map(made.index, others), default=len(made))
    assert all(len(both.float_nodes) <= len(one.float_nodes) for one in others)
    assert Tuner(plain, outputs, dead_feeds, budget=budget).check(both.model).margin >= 0
    assert f"{len(both.float_nodes)} in float" in both.recipe
    assert both.costs


def test_proposals__a_refused_rounding_is_offered_last(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    made = list(proposals(Quantizer(planted, dead_feeds), planted, outputs, dead_feeds, recipe=AUTO))
    assert made[-1].plan.rounding == "gptq"
    assert not made[-1].float_nodes


@pytest.mark.parametrize(
    ("planted_at", "alike", "rounding"), [(0, True, "gptq"), (0, False, "nearest"), (4, True, "nearest")]
)
def test_proposals__two_formats_have_no_float_before_most_int8_nodes_but_in_the_end(
    make_chain: Callable[..., onnx.ModelProto],
    outputs: tuple[OutputSpec, ...],
    dead_feeds: Feeds,
    monkeypatch: pytest.MonkeyPatch,
    planted_at: int,
    alike: bool,
    rounding: str,
) -> None:
    """What is float early rounds differently in each runtime, and every layer behind it makes more of that."""
    monkeypatch.setattr(proposals_module, "SHORT_DB", 100.0)  # rounded weights are shown in any case
    monkeypatch.setattr(proposals_module, "FEW", 0.3)
    model = make_chain(5, planted=planted_at)
    made = list(proposals(Quantizer(model, dead_feeds), model, outputs, dead_feeds, recipe=AUTO, alike=alike))
    nearest = [one for one in made if one.plan.rounding == "nearest" and one.float_nodes]
    assert nearest[0].float_nodes == (f"conv{planted_at}",)
    helped = next(one for one in made if one.plan.rounding == "gptq" or one.float_nodes)
    assert helped.plan.rounding == rounding


def test_proposals__few_late_nodes_in_float_before_any_early_one_where_two_formats_are_written(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals_module, "SPARE_DB", (30.0, *SPARE_DB))
    monkeypatch.setattr(proposals_module, "FEW", 0.6)
    options: dict[str, Any] = {"budget": Budget(min_snr_db=rounded_margin(plain, outputs, dead_feeds) + 1)}
    made = [
        list(proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=AUTO, alike=alike, **options))
        for alike in (True, False)
    ]
    late = next(one for one in made[0] if one.float_nodes)
    assert late.plan.rounding == "gptq"
    assert set(late.float_nodes) <= {"conv2", "conv3", "conv4"}
    assert f"{len(late.float_nodes)} in float" in late.recipe
    assert made[0].index(late) == 1 + next(at for at, one in enumerate(made[0]) if one.plan.rounding == "gptq")
    judge = Tuner(plain, outputs, dead_feeds, **options)
    assert judge.check(late.model).margin > judge.check(made[0][made[0].index(late) - 1].model).margin
    assert late.plan not in [one.plan for one in made[1]]


def test_proposals__late_nodes_that_bring_nothing_stay_int8(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals_module, "SPARE_DB", (30.0, *SPARE_DB))
    monkeypatch.setattr(proposals_module, "FEW", 0.6)
    monkeypatch.setattr(proposals_module, "LATE_DB", 20.0)
    budget = Budget(min_snr_db=rounded_margin(plain, outputs, dead_feeds) + 1)
    made = list(
        proposals(Quantizer(plain, dead_feeds), plain, outputs, dead_feeds, recipe=AUTO, budget=budget, alike=True)
    )
    rounded = [one for one in made if one.plan.rounding == "gptq" and one.float_nodes]
    assert all(min(int(name[-1]) for name in one.float_nodes) < 2 for one in rounded)


def test_proposals__ranges_without_outliers(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [[feed[0].copy()] for feed in dead_feeds]
    feeds[0][0][0, 1:, 0, 0] = 300.0  # one pixel in 3,000
    monkeypatch.setattr(proposals_module, "OUTLIERS_CUT", "percentile:99.9")
    recipe = msgspec.structs.replace(AUTO, calibrator="minmax")
    budget = Budget(min_snr_db=25)
    made = list(proposals(Quantizer(plain, feeds), plain, outputs, feeds[1:], recipe=recipe, budget=budget))
    assert made[1].recipe == "channels equalized, percentile:99.9 ranges"
    assert not made[1].float_nodes


def test_proposals__the_plan_knows_the_ranking(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, tmp_path: Path
) -> None:
    best, _ = good(planted, outputs, dead_feeds)
    plan = read_plan(write_plan(best.plan, tmp_path / "plan.json"), planted)
    assert plan.costs == {row.node: row.error for row in best.costs}
    again = Quantizer(planted, dead_feeds)
    assert sensitivity(again, planted, outputs, [], plan=plan) == best.costs  # nothing is run


@pytest.mark.parametrize("above", [2.0, 4.0, 6.0])
def test_proposals__no_smaller_set_of_float_nodes_does(
    above: float, make_chain: Callable[..., onnx.ModelProto], outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    model = make_chain(7, planted=None)
    quantizer = Quantizer(model, dead_feeds)
    reached = (
        Tuner(model, outputs, dead_feeds, budget=Budget()).check(quantizer.apply(quantizer.plan(AUTO))).margin + 20
    )
    budget = Budget(min_snr_db=reached + above)
    made = proposals(quantizer, model, outputs, dead_feeds, recipe=AUTO, budget=budget)
    found = next(one for one in made if one.float_nodes and one.plan.rounding == "nearest")
    judge = Tuner(model, outputs, dead_feeds, budget=budget)
    whole = found.plan.with_schemes(dict.fromkeys(found.plan.schemes, "w8a8"))

    def margin(kept: Iterable[str]) -> float:
        return judge.check(quantizer.apply(whole.with_schemes(dict.fromkeys(kept, "float")), half=False)).margin

    wanted = SPARE_DB[0]
    assert margin(found.float_nodes) >= wanted
    smaller = itertools.combinations(whole.schemes, len(found.float_nodes) - 1)
    assert max(map(margin, smaller)) < wanted  # fewer still are part of one of these, and no better


def test_proposals__equal_inputs_make_equal_plans_and_bytes(
    planted: onnx.ModelProto,
    outputs: tuple[OutputSpec, ...],
    dead_feeds: Feeds,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    first, _ = good(planted, outputs, dead_feeds)
    for module in (tuner, switchboard_module):
        monkeypatch.setattr(module, "WORKERS", 1)
    second, _ = good(planted, outputs, dead_feeds)
    assert first.plan == second.plan
    assert first.costs == second.costs
    content = first.model.SerializeToString(deterministic=True)
    assert second.model.SerializeToString(deterministic=True) == content
    plan = read_plan(write_plan(first.plan, tmp_path / "plan.json"), planted)
    replayed = Quantizer(planted, dead_feeds).apply(plan)
    assert replayed.SerializeToString(deterministic=True) == content


def test_proposals__no_samples(plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds) -> None:
    with pytest.raises(CalibrationError, match="Give a folder with --calibration"):
        list(proposals(Quantizer(plain, dead_feeds), plain, outputs, [], recipe=AUTO))


def test_proposals__nan_names_the_node_where_it_begins(parse: Callable[[str], onnx.ModelProto]) -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4] x) => (float[1, 4] y)
        <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}>
        {
            [dense] a = MatMul(x, w)
            [logarithm] b = Log(a)
            [shift] y = Neg(b)
        }
    """)
    spec = (OutputSpec(name="y", shape=(1, 4), dtype="float32"),)
    feeds: Feeds = [[np.ones((1, 4), np.float32)] for _ in range(3)] + [[-np.ones((1, 4), np.float32)]]
    with pytest.raises(
        CalibrationError, match=r"calibration inference 3: .*begins at node 'logarithm' \(Log\)"
    ) as caught:
        Tuner(model, spec, feeds, budget=Budget())
    assert "take that sample out" in str(caught.value)


def test_proposals__nan_weights_are_named(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    weight = next(tensor for tensor in plain.graph.initializer if tensor.name == "w3")
    value = onnx.numpy_helper.to_array(weight).copy()
    value[0, 0, 0, 0] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(value, "w3"))
    with pytest.raises(ModelFormatError, match=r"weight 'w3' of node 'conv3' holds NaN\. Export the model again"):
        Tuner(plain, outputs, dead_feeds, budget=Budget())


def test_plan__survives_a_change_of_its_name_only(plain: onnx.ModelProto, dead_feeds: Feeds) -> None:
    quantizer = Quantizer(plain, dead_feeds)
    plan = quantizer.plan(AUTO)
    renamed = msgspec.structs.replace(plan, recipe="other")
    assert quantizer.apply(plan).SerializeToString(deterministic=True) == quantizer.apply(renamed).SerializeToString(
        deterministic=True
    )
