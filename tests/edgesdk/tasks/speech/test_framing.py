"""Any split of a stream into blocks makes the same chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesdk.bundle.manifest import AudioInput, InputSpec, TensorInput
from edgesdk.errors import TaskError
from edgesdk.samples import Audio
from edgesdk.tasks.speech.framing import AudioFramer, Chunk


def _spec(chunk: int = 8, context: int = 3, **changes: Any) -> InputSpec:
    fields: dict[str, Any] = {
        "name": "pcm",
        "shape": (1, chunk + context),
        "dtype": "float32",
        "source": AudioInput(sample_rate_hz=16000, chunk_samples=chunk, context_samples=context),
    }
    return InputSpec(**{**fields, **changes})


def _audio(pcm: list[float] | NDArray[np.float32], first: int = 0, *, last: bool = False, rate: int = 16000) -> Audio:
    return Audio(pcm=np.asarray(pcm, np.float32), sample_rate_hz=rate, first_sample=first, last=last)


def _reference(pcm: NDArray[np.float32], chunk: int, context: int, first: int) -> list[tuple[int, list[float]]]:
    padded = np.concatenate((np.zeros(context), pcm, np.zeros(-pcm.size % chunk)))
    return [(first + at, padded[at : at + context + chunk].tolist()) for at in range(0, pcm.size, chunk)]


def _plain(chunks: list[Chunk]) -> list[tuple[int, list[float]]]:
    return [(chunk.start_sample, chunk.values.ravel().tolist()) for chunk in chunks]


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    chunk=st.integers(1, 12),
    context=st.integers(0, 20),
    first=st.integers(0, 10_000),
)
def test_framer__any_split_makes_the_same_chunks(sizes: list[int], chunk: int, context: int, first: int) -> None:
    pcm = np.arange(1, sum(sizes) + 1, dtype=np.float32)
    framer = AudioFramer(_spec(chunk, context))
    got: list[Chunk] = []
    at = 0
    for index, size in enumerate(sizes):
        out = framer.push(_audio(pcm[at : at + size], first + at, last=index == len(sizes) - 1))
        assert out.gap is False
        assert out.begin is (index == 0)
        got += out.chunks
        at += size
    assert _plain(got) == _reference(pcm, chunk, context, first)
    assert sum(part.samples for part in got) == pcm.size
    assert all(part.values.shape == (1, chunk + context) and part.values.dtype == np.float32 for part in got)


def test_framer__partial_chunk_waits_until_the_end() -> None:
    framer = AudioFramer(_spec(4, 2))
    assert framer.push(_audio([1, 2, 3])).chunks == ()
    (chunk,) = framer.push(_audio([4, 5], 3)).chunks
    assert chunk.values.tolist() == [[0, 0, 1, 2, 3, 4]]
    (tail,) = framer.push(_audio([], 5, last=True)).chunks
    assert (tail.start_sample, tail.samples, tail.values.tolist()) == (4, 1, [[3, 4, 5, 0, 0, 0]])


@pytest.mark.parametrize("first", [100, 1])
def test_framer__jump_drops_what_waits_and_counts(first: int) -> None:
    framer = AudioFramer(_spec(4, 2))
    framer.push(_audio([1, 2, 3, 4, 5]))
    out = framer.push(_audio([6, 7, 8, 9], first))
    assert (out.gap, out.begin, framer.gaps) == (True, True, 1)
    assert _plain(list(out.chunks)) == [(first, [0, 0, 6, 7, 8, 9])]
    framer.reset()
    assert framer.gaps == 0


def test_framer__stream_after_the_last_block_begins_anew() -> None:
    framer = AudioFramer(_spec(4, 2))
    framer.push(_audio([1, 2, 3, 4, 5], last=True))
    out = framer.push(_audio([6, 7, 8, 9]))
    assert (out.gap, out.begin) == (False, True)
    assert _plain(list(out.chunks)) == [(0, [0, 0, 6, 7, 8, 9])]


def test_framer__callers_buffer_may_be_reused() -> None:
    framer = AudioFramer(_spec(4, 2))
    pcm = np.array([1, 2, 3, 4, 5], np.float32)
    (chunk,) = framer.push(_audio(pcm)).chunks
    pcm[:] = 0
    assert chunk.values.tolist() == [[0, 0, 1, 2, 3, 4]]
    assert not chunk.values.flags.writeable


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (
            _audio([0.0], rate=48000),
            r"got a sample rate of 48000 Hz, the model takes 16000 Hz. Let the source resample: `rate: 16000Hz`",
        ),
        (_audio(np.zeros((2, 2), np.float32)), r"shape \(2, 2\), expected \(n,\): one channel. Mix it down first"),
        (
            Audio(pcm=np.zeros(4, np.int16), sample_rate_hz=16000),
            r"got PCM of int16, expected float32 in -1..1. Convert int16 by pcm.astype\(numpy.float32\) / 32768",
        ),
    ],
)
def test_framer__wrong_audio_says_what_to_do_and_keeps_its_state(audio: Audio, expected: str) -> None:
    framer = AudioFramer(_spec(4, 0))
    framer.push(_audio([1, 2]))
    with pytest.raises(TaskError, match=expected):
        framer.push(audio)
    assert _plain(list(framer.push(_audio([3, 4], 2)).chunks)) == [(0, [1, 2, 3, 4])]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shape": (1, 8)}, r"shape \(1, 8\) of float32 .* expected \(1, 11\) of float32. Pin that shape"),
        ({"dtype": "int8"}, r"of int8 .* expected \(1, 11\) of float32"),
        ({"source": TensorInput()}, r"got kind TensorInput, expected audio. Say `kind: audio`"),
        (
            {"source": AudioInput(sample_rate_hz=16000, chunk_samples=0), "shape": (1, 0)},
            r"chunk_samples 0, .* expected at least 1, 0 and 1",
        ),
    ],
)
def test_framer__contract_that_does_not_fit(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(TaskError, match=expected):
        AudioFramer(_spec(**changes))
