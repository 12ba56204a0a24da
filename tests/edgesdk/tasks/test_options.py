"""Options of a task: every problem at once, with the nearest word."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from edgesdk.errors import TaskError
from edgesdk.tasks.options import read_options


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    low: float = 0.1
    anchors: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.low > self.threshold:
            raise ValueError("low is above threshold")


def test_options__valid_are_read() -> None:
    assert read_options(_Options, {"threshold": 0.25, "anchors": [1, 2]}, "demo") == _Options(
        threshold=0.25, anchors=(1, 2)
    )


def test_options__every_problem_is_reported_at_once() -> None:
    with pytest.raises(TaskError) as caught:
        read_options(_Options, {"treshold": 0.5, "low": "x"}, "demo")
    text = str(caught.value)
    assert (
        "task 'demo': option 'treshold' is unknown. Did you mean 'threshold'? Known: anchors, low, threshold." in text
    )
    assert "option 'anchors' is missing. Add it under `options:` of the model's spec." in text
    assert "option 'low' is 'x': Expected `float`, got `str`. Correct it in the model's spec." in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"anchors": [], "threshold": 2.0}, "Expected `float` <= 1"),
        ({"anchors": [], "threshold": 0.2, "low": 0.4}, "low is above threshold. Correct `options:`"),
    ],
)
def test_options__out_of_range_names_the_limit(options: dict[str, object], expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        read_options(_Options, options, "demo")
