"""Ranges found at run time: proposed for transformers, and for nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk.bundle.manifest import OutputSpec
from edgesdk_converters.auto import Proposal, proposals
from edgesdk_converters.auto.running import mostly_products, rank_running
from edgesdk_converters.auto.tuner import Tuner
from edgesdk_converters.guard import Budget
from edgesdk_converters.progress import Quiet
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Recipe

Feeds = list[list[NDArray[Any]]]
AUTO = Recipe(name="auto", scheme="auto")
WORDS = "ranges found at run time, channels smoothed"
WIDTH, LAYERS = 48, 4
OUTPUTS = (OutputSpec(name="y", shape=(1, 6, WIDTH), dtype="float32"),)


@pytest.fixture(scope="module")
def products() -> onnx.ModelProto:
    """Matrix products with an activation between them, as in a transformer's feed-forward layers."""
    rng = np.random.default_rng(1)
    nodes, weights, source = [], [], "x"
    for index in range(LAYERS):
        last = index == LAYERS - 1
        weight = rng.normal(0, 1 / np.sqrt(WIDTH), (WIDTH, WIDTH)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(
            helper.make_node("MatMul", [source, f"w{index}"], ["y" if last else f"m{index}"], f"product{index}")
        )
        if not last:
            nodes.append(helper.make_node("Tanh", [f"m{index}"], [f"t{index}"], f"tanh{index}"))
        source = f"t{index}"
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", 1, [1, 6, WIDTH])],
        [helper.make_tensor_value_info("y", 1, [1, 6, WIDTH])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def sizes() -> Feeds:
    """Thirty inputs, each a hundred times smaller or larger than another: no one range fits them."""
    rng = np.random.default_rng(2)
    return [[(10 ** rng.uniform(-1, 1) * rng.normal(size=(1, 6, WIDTH))).astype(np.float32)] for _ in range(30)]


def made(
    model: onnx.ModelProto, feeds: Feeds, outputs: tuple[OutputSpec, ...] = OUTPUTS, **more: Any
) -> list[Proposal]:
    found = proposals(Quantizer(model, feeds), model, outputs, feeds, recipe=AUTO, **more)
    return [one for one in found if one.recipe.startswith(WORDS)]


def test_running__matrix_products_are_computed_in_ranges_found_at_run_time(
    products: onnx.ModelProto, sizes: Feeds
) -> None:
    (first, *_) = made(products, sizes)
    assert first.recipe == WORDS
    schemes = {scheme for name, scheme in first.plan.schemes.items() if name.startswith("product")}
    assert schemes == {"dynamic"}
    assert "DynamicQuantizeLinear" in {node.op_type for node in first.model.graph.node}
    assert Tuner(products, OUTPUTS, sizes, budget=Budget()).check(first.model).margin > 0


def test_running__the_fewest_products_stay_in_float_arithmetic(products: onnx.ModelProto, sizes: Feeds) -> None:
    tuner = Tuner(products, OUTPUTS, sizes, budget=Budget())
    whole = made(products, sizes)[0]
    reached = tuner.check(whole.model).margin
    budget = Budget(min_snr_db=20 + reached + 1)  # one dB more than all of them together reach
    found = made(products, sizes, budget=budget)
    assert found
    kept = [name for name, scheme in found[0].plan.schemes.items() if scheme == "w8"]
    assert 0 < len(kept) < LAYERS
    assert found[0].recipe == f"{WORDS}, {len(kept)} nodes in w8"
    assert tuner.check(found[0].model).margin > reached


def test_running__pinned_nodes_are_left_alone(products: onnx.ModelProto, sizes: Feeds) -> None:
    (first, *_) = made(products, sizes, keep_float=frozenset({"product1"}))
    assert first.plan.schemes["product1"] == "float"
    quantizer = Quantizer(products, sizes)
    tuner = Tuner(products, OUTPUTS, sizes, budget=Budget())
    order, errors = rank_running(tuner, quantizer, first.plan, {"product2"}, Quiet())
    assert sorted(order) == sorted(errors) == ["product0", "product3"]


def test_running__not_where_the_board_has_no_float_arithmetic(products: onnx.ModelProto, sizes: Feeds) -> None:
    assert made(products, sizes, instead="w8a16") == []


def test_running__not_for_convolutions(
    plain: onnx.ModelProto, outputs: tuple[OutputSpec, ...], dead_feeds: Feeds, products: onnx.ModelProto, sizes: Feeds
) -> None:
    assert made(plain, dead_feeds, outputs) == []
    assert not mostly_products(Quantizer(plain, dead_feeds).nodes)
    assert mostly_products(Quantizer(products, sizes).nodes)
