from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError
from edgesdk_converters.quantize import equalize, nan
from edgesdk_converters.quantize.histogram import Range, Statistics
from edgesdk_converters.quantize.nan import first_nan
from edgesdk_converters.quantize.ranges import Observer
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]
Parse = Callable[[str], onnx.ModelProto]
TENSORS = ("x", "r0", "c1", "y")

LOG = """<ir_version: 8, opset_import: ["" : 17]>
small (float[1, 4] x) => (float[1, 4] y) {
  [scale] a = Add (x, x)
  [take_log] b = Log (a)
  [root] c = Sqrt (b)
  [last] y = Mul (c, a)
}"""


class Counting(Sequence[Any]):
    """Feeds that are made when asked for, and counted."""

    def __init__(self, feeds: Sequence[Sequence[Array]]) -> None:
        self._feeds, self.walks = feeds, 0

    def __len__(self) -> int:
        return len(self._feeds)

    def __iter__(self) -> Iterator[Any]:
        self.walks += 1
        return iter(self._feeds)

    def __getitem__(self, index: Any) -> Any:
        return self._feeds[index]


def test_observer__one_walk_for_all_questions(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    counted = Counting(feeds)
    observer = Observer(small, counted, TENSORS)
    extremes = observer.ranges("minmax")
    observer.ranges("mse")
    observer.ranges("percentile:99.9")
    observer.ranges("entropy")
    assert observer.means.keys() == {"x", "r0", "c1", "y"}
    assert counted.walks == 1
    runner = OnnxRunner(small)
    expected = np.stack([runner.run(feed)[0] for feed in feeds])
    assert extremes["y"] == Range(min(0.0, float(expected.min())), max(0.0, float(expected.max())))
    assert extremes["x"].low == 0
    np.testing.assert_allclose(observer.means["y"], expected.mean(axis=(0, 1, 3, 4)), rtol=1e-5)
    observer.ranges("moving-average")
    assert counted.walks == 2


def test_observer__calibrator_of_its_own_pass_shares_the_walk(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    counted = Counting(feeds)
    observer = Observer(small, counted, TENSORS, "moving-average")
    averaged, extremes = observer.ranges(), observer.ranges("minmax")
    assert counted.walks == 1
    assert extremes["y"].low < averaged["y"].low < 0 < averaged["y"].high < extremes["y"].high


def test_observer__two_passes(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    class Twice:
        name = "twice"
        passes = 2

        def __init__(self) -> None:
            self.seen: list[int] = []

        def observe(self, tensor: str, value: Array, number: int) -> None:
            assert value.dtype == np.float32
            self.seen.append(number)

        def range(self, tensor: str, seen: Statistics, *, levels: int = 256) -> Range:
            return seen.extremes

    counted, twice = Counting(feeds), Twice()
    Observer(small, counted, ["y"], twice).ranges()
    assert counted.walks == 2
    assert twice.seen == [0] * 30 + [1] * 30


def test_observer__groups_change_nothing(
    small: onnx.ModelProto, feeds: list[list[Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Observer(small, feeds, TENSORS).ranges("mse")
    monkeypatch.setattr(nan, "GROUP_BYTES", 1)
    assert Observer(small, feeds, TENSORS).ranges("mse") == whole


def test_observer__channel_maxima_are_those_of_equalization(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    names = equalize.inputs(small)
    assert names
    found = Observer(small, feeds, names).channel_maxima
    watched = onnx.ModelProto()
    watched.CopyFrom(small)
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    runner = OnnxRunner(watched, wanted=names)
    values = [runner.run_wanted(feed) for feed in feeds]
    for place, name in enumerate(names):
        expected = np.max([np.abs(one[place]).max(axis=(0, 2, 3)) for one in values], axis=0)
        np.testing.assert_array_equal(found[name], expected)


def test_observer__trace_and_histograms(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    observer = Observer(small, feeds, TENSORS)
    lows, highs = observer.trace
    assert lows.shape == highs.shape == (30, 4)
    ranges = observer.ranges("minmax")
    assert [min(0.0, float(low)) for low in lows.min(axis=0)] == [ranges[name].low for name in observer.names]
    drawn = observer.histograms(ranges)
    assert [(one.tensor, one.node) for one in drawn] == [
        ("x", ""),
        ("r0", "relu0"),
        ("c1", "depthwise"),
        ("y", "residual"),
    ]
    assert all(len(one.counts) == 128 and sum(one.counts) > 1000 for one in drawn)
    assert drawn[1].counts[0] > 0.2 * sum(drawn[1].counts)  # zeros of the ReLU


def test_observer__no_samples(small: onnx.ModelProto) -> None:
    with pytest.raises(
        CalibrationError, match=r"no calibration samples: ranges need some\. Give a folder with --calibration"
    ):
        Observer(small, [], TENSORS).ranges("mse")


def test_observer__nan_names_the_node_where_it_begins(parse: Parse) -> None:
    model = parse(LOG)
    feeds = [[np.ones((1, 4), np.float32)], [np.asarray([[1, 2, 0.25, 3]], np.float32)]]
    with pytest.raises(
        CalibrationError,
        match=r"calibration inference 1 makes NaN in tensor 'y': it begins at node 'root' \(Sqrt\), tensor 'c'\. "
        r"Repair the model there .*, or take that sample out",
    ):
        Observer(model, feeds, ["y"]).ranges("mse")


def test_observer__infinities_are_left_out_and_told(parse: Parse) -> None:
    model = parse(LOG)
    feeds = [[np.asarray([[1, 2, 4, 3]], np.float32)], [np.asarray([[0, 1, 1, 1]], np.float32)]]
    observer = Observer(model, feeds, ["a", "b"])
    assert observer.ranges("minmax")["b"].high == pytest.approx(np.log(8), abs=1e-6)
    assert [name for name, seen in observer.statistics.items() if seen.infinite] == ["b"]
    assert np.isfinite(observer.ranges("mse")["b"].high)


def test_first_nan__none(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    assert first_nan(small, feeds[0]) is None
    assert nan.explain(small, feeds[0]) == ""


def test_first_nan__input(parse: Parse) -> None:
    model, feed = parse(LOG), [np.full((1, 4), np.nan, np.float32)]
    assert first_nan(model, feed) == ("", "x")
    assert nan.explain(model, feed) == "input 'x' holds NaN already. Repair or take out that sample."


def test_first_nan__weight(small: onnx.ModelProto, feeds: list[list[Array]]) -> None:
    tensor = next(one for one in small.graph.initializer if one.name == "w1")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[3] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "w1"))
    assert first_nan(small, feeds[0]) == ("depthwise", "w1")
    assert nan.explain(small, feeds[0]) == (
        "weight 'w1' of node 'depthwise' holds NaN. Export the model again from a checkpoint whose training did not diverge."
    )
