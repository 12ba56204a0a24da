from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgesdk.backends import SessionOptions
from edgesdk.backends.fake import FakeBackend
from edgesdk.errors import BackendError

ONES = np.ones((1, 4), np.float32)


def described(**parts: Any) -> bytes:
    base: dict[str, Any] = {
        "schema": "edgesdk.fake-model/1",
        "inputs": [{"name": "a", "shape": [1, 4]}],
        "outputs": [{"name": "y", "shape": [1, 4], "op": "copy", "of": ["a"]}],
    }
    return json.dumps(base | parts).encode()


def opened(model: Any, content: bytes) -> Any:
    return FakeBackend().open(model("fake.fake", content), SessionOptions())


def test_session__records_calls_and_resets(model: Any) -> None:
    session = opened(model, described())
    mine = ONES.copy()
    session.run([mine])
    mine[...] = 7
    session.reset()
    np.testing.assert_array_equal(session.calls[0][0], ONES)
    assert session.resets == 1


def test_session__fails_where_asked(model: Any) -> None:
    session = opened(model, described(fail_at=[2]))
    session.run([ONES])
    with pytest.raises(BackendError, match="inference 2 failed, as its description asks"):
        session.run([ONES])
    session.run([ONES])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"op": "fill", "value": 3, "shape": [2]}, [3, 3]),
        ({"op": "mean", "of": ["a"], "shape": [1]}, [2.5]),
        ({"op": "relu", "of": ["a"], "shape": [4]}, [1, 2, 3, 4]),
        ({"op": "copy", "of": ["a"], "shape": [6]}, [1, 2, 3, 4, 1, 2]),
        ({"op": "copy", "of": ["a"], "shape": [2], "dtype": "int64"}, [1, 2]),
    ],
)
def test_session__operations(model: Any, output: dict[str, Any], expected: list[float]) -> None:
    session = opened(model, described(outputs=[{"name": "y", **output}]))
    (result,) = session.run([np.array([[1, 2, 3, 4]], np.float32)])
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == session.outputs[0].dtype


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"outputs": [{"name": "y", "shape": [1], "op": "copy", "of": ["b"]}]}, r"unknown inputs \['b'\]"),
        ({"outputs": [{"name": "y", "shape": [1], "op": "add", "of": ["a"]}]}, "add is made of 2 inputs"),
        ({"outputs": [{"name": "y", "shape": [0], "op": "fill"}]}, "expected positive sizes"),
        ({"outputs": [{"name": "y", "shape": [1], "op": "fill", "dtype": "float33"}]}, "float33"),
        ({"delay": 3}, "unknown field `delay`"),
        ({"schema": "edgesdk.fake-model/2"}, "schema"),
    ],
)
def test_open__wrong_description(model: Any, parts: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendError, match=f"{words}.*or write a description"):
        opened(model, described(**parts))
