"""Activation ranges from calibration samples: runs the float model over them once and remembers what its tensors did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.errors import CalibrationError
from edgesdk_converters.graph.view import GraphView, static_shapes
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize.calibrators import Calibrator, make_calibrator
from edgesdk_converters.quantize.floors import above, floors, lifted
from edgesdk_converters.quantize.histogram import Range, Statistics
from edgesdk_converters.quantize.nan import explain, in_groups
from edgesdk_converters.report.record import TensorHistogram
from edgesdk_converters.runner import WORKERS, OnnxRunner

__all__ = ["Method", "Observer", "Range"]

Array = NDArray[Any]
Method = Literal["minmax", "mse"]

TRACED = 4096
"""Inferences whose own extremes are remembered, for the question whether more samples would have moved the ranges."""
DRAWN_BINS = 128


class Observer:
    """Statistics of many tensors in one run over the samples; its memory does not grow with their number."""

    def __init__(
        self,
        model: onnx.ModelProto,
        feeds: Sequence[Sequence[Array]],
        tensors: Iterable[str],
        calibrator: str | Calibrator = "mse",
        *,
        histograms: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Nothing is run before the first question.

        Args:
            model: Float, static shapes, unique node names.
            feeds: Input arrays in the graph's order, one list per inference; walked through once per pass.
            tensors: Float tensors to watch; graph inputs may be among them.
            calibrator: How ranges are chosen when :meth:`ranges` does not say.
            histograms: Whether to keep more than extremes; without, it is faster and only :attr:`trace` and the ranges of ``minmax`` are
                true.
            progress: Where to say what is being done.
        """
        self._histograms = histograms
        self._model, self._feeds, self._progress = model, feeds, progress or Quiet()
        view = GraphView(model)
        wanted = set(tensors)
        order = [*view.inputs, *(name for node in model.graph.node for name in node.output)]
        self._names = [name for name in order if name in wanted]
        self._producer = {name: view.producer[name].name if name in view.producer else "" for name in self._names}
        self._inputs = {name: index for index, name in enumerate(view.inputs) if name in wanted}
        self._floors = {name: floor for name, floor in floors(model).items() if name in wanted}
        self._default = _made(calibrator)
        self._known = {calibrator: self._default} if isinstance(calibrator, str) else {}
        self._statistics: dict[str, Statistics] | None = None
        self._ranges: dict[tuple[str, int], dict[str, Range]] = {}
        self._runner: OnnxRunner | None = None
        self._trace: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Watched tensors, in graph order."""
        return tuple(self._names)

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """Of every watched tensor.

        Raises:
            CalibrationError: No samples, or a tensor takes NaN; names the node where it begins.
        """
        if self._statistics is None:
            statistics = {name: Statistics() for name in self._names}
            self._walk(self._default if self._default.passes else None, 0, statistics)
            self._statistics = statistics
            for number in range(1, self._default.passes):
                self._walk(self._default, number, None)
        return self._statistics

    @property
    def means(self) -> dict[str, NDArray[np.float64]]:
        """Mean per channel (C,) of tensors with spatial axes."""
        return {name: one.sums / len(self._feeds) for name, one in self.statistics.items() if one.sums is not None}

    @property
    def channel_maxima(self) -> dict[str, NDArray[np.float64]]:
        """Largest magnitude per channel (C,) of tensors with a channel axis, for equalization."""
        return {
            name: np.maximum(-one.channel_low, one.channel_high)
            for name, one in self.statistics.items()
            if one.channel_low is not None and one.channel_high is not None
        }

    @property
    def trace(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Smallest and largest value of each tensor in each of the first 4096 inferences: two arrays (inferences, tensors)."""
        if not self.statistics:
            return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
        return np.stack([low for low, _ in self._trace]), np.stack([high for _, high in self._trace])

    def ranges(self, calibrator: str | Calibrator | None = None, *, levels: int = 256) -> dict[str, Range]:
        """Range of every watched tensor.

        Args:
            calibrator: Another way than that given at construction. Those that only need extremes and histograms cost no further run.
            levels: Integers that there are: 256, or 65536 for 16-bit activations.
        """
        seen = self.statistics
        text = calibrator if isinstance(calibrator, str) else ""
        made = self._default if calibrator is None else self._known.get(text) or _made(calibrator)
        key = (text or f"{made.name} {id(made)}", levels)
        if key not in self._ranges:
            if made.passes and made is not self._default:
                for number in range(made.passes):
                    self._walk(made, number, None)
            self._ranges[key] = {name: self._range(made, name, seen[name], levels) for name in self._names}
        return self._ranges[key]

    def _range(self, calibrator: Calibrator, name: str, seen: Statistics, levels: int) -> Range:
        floor = self._floors.get(name)
        if floor is None:
            return calibrator.range(name, seen, levels=levels)
        return lifted(calibrator.range(name, above(seen, floor), levels=levels), floor)

    def histograms(self, ranges: Mapping[str, Range], *, bins: int = DRAWN_BINS) -> tuple[TensorHistogram, ...]:
        """What each tensor took, beside the range it got, in graph order; tensors without a range are left out."""
        return tuple(
            TensorHistogram(
                tensor=name,
                node=self._producer[name],
                counts=tuple(one.histogram.within(one.low, one.high, bins).tolist()),
                low=one.low,
                high=one.high,
                chosen_low=ranges[name].low,
                chosen_high=ranges[name].high,
            )
            for name, one in self.statistics.items()
            if name in ranges
        )

    def _walk(self, calibrator: Calibrator | None, number: int, statistics: dict[str, Statistics] | None) -> None:
        """Run all samples once; a calibrator, the statistics, or both look on."""
        if not len(self._feeds):
            raise CalibrationError("no calibration samples: ranges need some. Give a folder with --calibration.")
        runner, groups = self._load()
        with self._progress.bar("activation ranges", len(self._feeds)) as bar:
            for index, feed in enumerate(self._feeds):
                lows, highs = np.zeros(len(self._names), np.float32), np.zeros(len(self._names), np.float32)
                at = 0
                for name, value in self._values(runner, groups, feed):
                    if statistics is not None:
                        low, high = statistics[name].add(value, histogram=self._histograms)
                        if np.isnan(low):
                            self._refuse(index, feed, name)
                        lows[at], highs[at] = low, high
                        at += 1
                    if calibrator is not None:
                        calibrator.observe(name, value, number)
                if statistics is not None and index < TRACED:
                    self._trace.append((lows, highs))
                bar.advance()

    def _values(
        self, runner: OnnxRunner, groups: Sequence[Sequence[str]], feed: Sequence[Array]
    ) -> Iterator[tuple[str, Array]]:
        for name, index in self._inputs.items():
            yield name, feed[index]
        for group in groups:
            yield from zip(group, runner.run_some(group, feed), strict=True)

    def _load(self) -> tuple[OnnxRunner, list[list[str]]]:
        computed = [name for name in self._names if name not in self._inputs]
        if self._runner is None:
            watched = onnx.ModelProto()
            watched.CopyFrom(self._model)
            already = {value.name for value in watched.graph.output}
            watched.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
                for name in computed
                if name not in already
            )
            self._runner = OnnxRunner(watched, threads=WORKERS)
        return self._runner, list(in_groups(computed, static_shapes(self._model)))

    def _refuse(self, index: int, feed: Sequence[Array], name: str) -> None:
        raise CalibrationError(
            f"calibration inference {index} makes NaN in tensor {name!r}: "
            + (explain(self._model, feed) or "Take that sample out, or export the model again in float32.")
        )


def _made(calibrator: str | Calibrator | None) -> Calibrator:
    return make_calibrator(calibrator or "mse") if calibrator is None or isinstance(calibrator, str) else calibrator
