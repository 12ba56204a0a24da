"""Real models through our sessions: the same numbers as the bare runtime, also from the graph cache and after a reset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.backends import ModelFile, Session, SessionOptions, get_backend
from edgesdk.backends.tflite import runtime_package
from edgesdk.cli.bare_peer import bare_call

Zoo = Callable[[str], Path]
pytestmark = pytest.mark.zoo


def opened(path: Path, backend: str, graph_cache: Path | None = None) -> tuple[Session, bytes]:
    there = get_backend(backend).availability()
    if not there.available:
        pytest.skip(f"{there.reason}. {there.fix}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    model = ModelFile(content=content, format=path.suffix[1:], name=path.name, sha256=digest)
    return get_backend(backend).open(model, SessionOptions(threads=1, graph_cache=graph_cache)), content


def noise(session: Session, seed: int = 0) -> list[Any]:
    random = np.random.default_rng(seed)
    return [
        random.random(info.shape).astype(info.dtype)
        if info.dtype.kind == "f"
        else random.integers(-100, 100, info.shape).astype(info.dtype)
        for info in session.inputs
    ]


@pytest.mark.parametrize("name", ["blazeface-short", "face-landmark", "iris"])
def test_tflite__equals_the_bare_runtime(zoo: Zoo, name: str) -> None:
    session, content = opened(zoo(name), "tflite")
    arrays = noise(session)
    feed = {info.name: array for info, array in zip(session.inputs, arrays, strict=True)}
    expected = bare_call(runtime_package(), content, feed)()
    for ours, theirs in zip(session.run(arrays), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_tflite__reset_starts_a_streaming_model_anew(zoo: Zoo) -> None:
    session, _ = opened(zoo("microwakeword-hey-mycroft"), "tflite")
    random = np.random.default_rng(1)
    # Loud noise: a spectrum to which this model gives scores other than zero.
    stream = [random.integers(0, 127, session.inputs[0].shape).astype(np.int8) for _ in range(60)]

    def scores() -> list[int]:
        return [int(session.run([array])[0].item()) for array in stream]

    first = scores()
    assert scores() != first  # the state of the first pass goes on
    session.reset()
    assert scores() == first


def test_onnxruntime__graph_cache_keeps_the_numbers(zoo: Zoo, tmp_path: Path) -> None:
    state = np.zeros((2, 1, 128), np.float32)
    pcm = np.random.default_rng(0).normal(0, 0.1, (1, 576)).astype(np.float32)
    values: dict[str, Any] = {"input": pcm, "state": state, "sr": np.array(16000, np.int64)}
    for _ in range(2):  # builds the graph, then reads it
        session, content = opened(zoo("silero-vad"), "onnxruntime", tmp_path)
        feed = {info.name: values[info.name] for info in session.inputs}
        expected = bare_call("onnxruntime", content, feed)()
        for ours, theirs in zip(session.run(list(feed.values())), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert len(list(tmp_path.glob("*.graph"))) == 1
