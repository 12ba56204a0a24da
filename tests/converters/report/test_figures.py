"""Scales, labels, dominance, verdicts: what the pictures are made of."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgesdk_converters.report import markup
from edgesdk_converters.report.histograms import clipped
from edgesdk_converters.report.page import page
from edgesdk_converters.report.pareto import pareto
from edgesdk_converters.report.record import CalibrationFindings, Record, TensorHistogram, Trial
from edgesdk_converters.report.sensitivity import error_db
from edgesdk_converters.report.svg import Box, Scale, linear_ticks, log_ticks, place
from edgesdk_converters.report.trials import dominated, fidelity_axis, verdict

AREA = Box(60, 10, 480, 300)
SPOTS = st.lists(st.tuples(st.floats(60, 480), st.floats(10, 300)), min_size=1, max_size=24)


@given(SPOTS, st.data())
def test_place__labels_meet_nothing(spots: list[tuple[float, float]], data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text("abc 123", min_size=1, max_size=14), min_size=len(spots), max_size=len(spots)))
    placed = [label for label in place(spots, texts, AREA) if label is not None]
    markers = [Box(x - 5, y - 5, x + 5, y + 5) for x, y in spots]
    for index, label in enumerate(placed):
        assert label.box.within(AREA)
        assert not any(label.box.meets(other.box) for other in placed[index + 1 :])
        assert not any(label.box.meets(marker) for marker in markers)


def test_place__a_crowd_on_one_spot_is_still_labelled() -> None:
    placed = place([(200, 150)] * 12, [f"{index} onnx-int8" for index in range(12)], AREA)
    assert all(label is not None for label in placed)
    assert sum(label.led for label in placed if label is not None) > 0


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_linear_ticks__within_and_few(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    assert len(ticks) <= 12
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


@given(st.floats(1, 1e9), st.floats(1.5, 1e6))
def test_log_ticks__within_and_few(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert len(ticks) <= 6
    assert all(low <= tick <= low * factor for tick in ticks)


def test_scale__ends_and_middle() -> None:
    scale = Scale(low=1, high=100, start=0, stop=10, log=True)
    assert [scale(value) for value in (0.1, 1, 10, 100, 1000)] == [0, 0, 5, 10, 10]


TRIPLE = st.tuples(st.integers(1, 5), st.none() | st.integers(1, 5), st.integers(1, 5))


@given(st.lists(TRIPLE, min_size=1, max_size=8))
def test_dominated__the_best_in_anything_stays(points: list[tuple[float, float | None, float]]) -> None:
    beaten = dominated(points)
    assert not all(beaten)
    best = max(points, key=lambda point: (point[2], -point[0], -(point[1] or 0.0)))
    if best[1] is not None:
        assert not beaten[points.index(best)] or any(p[2] == best[2] and p[0] == best[0] for p in points if p != best)


def test_dominated__plain() -> None:
    assert dominated([(10, 0.5, 30), (10, 0.5, 20), (5, 0.9, 20), (10, 0.5, 30)]) == [False, True, False, False]
    assert dominated([(10, None, 30), (20, 0.5, 20)]) == [False, False]


def test_verdict__passed(record: Record) -> None:
    says = verdict(record)
    assert says.kind == "passed"
    assert (
        "The int8 ONNX model has 0.25\u00d7 the size of its source and takes 0.50\u00d7 the time of float"
        in says.sentence
    )
    assert "nearest to its limit is scores with 31.5\u00a0dB, cosine 0.9990." in says.sentence


def test_verdict__names_the_counterpart_in_the_other_format(record: Record, trial: Callable[..., Trial]) -> None:
    both = (trial("onnx-int8", recipe="w8a8"), trial("tflite-int8", recipe="w8a8", size=260_000, ratio=0.45))
    sentence = verdict(msgspec.structs.replace(record, trials=both)).sentence
    assert sentence.endswith("Its TFLite counterpart has 0.26\u00d7 the size and takes 0.45\u00d7 the time.")


def test_verdict__warns_of_what_else_is_in_the_bundle(record: Record, trial: Callable[..., Trial]) -> None:
    bad = trial("tflite-fp16", snr=9.0, reasons=("branch 'scores': SNR 9.0 dB",))
    for others in ((), (trial("onnx-int8"),)):
        sentence = verdict(msgspec.structs.replace(record, trials=(*others, bad))).sentence
        assert sentence.endswith(" Beware: the bundle also holds tflite-fp16, below the limits.")


def test_verdict__overruled(record: Record, trial: Callable[..., Trial]) -> None:
    one = trial("onnx-int8", snr=11.0, reasons=("branch 'scores': SNR 11.0 dB, expected at least 20 dB",))
    says = verdict(msgspec.structs.replace(record, trials=(one,), allowed="boxes only"))
    assert says.kind == "overruled"
    assert "misses 1 limit and was kept on request (boxes only): branch 'scores'" in says.sentence


def test_verdict__float_only_names_the_closest(record: Record, trial: Callable[..., Trial]) -> None:
    near = trial("onnx-int8", chosen=False, snr=19.0, reasons=("near",))
    far = trial("onnx-int8", chosen=False, snr=3.0, reasons=("far",))
    says = verdict(msgspec.structs.replace(record, trials=(far, near)))
    assert says.kind == "float-only"
    assert "of 2 trials, the closest (int8, ONNX) was refused: near." in says.sentence


def test_fidelity_axis__in_the_unit_of_the_guard(record: Record, trial: Callable[..., Trial]) -> None:
    assert fidelity_axis(record).kind == "snr"
    one = trial("onnx-int8")
    figures = tuple(msgspec.structs.replace(f, top1_agreement=0.99) for f in one.measurement.fidelity)
    by_class = msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, fidelity=figures))
    axis = fidelity_axis(msgspec.structs.replace(record, trials=(by_class,)))
    assert (axis.kind, axis.limit) == ("agreement", 98.0)
    assert axis.value(by_class.measurement, record) == pytest.approx(99.0)
    assert fidelity_axis(msgspec.structs.replace(record, trials=(by_class, one))).kind == "margin"


def test_pareto__front_goes_over_what_nothing_beats(record: Record, trial: Callable[..., Trial]) -> None:
    drawn = pareto(record)
    assert drawn is not None
    for panel in drawn.split("<svg")[1:]:
        (front,) = re.findall(r'<path d="M([^"]*)" class="front">', panel)
        corners = [float(number) for number in re.findall(r"-?[0-9.]+", front)]
        rights, ups = corners[0::2], corners[1::2]
        assert rights == sorted(rights)
        assert ups == sorted(ups, reverse=True)


def test_pareto__budget_lines_and_faint_losers(record: Record, trial: Callable[..., Trial]) -> None:
    loser = trial("onnx-int8", chosen=False, size=900_000, ratio=1.5, snr=10.0)
    plot = pareto(msgspec.structs.replace(record, trials=(*record.trials, loser)))
    assert plot is not None
    assert plot.count('class="budget"') == 4  # fidelity and size; fidelity and time
    assert plot.count('class="mark faint"') >= 2
    assert "6 onnx-int8" in plot


ANY = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e300, -1e300, 1e-300])


@given(rows=st.lists(st.tuples(st.integers(0, 10**12), ANY | st.none(), ANY, ANY), max_size=6), limit=ANY)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],  # an example carries the whole record: shrinking takes minutes
)
def test_page__any_numbers__still_draws(
    record: Record, trial: Callable[..., Trial], rows: list[tuple[int, float | None, float, float]], limit: float
) -> None:
    base = record
    trials = []
    for size, ratio, snr, other in rows:
        one = trial("onnx-int8", size=size, ratio=ratio, snr=snr, chosen=bool(size % 2))
        more = {"metrics": {"f1": other}, "peak_memory_bytes": size}
        trials.append(msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, **more)))
    cost = msgspec.structs.replace(base.sensitivity[0], error={"a": limit})
    histogram = msgspec.structs.replace(base.histograms[0], chosen_high=limit)
    found = CalibrationFindings(samples=1, enough=True, verdict="Yes", stability=((1, 0.5), (2, limit), (0, 1.0)))
    text = page(
        msgspec.structs.replace(
            base,
            trials=tuple(trials),
            limits={"snr_db": limit, "speedup": limit, "size_bytes": limit, "new": limit},
            sensitivity=(cost,),
            histograms=(histogram,),
            calibration=found,
            sparsity={"n": limit},
        )
    )
    assert not re.search(r' (?:x|y|cx|cy|width|height|[xy][12]|d)="[^"]*(?:nan|inf)', text)


def test_clipped__share_outside() -> None:
    one = TensorHistogram(tensor="t", node="", counts=(1, 2, 6, 1), low=0, high=4, chosen_low=1, chosen_high=3)
    assert clipped(one) == pytest.approx(0.2)


def test_error_db__ends() -> None:
    assert [error_db(value) for value in (0.0, 0.01, 1.0, float("inf"), float("nan"))] == [-120, -20, 0, 120, 120]


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (markup.size, 999, "999 B"),
        (markup.size, 52_400, "52.4 kB"),
        (markup.size, 999_600, "1.00 MB"),
        (markup.size, 1.25e9, "1.25 GB"),
        (markup.milliseconds, 0.4213, "0.421 ms"),
        (markup.milliseconds, 1250.0, "1.25 s"),
        (markup.percent, 1.0, "100 %"),
        (markup.percent, 0.9999, "99.99 %"),
        (markup.percent, 0.5, "50 %"),
        (markup.decibel, 120.0, "equal"),
        (markup.decibel, -3.25, "\u22123.2 dB"),
        (markup.number, 1e-7, "1e\u221207"),
        (markup.number, float("nan"), "not finite"),
    ],
)
def test_numbers__with_units(function: Callable[[float], str], value: float, text: str) -> None:
    assert function(value).replace("\u00a0", " ") == text


@given(st.text(max_size=60))
def test_escape__nothing_gets_out(text: str) -> None:
    made = str(markup.el("b", text, title=text))
    assert made.startswith('<b title="')
    assert made.count("<") == 2
    assert made.count(">") == 2
    assert made.count('"') == 2
