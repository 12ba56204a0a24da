from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edgesdk_converters.graph.order import sort_nodes


def model_of(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(list(nodes), "g", ends[:1], ends[1:]))


def node(name: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return helper.make_node("Sum", inputs, [output], name=name)


def names(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]


def test_sort__producers_come_first() -> None:
    model = model_of(
        node("last", ["a", "b"], "y"), node("right", ["c"], "b"), node("left", ["c"], "a"), node("cast", ["x"], "c")
    )
    assert sort_nodes(model)
    onnx.checker.check_model(model)
    assert names(model) == ["cast", "right", "left", "last"]


def test_sort__sorted_graph__is_left_alone() -> None:
    model = model_of(node("b", ["x"], "b"), node("a", ["x"], "a"), node("sum", ["a", "b"], "y"))
    before = model.SerializeToString(deterministic=True)
    assert not sort_nodes(model)
    assert model.SerializeToString(deterministic=True) == before


def test_sort__what_a_subgraph_takes_counts() -> None:
    branch = helper.make_graph(
        [node("inner", ["late"], "z")], "b", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])]
    )
    choice = helper.make_node("If", ["flag"], ["y"], name="if", then_branch=branch, else_branch=branch)
    flag = helper.make_node("Cast", ["x"], ["flag"], name="flag", to=TensorProto.BOOL)
    model = model_of(flag, choice, node("late", ["x"], "late"))
    assert sort_nodes(model)
    assert names(model) == ["flag", "late", "if"]


def test_sort__cycle__is_left_to_the_checker() -> None:
    model = model_of(node("a", ["b"], "a"), node("b", ["a"], "b"), node("y", ["a"], "y"))
    assert not sort_nodes(model)
    assert names(model) == ["a", "b", "y"]
