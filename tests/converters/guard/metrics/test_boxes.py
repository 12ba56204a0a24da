from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.metrics import BoxesMetric, f1, match, metric_for
from edgesdk_converters.guard.metrics.boxes import Boxes


def boxes(rows: list[tuple[float, float, float, float]], classes: list[int], scores: list[float]) -> Boxes:
    return Boxes(
        xyxy=np.asarray(rows, np.float64).reshape(-1, 4),
        class_ids=np.asarray(classes, np.int64),
        scores=np.asarray(scores, np.float64),
    )


def test_match__by_hand() -> None:
    expected = boxes([(0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)], [0, 1, 0], [0.9, 0.8, 0.7])
    # IoU with the first: 80/120 = 0.67; the second has the wrong class; the third is 25/175 = 0.14.
    got = boxes([(2, 0, 12, 10), (20, 20, 30, 30), (55, 55, 65, 65)], [0, 0, 0], [0.9, 0.8, 0.7])
    assert match(expected, got) == 1
    assert f1(1, 3, 3) == pytest.approx(1 / 3)


def test_match__each_box_is_taken_once_by_the_best_score() -> None:
    expected = boxes([(0, 0, 10, 10)], [0], [0.9])
    got = boxes([(0, 0, 10, 10), (0, 1, 10, 11)], [0, 0], [0.5, 0.9])
    assert match(expected, got) == 1
    assert f1(1, 1, 2) == pytest.approx(2 / 3)


def test_match__iou_of_exactly_half_counts() -> None:
    assert match(boxes([(0, 0, 10, 10)], [0], [1]), boxes([(0, 0, 10, 5)], [0], [1])) == 1
    assert match(boxes([(0, 0, 10, 10)], [0], [1]), boxes([(0, 0, 10, 4.9)], [0], [1])) == 0


def test_match__nothing() -> None:
    none, one = boxes([], [], []), boxes([(0, 0, 1, 1)], [0], [1])
    assert match(none, one) == match(one, none) == match(none, none) == 0
    assert f1(0, 0, 0) == 1
    assert match(boxes([(0, 0, 0, 0)], [0], [1]), boxes([(0, 0, 0, 0)], [0], [1])) == 0  # no area, no overlap


_side = st.integers(0, 40)
_box = st.tuples(_side, _side, st.integers(1, 20), st.integers(1, 20), st.integers(0, 2))
_rows = st.lists(_box, max_size=8)


def made(rows: list[tuple[int, int, int, int, int]]) -> Boxes:
    return boxes(
        [(x, y, x + w, y + h) for x, y, w, h, _ in rows],
        [row[4] for row in rows],
        [1 - index / 100 for index in range(len(rows))],
    )


@given(_rows)
def test_match__with_itself_is_perfect(rows: list[tuple[int, int, int, int, int]]) -> None:
    # Best partner first is the box itself (IoU 1); equal boxes are each other's.
    assert match(made(rows), made(rows)) == len(rows)


@given(_rows, _rows)
def test_match__never_more_than_either_has(
    a: list[tuple[int, int, int, int, int]], b: list[tuple[int, int, int, int, int]]
) -> None:
    matched = match(made(a), made(b))
    assert 0 <= matched <= min(len(a), len(b))
    assert 0 <= f1(matched, len(a), len(b)) <= 1


CONTRACT = Contract(
    task="object-detection",
    inputs=(InputSpec(name="x", shape=(1, 3, 64, 64), dtype="float32", source=ImageInput(layout="NCHW")),),
    outputs=(OutputSpec(name="y", shape=(1, 6, 8), dtype="float32"),),
    labels=("cat", "dog"),
)


def output(scores: list[float], classes: list[int], moved: float = 0.0) -> list[NDArray[np.float32]]:
    """Objects 8 pixels apart."""
    value = np.zeros((1, 6, 8), np.float32)
    for index, (score, one) in enumerate(zip(scores, classes, strict=True)):
        value[0, :4, index] = (4 + 8 * index + moved, 20, 6, 6)
        value[0, 4 + one, index] = score
    return [value]


