from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import ConstantInput, Contract, ImageInput, InputSpec, OutputSpec, StateInput, TensorInput
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet, media_of

OUT = (OutputSpec(name="y", shape=(1, 4), dtype="float32"),)


def contract(*inputs: InputSpec, outputs: tuple[OutputSpec, ...] = OUT) -> Contract:
    return Contract(task="raw", inputs=inputs, outputs=outputs)


def tensor(name: str = "x", shape: tuple[int, ...] = (1, 3, 4), dtype: str = "float32") -> InputSpec:
    return InputSpec(name=name, shape=shape, dtype=dtype, source=TensorInput())


def test_arrays__exact_stacked_and_batched(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", rng.normal(size=(1, 3, 4)).astype(np.float32))
    np.save(tmp_path / "b.npy", rng.normal(size=(5, 1, 3, 4)).astype(np.float64))
    np.savez(tmp_path / "c.npz", x=rng.normal(size=(6, 3, 4)).astype(np.float32))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor()))
    assert len(data.units) == len(data.feeds) == 12
    assert {(feed[0].shape, str(feed[0].dtype)) for feed in data.feeds} == {((1, 3, 4), "float32")}
    assert data.sha256 == CalibrationSet.from_folder(tmp_path, contract(tensor())).sha256


def test_arrays__several_inputs_by_key_with_a_constant(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", a=np.zeros((2, 1, 3, 4), np.float32), b=np.ones((2, 1, 2), np.int64))
    rate = InputSpec(name="sr", shape=(), dtype="int64", source=ConstantInput(value=16000))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor("a"), rate, tensor("b", (1, 2), "int64")))
    assert [[str(array.dtype) for array in feed] for feed in data.feeds] == [["float32", "int64", "int64"]] * 2
    assert int(data.feeds[0][1]) == 16000


def test_folder__missing(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"no such folder\. Give --calibration a folder"):
        CalibrationSet.from_folder(tmp_path / "none", contract(tensor()))


def test_folder__empty(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"is empty, nothing that calibration can read\. Put 20 or more"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_folder__nothing_usable(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a")
    with pytest.raises(CalibrationError, match=r"holds 1 files, but none.*pictures \(\.jpg"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_folder__mixed_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(
        CalibrationError, match=r"holds pictures and recordings, expected one kind\. Use a folder for each"
    ):
        media_of(tmp_path)


def test_folder__all_unreadable_files_are_listed(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.zeros((1, 3, 4), np.float32))
    (tmp_path / "bad1.npy").write_bytes(b"junk")
    (tmp_path / "bad2.npz").write_bytes(b"PK\x03\x04junk")
    with pytest.raises(CalibrationError) as caught:
        CalibrationSet.from_folder(tmp_path, contract(tensor()))
    text = str(caught.value)
    assert "2 of 3 files cannot be used" in text
    assert "bad1.npy: cannot be read as an array" in text
    assert "bad2.npz: cannot be read as an array" in text
    assert "Repair them or take them out of the folder" in text


def test_folder__unreadable_pictures_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.jpg").write_bytes(b"")
    image = InputSpec(name="x", shape=(1, 3, 8, 8), dtype="float32", source=ImageInput(layout="NCHW"))
    with pytest.raises(CalibrationError, match=r"(?s)2 of 2 files cannot be used:.*a\.png.*b\.jpg.*Repair them"):
        CalibrationSet.from_folder(tmp_path, contract(image))


def test_arrays__wrong_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((7, 12), np.float32))
    with pytest.raises(CalibrationError) as caught:
        CalibrationSet.from_folder(tmp_path, contract(tensor()))
    text = str(caught.value)
    assert "a.npy: the array for input" in text
    assert "has shape [7, 12], expected [1, 3, 4], or [n, 3, 4] for n samples" in text
    assert "array.reshape([-1, 3, 4])" in text


def test_arrays__wrong_size__is_not_told_to_reshape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((7, 5), np.float32))
    with pytest.raises(CalibrationError, match=r"has shape \[7, 5\].*No reshape makes it, write samples of that size"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_arrays__wrong_dtype(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 4), np.uint8))
    with pytest.raises(
        CalibrationError, match=r"is uint8, expected float32\. Save it as what the model takes.*astype\('float32'\)"
    ):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_arrays__missing_and_unknown_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((1, 3, 4), np.float32))
    with pytest.raises(
        CalibrationError, match=r"has no array for input 'x'; it has: image\. Name the npz keys like the inputs"
    ):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 3, 4), np.float32), z=np.zeros(3))
    with pytest.raises(CalibrationError, match=r"has arrays for 'z', which are no inputs\. Inputs: x"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_arrays__one_array_for_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 4), np.float32))
    with pytest.raises(
        CalibrationError, match=r"is one array, the model takes 2: a, b\. Save them together: np\.savez"
    ):
        CalibrationSet.from_folder(tmp_path, contract(tensor("a"), tensor("b")))


def test_arrays__pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asarray([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CalibrationError, match="cannot be read as an array"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_split__every_fifth_is_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10 * 12, dtype=np.float32).reshape(10, 1, 3, 4))
    used, held = CalibrationSet.from_folder(tmp_path, contract(tensor())).split()
    assert (len(used.feeds), len(held.feeds)) == (8, 2)
    assert held.feeds[0][0].flat[0] == 4 * 12
    assert not held.shared


def state_contract() -> Contract:
    return contract(
        tensor("x", (1, 2)),
        InputSpec(name="h", shape=(1, 2), dtype="float32", source=StateInput(from_output="hn")),
        outputs=(OutputSpec(name="hn", shape=(1, 2), dtype="float32"),),
    )


def test_split__few_long_streams_are_cut_at_the_end(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 1, 2), np.float32))
    data = CalibrationSet.from_folder(tmp_path, state_contract())
    assert len(data.units) == 1
    used, held = data.split()
    assert (len(used.feeds), len(held.feeds)) == (8, 2)


def test_split__a_single_sample_is_shared(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 4), np.float32))
    used, held = CalibrationSet.from_folder(tmp_path, contract(tensor())).split()
    assert (len(used.feeds), len(held.feeds), held.shared) == (1, 1, True)


def test_rolled__states_follow_the_model(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 1, 2), np.float32))

    def run(feed: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        return [feed[0] + feed[1]]

    rolled = CalibrationSet.from_folder(tmp_path, state_contract()).rolled(state_contract(), run)
    assert [float(feed[1][0, 0]) for feed in rolled.feeds] == [0, 1, 2, 3]


def test_thinned__spread_evenly(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 1, 2), np.float32))
    assert len(CalibrationSet.from_folder(tmp_path, state_contract()).thinned(5).feeds) == 5
