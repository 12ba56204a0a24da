"""Options of a task: every problem at once, with the nearest word."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError
from edgesdk.tasks.options import TaskOptions, read_options


class _Options(TaskOptions, frozen=True, kw_only=True):
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    low: float = 0.1
    anchors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.low > self.threshold:
            raise ValueError("low is above threshold")


def _read(**options: Any) -> _Options:
    return read_options(Contract(task="demo", inputs=(), outputs=(), options=options), _Options)


def test_options__valid_are_read() -> None:
    assert _read(threshold=0.25, anchors=[1, 2]) == _Options(threshold=0.25, anchors=(1, 2))
    assert _read() == _Options()


def test_options__every_problem_is_reported_at_once() -> None:
    with pytest.raises(TaskError) as caught:
        _read(treshold=0.5, low="x")
    unknown, wrong = str(caught.value).splitlines()
    assert unknown == (
        "option 'treshold' of task 'demo' is unknown. Did you mean 'threshold'? Known: anchors, low, threshold."
    )
    assert "option 'low' of task 'demo' is 'x': Expected `float`, got `str`" in wrong


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"threshold": 2.0}, "is 2.0: Expected `float` <= 1"), ({"threshold": 0.05}, "low is above threshold")],
)
def test_options__out_of_range_names_the_limit(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        _read(**options)
