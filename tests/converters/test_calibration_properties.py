"""Damaged files, and splits of any set."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.bundle.manifest import Contract, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet, Print
from edgesdk_converters.calibration.alike import part
from edgesdk_converters.calibration.feeds import Feeds
from edgesdk_converters.quantize.histogram import Histogram

CONTRACT = Contract(
    task="raw",
    inputs=(InputSpec(name="x", shape=(1, 3, 4), dtype="float32", source=TensorInput()),),
    outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),),
)


def _file(kind: str) -> bytes:
    values = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    stream = io.BytesIO()
    if kind == "npy":
        np.save(stream, values)
    elif kind == "stored":
        np.savez(stream, x=values)
    else:
        np.savez_compressed(stream, x=values)
    return stream.getvalue()


FILES = {kind: _file(kind) for kind in ("npy", "stored", "compressed")}


def _read(content: bytes, suffix: str) -> None:
    """Whatever is in the file: samples that fit, or an error of ours that says what to do."""
    text = ""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a.{suffix}").write_bytes(content)
        try:
            data = CalibrationSet.from_folder(folder, CONTRACT)
        except CalibrationError as error:
            text = str(error)
        else:
            assert all(feed[0].shape == (1, 3, 4) for feed in data.feeds)
    fixes = (
        "Save it",
        "Reshape it",
        "No reshape makes it",
        "take the sample out",
        "Name the npz keys",
        "Put 20 or more",
        "Inputs: x",
    )
    assert not text or any(fix in text for fix in fixes), text


@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_arrays__truncated_anywhere(kind: str, data: st.DataObject) -> None:
    content = FILES[kind]
    _read(content[: data.draw(st.integers(0, len(content) - 1))], "npy" if kind == "npy" else "npz")


@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_arrays__flipped_bits(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    _read(bytes(content), "npy" if kind == "npy" else "npz")


@given(st.lists(st.integers(0, 12), min_size=5, max_size=60), st.data())
@settings(deadline=None)
def test_part__any_set(contents: list[int], data: st.DataObject) -> None:
    vectors = {content: np.random.default_rng(content).normal(size=256).astype(np.float32) for content in contents}
    prints = [Print(content=str(content), vector=vectors[content]) for content in contents]
    labels = data.draw(st.lists(st.sampled_from(["a", "b", None]), min_size=len(contents), max_size=len(contents)))
    chosen = part(prints, 0.2, labels)
    assert chosen == sorted(set(chosen))
    assert 0 < len(chosen) < len(contents)
    assert chosen == part(prints, 0.2, labels)
    most = max(contents.count(content) for content in contents)
    if most <= len(contents) - round(len(contents) * 0.2):
        held = {contents[index] for index in chosen}
        assert held.isdisjoint(content for index, content in enumerate(contents) if index not in set(chosen))


@given(st.lists(st.integers(1, 4), max_size=8), st.slices(20))
@settings(deadline=None)
def test_feeds__slices_like_a_list(lengths: list[int], cut: slice) -> None:
    units = [[[np.asarray([number, position])] for position in range(length)] for number, length in enumerate(lengths)]
    flat = [feed for unit in units for feed in unit]
    feeds = Feeds(units)
    assert [id(feed[0]) for feed in feeds[cut]] == [id(feed[0]) for feed in flat[cut]]
    assert len(feeds[cut]) == len(flat[cut])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), st.floats(1e-3, 1e4))
@settings(deadline=None)
def test_histogram__counts_everything_within_its_reach(values: list[float], scale: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(np.asarray([value, value * scale], np.float32))
    array = np.asarray([[value, value * scale] for value in values], np.float32)
    assert histogram.counts.sum() + histogram.zeros == 2 * len(values)
    assert histogram.reach >= np.abs(array).max()
    low, high = min(0.0, float(array.min())), max(0.0, float(array.max()))
    assert histogram.within(low, high, 16).sum() == 2 * len(values)
