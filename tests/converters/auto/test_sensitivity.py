from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.bundle.manifest import OutputSpec
from edgesdk_converters.auto import sensitivity
from edgesdk_converters.auto.mixed import fewest, rank
from edgesdk_converters.auto.sensitivity import _halved, switchboard
from edgesdk_converters.auto.work import float_costs
from edgesdk_converters.guard import Budget, snr_db
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Recipe, Scheme
from edgesdk_converters.runner import OnnxRunner

Feeds = list[list[NDArray[Any]]]
AUTO = Recipe(name="auto", scheme="auto")


def test_switchboard__off_is_float_and_on_is_the_quantized_graph(plain: onnx.ModelProto, dead_feeds: Feeds) -> None:
    quantizer = Quantizer(plain, dead_feeds)
    plan = quantizer.plan(AUTO)
    board = switchboard(quantizer, plan)
    assert board.names == ("conv0", "conv1", "conv2", "conv3", "conv4")
    expected = OnnxRunner(plain).run(dead_feeds[0])[0]
    assert snr_db(expected, board.run(dead_feeds[0], ())[0]) > 100
    quantized = OnnxRunner(quantizer.apply(plan, half=False)).run(dead_feeds[0])[0]
    simulated = board.run(dead_feeds[0], board.names)[0]
    assert snr_db(quantized, simulated) > snr_db(expected, quantized) + 6


def test_switchboard__one_node_is_the_graph_with_one_node(small: onnx.ModelProto, feeds: Feeds) -> None:
    quantizer = Quantizer(small, feeds)
    plan = quantizer.plan(AUTO)
    board = switchboard(quantizer, plan)
    expected = OnnxRunner(small).run(feeds[0])[0]
    for name in ("first", "depthwise", "last"):
        alone = quantizer.plan(AUTO, schemes={node.name: "float" for node in quantizer.nodes if node.name != name})
        real = OnnxRunner(quantizer.apply(alone, half=False)).run(feeds[0])[0]
        assert snr_db(expected, board.run(feeds[0], {name})[0]) == pytest.approx(snr_db(expected, real), abs=1.5)