def test_metric__decodes_with_the_task() -> None:
    metric = metric_for(CONTRACT)
    assert isinstance(metric, BoxesMetric)
    assert metric.result() == {}
    metric.add(output([0.9, 0.8, 0.1], [0, 1, 0]), output([0.9, 0.8, 0.1], [0, 1, 0]))
    assert metric.result() == {"f1": 1.0, "iou": 1.0}
    metric.add(output([0.9, 0.8], [0, 1]), output([0.9, 0.2], [0, 1], moved=1))  # 3 pairs, one box lost
    assert metric.result() == {"f1": pytest.approx(6 / 7, abs=1e-4), "iou": pytest.approx((2 + 30 / 42) / 3, abs=1e-4)}
    (shortfall,) = metric.missed(Budget())
    assert "F1 0.857 against the boxes of the float model, expected at least 0.98" in shortfall.text
    assert shortfall.margin == pytest.approx(6 / 7 - 0.98)


def test_metric__one_of_ten_is_no_evidence_but_one_of_nine_is_gone() -> None:
    for count, passes in ((9, False), (10, True)):
        metric = BoxesMetric(CONTRACT)
        for index in range(count):
            metric.add(output([0.9], [0]), output([0.9 if index else 0.2], [0]))
        assert (not metric.missed(Budget())) is passes
    metric.add(output([0.9], [0]), output([0.9], [1]))  # another class: one lost, one too many
    (shortfall,) = metric.missed(Budget())
    assert "(11 boxes, 10 found, 9 of them alike)" in shortfall.text


def test_metric__nan_is_nothing_found() -> None:
    metric = BoxesMetric(CONTRACT)
    metric.add(output([0.9, 0.9], [0, 1]), [np.full((1, 6, 8), np.nan, np.float32)])
    assert metric.result() == {"f1": 0.0}
    assert metric.missed(Budget())


def test_metric__boxes_that_all_lie_elsewhere_are_refused() -> None:
    metric = BoxesMetric(CONTRACT)
    for _ in range(5):
        metric.add(output([0.9, 0.9], [0, 1]), output([0.9, 0.9], [0, 1], moved=1.5))  # of 6: IoU 0.6
    assert metric.result() == {"f1": 1.0, "iou": 0.6}
    (shortfall,) = metric.missed(Budget())
    assert "the 10 boxes found again overlap those of the float model by 0.600 on average (IoU)" in shortfall.text
    assert "expected at least 0.9" in shortfall.text


def test_metric__one_of_one_is_no_accident() -> None:
    metric = BoxesMetric(CONTRACT)
    metric.add(output([0.9], [0]), output([0.2], [0]))
    (shortfall,) = metric.missed(Budget())
    assert "(1 boxes, 0 found, 0 of them alike)" in shortfall.text


def test_metric__pictures_in_which_float_finds_nothing_prove_nothing() -> None:
    metric = BoxesMetric(CONTRACT)
    for _ in range(3):
        metric.add(output([0.1], [0]), output([0.1], [0]))
    assert metric.result() == {}
    (shortfall,) = metric.missed(Budget())
    assert "the float model finds nothing in the 3 held-out pictures" in shortfall.text
    assert "Give --evaluation pictures with something to find" in shortfall.text


def test_metric__a_drop_is_kept_without_grace() -> None:
    metric = BoxesMetric(CONTRACT)
    for index in range(20):
        metric.add(output([0.9, 0.9], [0, 1]), output([0.9, 0.9 if index else 0.1], [0, 1]))
    assert not metric.missed(Budget())
    assert not metric.missed(Budget(max_drop=0.02))
    (shortfall,) = metric.missed(Budget(max_drop=0.01))
    assert "expected at least 0.99" in shortfall.text
