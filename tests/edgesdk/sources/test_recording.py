from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.errors import SourceError, SourceFormatError
from edgesdk.samples import Audio, Picture, Sample, Stamp, Tensors
from edgesdk.sources import make_source
from edgesdk.sources.recording import INDEX, Recorder, read_index, record


def _stamp(n: int) -> Stamp:
    return Stamp(time_ns=1_700_000_000_000_000_000 + n, monotonic_ns=5_000_000_000 + n)


def _record(folder: Path, samples: list[Sample]) -> Path:
    with Recorder(folder, source="test") as recorder:
        for sample in samples:
            recorder.add(sample)
    return folder


def _equal(one: Sample, other: Sample) -> bool:
    if isinstance(one, Picture) and isinstance(other, Picture):
        same = np.array_equal(one.pixels, other.pixels) and one.colour == other.colour
    elif isinstance(one, Audio) and isinstance(other, Audio):
        same = np.array_equal(one.pcm, other.pcm) and (one.first_sample, one.last) == (other.first_sample, other.last)
    elif isinstance(one, Tensors) and isinstance(other, Tensors):
        same = one.arrays.keys() == other.arrays.keys() and all(
            np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays
        )
    else:
        return False
    return same and one.captured == other.captured and one.uri == other.uri


_samples = st.one_of(
    st.builds(
        lambda h, w, grey, n, uri: Picture(
            pixels=np.full((h, w) if grey else (h, w, 3), n % 256, dtype=np.uint8),
            colour="GREY" if grey else "BGR",
            captured=_stamp(n),
            uri=uri,
        ),
        st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 10**9), st.text(max_size=5),
    ),
    st.builds(
        lambda size, n, last: Audio(
            pcm=np.linspace(-1, 1, size, dtype=np.float32), sample_rate_hz=16000, captured=_stamp(n), first_sample=n,
            last=last,
        ),
        st.integers(0, 20), st.integers(0, 10**9), st.booleans(),
    ),
    st.builds(lambda n: Tensors(arrays={"file": np.arange(n), "b": np.zeros((1, 2))}, captured=_stamp(n)), st.integers(0, 9)),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(_samples, max_size=4))
def test_replay__gives_back_what_was_recorded(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> None:
    folder = _record(tmp_path_factory.mktemp("run") / "r", samples)
    replayed = []
    with make_source("replay", {"path": folder, "pace": "fast", "stamps": "recorded"}) as source:
        while (sample := source.read()) is not None:
            replayed.append(sample)
    assert len(replayed) == len(samples)
    assert all(_equal(one, other) for one, other in zip(samples, replayed, strict=True))


def test_recorder__existing_recording__is_refused(tmp_path: Path) -> None:
    _record(tmp_path, [])
    with pytest.raises(SourceError, match=r"holds a recording already\. Name another folder"):
        Recorder(tmp_path)


def test_index__cut_off_last_line__is_ignored(tmp_path: Path) -> None:
    _record(tmp_path, [Tensors(arrays={"x": np.zeros(1)})] * 2)
    index = tmp_path / INDEX
    index.write_bytes(index.read_bytes()[:-9])
    assert len(read_index(tmp_path)) == 1


def test_index__wrong_schema__names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"schema": "other/2"}\n')
    with pytest.raises(SourceFormatError, match=r"recording\.jsonl:1: schema is 'other/2', expected .*Record"):
        read_index(tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.npy", "x.pkl"])
def test_index__file_outside_the_folder__is_refused(tmp_path: Path, name: str) -> None:
    line = f'{{"kind": "tensors", "file": "{name}", "time_ns": 1, "monotonic_ns": 1}}\n'
    (tmp_path / INDEX).write_text('{"schema": "edgesdk.recording/1"}\n' + line)
    with pytest.raises(SourceFormatError, match=r"recording\.jsonl:2: not a sample of a recording"):
        read_index(tmp_path)


def test_replay__missing_or_wrong_file__says_which(tmp_path: Path) -> None:
    _record(tmp_path, [Picture(pixels=np.zeros((2, 2, 3), dtype=np.uint8))])
    np.save(tmp_path / "000000.npy", np.zeros(3))
    with (
        make_source("replay", {"path": tmp_path, "pace": "fast"}) as source,
        pytest.raises(
            SourceFormatError,
            match=r"000000\.npy: is float64 \(3,\), expected a uint8 picture.*Record the samples anew",
        ),
    ):
        source.read()
    (tmp_path / "000000.npy").unlink()
    with (
        make_source("replay", {"path": tmp_path, "pace": "fast"}) as source,
        pytest.raises(SourceFormatError, match=r"000000\.npy: cannot be read as a sample"),
    ):
        source.read()


def test_record__a_source__can_be_replayed(tmp_path: Path) -> None:
    assert record(make_source("fake", {"samples": 5}), tmp_path / "all") == 5
    assert record(make_source("fake", {"samples": None}), tmp_path / "some", samples=2) == 2
    uris = []
    with make_source("replay", {"path": tmp_path / "all", "pace": "fast"}) as source:
        while (sample := source.read()) is not None:
            uris.append(sample.uri)
    assert uris == [f"fake:{n}" for n in range(5)]
