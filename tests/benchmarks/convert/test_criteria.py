"""The benchmark's own arithmetic: what passes, what fails, and what is said of failures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(CHECKOUT), *sys.path])


def results(**ours: Any) -> dict[str, Any]:
    """One row with one of our roads and a peer that failed."""
    road = {"road": "ours auto onnx", "format": "onnx", "cpu_ratio": 0.5, "snr_db": {"y": 30.0}, **ours}
    lowering = {"seconds": 0.2, "relative_error": 1e-6, "operators": 10, "onnx2tf_operators": 12, "over_onnx2tf": 1.0}
    row = {"samples": 5, "roads": [road, {"road": "NNCF", "failed": "ValueError: no | way"}], "lowering": lowering}
    return {"rows": {"blazeface": row}, "host": "a machine", "date": "2026-01-01"}


def passed(found: dict[str, Any], words: str) -> list[bool | None]:
    from tests.benchmarks.convert.criteria import verdicts

    return [one.passed for one in verdicts(found) if words in one.condition]


def test_verdicts__good_figures_pass() -> None:
    assert passed(results(), "auto, onnx") == [True]
    assert passed(results(), "lowering") == [True] * 4


@pytest.mark.parametrize("worse", [{"cpu_ratio": 1.2}, {"snr_db": {"y": 12.0}}, {"agreement": {"y": 0.9}}])
def test_verdicts__slower_or_below_the_budget_fails(worse: dict[str, Any]) -> None:
    assert passed(results(**worse), "auto, onnx") == [False]


def test_verdicts__what_was_not_measured_neither_passes_nor_fails() -> None:
    assert passed(results(), "decide alike") == [None]
    assert passed(results(), "peak memory") == [None]


def test_markdown__failure_is_shown_in_its_own_words() -> None:
    from tests.benchmarks.convert.table import markdown

    text = "\n".join(markdown(results()))
    assert "failed: ValueError: no / way" in text
    assert "5 pass, 0 fail, 2 not measured." in text


def test_peer_tflite__finds_outputs_in_another_layout() -> None:
    from edgesdk_converters.tflite.lower import lower
    from tests.benchmarks.convert.runners import PeerTflite, onnx_runner, operators

    helper = pytest.importorskip("onnx").helper
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1])]
    x_info, y_info = (
        helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [1, 3, 4, 5]), ("y", [1, 4, 5, 3]))
    )
    graph = helper.make_graph(nodes, "g", [x_info], [y_info])
    content = lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert operators(content) >= 1
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    relu = np.maximum(x, 0)  # channels-first is what this reader is told to expect; the file gives channels-last
    runner = PeerTflite(content, (["x"], ["y"]), ([x], [relu]))
    np.testing.assert_array_equal(runner.run([x])[0], relu)
    assert onnx_runner(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    ).outputs == ["y"]