def test_sensitivity__finds_the_planted_layer(
    planted: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    quantizer = Quantizer(planted, dead_feeds)
    rows = sensitivity(quantizer, planted, outputs, dead_feeds, plan=quantizer.plan(AUTO))
    assert rows[0].node == "conv0"
    assert rows[0].op_type == "Conv"
    assert rows[0].weight_bytes == 4 * 8 * 4 * 9
    assert rows[0].scheme == "w8a8"
    assert rows[0].error["y"] > 0.01
    assert all(row.error["y"] < 0.001 for row in rows[1:])
    assert {row.node for row in rows} == {node.name for node in quantizer.nodes}


def test_sensitivity__branches_are_told_apart(yolo: onnx.ModelProto, feeds: Feeds) -> None:
    from edgesdk_converters.graph import find_branches

    spec = (OutputSpec(name="output0", shape=(1, 6, 64), dtype="float32", branches=find_branches(yolo)["output0"]),)
    quantizer = Quantizer(yolo, feeds)
    rows = {row.node: row.error for row in sensitivity(quantizer, yolo, spec, feeds, plan=quantizer.plan(AUTO))}
    boxes, scores = rows["boxes_conv"], rows["scores_conv"]
    assert boxes["output0[4:6]"] == pytest.approx(1e-12)  # the last convolution of one head does not touch the other
    assert scores["output0[0:4]"] == pytest.approx(1e-12)
    assert boxes["output0[0:4]"] > 1e-9


@pytest.mark.parametrize("scheme", ["w4a8", "w8a16", "w8"])
def test_sensitivity__is_of_what_the_plan_does(
    scheme: Scheme, plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds
) -> None:
    quantizer = Quantizer(plain, dead_feeds)
    plan = quantizer.plan(Recipe(name="mine", scheme=scheme, rounding="gptq"), schemes={"conv3": "float"})
    rows = {row.node: row for row in sensitivity(quantizer, plain, outputs, dead_feeds, plan=plan)}
    bytes_ = {row.node: row for row in sensitivity(quantizer, plain, outputs, dead_feeds, plan=quantizer.plan(AUTO))}
    assert sorted(rows) == sorted(bytes_)
    assert {name: row.scheme for name, row in rows.items()} == plan.schemes
    for name in ("conv1", "conv2"):
        ratio = rows[name].error["y"] / bytes_[name].error["y"]
        assert ratio > 10 if scheme == "w4a8" else ratio < 1, (name, ratio)
    assert rows["conv3"].error == bytes_["conv3"].error  # stays float; asked as int8


def test_sensitivity__of_nodes_that_become_other_operators(dense: onnx.ModelProto) -> None:
    rng = np.random.default_rng(0)
    feeds = [[rng.normal(0, 1, (16, 64)).astype(np.float32)] for _ in range(8)]
    spec = (OutputSpec(name="y", shape=(16, 32), dtype="float32"),)
    for scheme in ("dynamic", "w4"):
        quantizer = Quantizer(dense, feeds)
        plan = quantizer.plan(Recipe(name="mine", scheme=scheme, coverage="compute"))
        (row,) = sensitivity(quantizer, dense, spec, feeds, plan=plan)
        assert (row.node, row.scheme) == ("layer", scheme)
        assert 1e-6 < row.error["y"] < 0.1


def test_halving__finds_the_few_among_many_with_few_questions() -> None:
    names = [f"n{index}" for index in range(300)]
    truth = dict.fromkeys(names, 1e-06) | {"n17": 0.5, "n200": 0.2}
    asked = 0

    def ask(on: Collection[str]) -> dict[str, float]:
        nonlocal asked
        asked += 1
        return {"y": sum(truth[name] for name in on)}

    done: list[int] = []
    found = _halved(names, ask, {"y": 0.15 * sum(truth.values()) / 300}, done.append)
    assert asked < 60
    assert sum(done) == 300
    assert list(found) == names
    assert found["n17"]["y"] == 0.5
    assert found["n200"]["y"] == 0.2
    assert sum(error["y"] for error in found.values()) == pytest.approx(sum(truth.values()), rel=0.01)


def test_rank__error_per_cost() -> None:
    errors = {"a": {"y": 0.01, "z": 0.0}, "b": {"y": 0.0, "z": 0.03}, "c": {"y": 0.03, "z": 0.0}}
    assert rank(errors, {"a": 0.1, "b": 0.1, "c": 1.0}, Budget()) == ["b", "a", "c"]


@given(st.dictionaries(st.sampled_from([f"n{i}" for i in range(24)]), st.integers(1, 100), min_size=24, max_size=24))
def test_fewest__reaches_the_target_and_keeps_nothing_for_nothing(gain: dict[str, int]) -> None:
    order = sorted(gain, key=lambda name: -gain[name])
    target = sum(gain.values()) // 4

    def margin(kept: frozenset[str]) -> float:
        return float(sum(gain[name] for name in kept))

    kept = fewest(order, margin, target)
    assert kept is not None
    assert margin(kept) >= target
    # No smaller set could do: the best first is optimal where gains add up.
    assert margin(frozenset(order[: len(kept) - 1])) < target


@given(
    st.dictionaries(st.sampled_from([f"n{i}" for i in range(24)]), st.integers(1, 100), min_size=24, max_size=24),
    st.randoms(use_true_random=False),
)
def test_fewest__of_a_wrong_ranking_keeps_nothing_for_nothing(gain: dict[str, int], random: Random) -> None:
    order = sorted(gain)
    random.shuffle(order)
    target = sum(gain.values()) // 6

    def margin(kept: frozenset[str]) -> float:
        return float(sum(gain[name] for name in kept))

    kept = fewest(order, margin, target)
    if kept is None:  # more than half of the nodes: float is the better answer
        assert margin(frozenset(order[:12])) < target
        return
    assert margin(kept) >= target
    assert all(margin(kept - {name}) < target for name in kept)


def test_fewest__drops_what_came_first_in_vain() -> None:
    def margin(kept: frozenset[str]) -> float:
        return 1.0 if "c" in kept else -1.0

    assert fewest(["a", "b", "c", "d", "e", "f"], margin, 0.0) == frozenset({"c"})
    assert fewest(["a", "b", "c"], lambda _: 0.0, 0.0) == frozenset()
    assert fewest(["a", "b", "c"], lambda _: -1.0, 0.0) is None


def test_float_costs__large_and_slow_nodes_cost_more(small: onnx.ModelProto, feeds: Feeds) -> None:
    costs = float_costs(small, Quantizer(small, feeds).nodes)
    assert costs["first"] > costs["depthwise"]  # 432 weights to 144
    assert all(cost > 0.02 for cost in costs.values())
    assert np.isfinite(list(costs.values())).all()
