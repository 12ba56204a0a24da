from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import (
    Branch,
    ConstantInput,
    Contract,
    ImageInput,
    InputSpec,
    OutputSpec,
    StateInput,
    TensorInput,
)
from edgesdk.errors import CalibrationError
from edgesdk_converters.calibration import CalibrationSet, media_of
from edgesdk_converters.calibration.feeds import Store
from edgesdk_converters.zoo.samples import calibration_folder

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


def test_split__a_fifth_is_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(50, 1, 3, 4)).astype(np.float32))
    used, held = CalibrationSet.from_folder(tmp_path, contract(tensor())).split()
    assert (len(used.feeds), len(held.feeds)) == (40, 10)
    assert set(used.names).isdisjoint(held.names)
    assert len({*used.names, *held.names}) == 50
    assert not held.shared


def rows(tmp_path: Path, values: NDArray[np.float32], names: Sequence[str]) -> CalibrationSet:
    tmp_path.mkdir(exist_ok=True)
    for name, value in zip(names, values, strict=True):
        np.save(tmp_path / f"{name}.npy", value)
    return CalibrationSet.from_folder(tmp_path, contract(tensor()))


def values_of(data: CalibrationSet) -> set[float]:
    return {float(feed[0].flat[0]) for feed in data.feeds}


def test_split__follows_the_content_and_not_the_names(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 1, 3, 4)).astype(np.float32)
    one = rows(tmp_path / "a", values, [f"{number:02}" for number in range(30)])
    other = rows(tmp_path / "b", values[::-1], [f"x{number:02}" for number in range(30)])
    assert values_of(one.split()[1]) == values_of(other.split()[1])


def test_split__more_files_move_few_of_the_others(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(55, 1, 3, 4)).astype(np.float32)
    names = [f"{number:02}" for number in range(55)]
    before = values_of(rows(tmp_path / "a", values[:50], names[:50]).split()[1])
    after = values_of(rows(tmp_path / "b", values, names).split()[1])
    assert len(before & after) >= 7


def test_split__copies_stay_together(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 1, 3, 4)).astype(np.float32)
    values = np.concatenate([values, values, values * 1.001])  # twice the same, once nearly
    data = rows(tmp_path / "a", values, [f"{number:02}" for number in range(60)])
    used, held = data.split()
    assert 6 <= len(held.units) <= 15
    assert {round(value, 2) for value in values_of(used)}.isdisjoint({round(value, 2) for value in values_of(held)})


def test_split__nothing_but_copies_of_one(tmp_path: Path) -> None:
    data = rows(tmp_path / "a", np.ones((10, 1, 3, 4), np.float32), [f"{number:02}" for number in range(10)])
    used, held = data.split()
    assert (len(used.units), held.names) == (8, ("08.npy", "09.npy"))


def test_split__each_label_gives_its_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, count in (("cat", 40), ("dog", 10)):
        (tmp_path / label).mkdir()
        for number in range(count):
            np.save(tmp_path / label / f"{number}.npy", rng.normal(size=(1, 3, 4)).astype(np.float32))
    used, held = CalibrationSet.from_folder(tmp_path, contract(tensor())).split()
    assert (held.labels.count("cat"), held.labels.count("dog")) == (8, 2)
    assert (used.labels.count("cat"), used.labels.count("dog")) == (32, 8)


def test_feeds__are_read_again_and_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(7, 1, 3, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "b.npz", x=values + 1)
    np.savez(tmp_path / "c.npz", x=np.asfortranarray(values[:, 0] + 2))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor()))
    expected = np.concatenate([values, values + 1, values + 2])
    for _ in range(2):
        np.testing.assert_array_equal(np.stack([feed[0] for feed in data.feeds]), expected)
    np.testing.assert_array_equal(np.stack([feed[0] for feed in data.feeds[::-4]]), expected[::-4])
    np.testing.assert_array_equal(np.stack([feed[0] for feed in data.feeds[3:19:5][1:]]), expected[3:19:5][1:])
    np.testing.assert_array_equal(data.feeds[-1][0], expected[-1])
    assert len(data.feeds[::5]) == 5
    with pytest.raises(IndexError):
        data.feeds[21]


def test_feeds__little_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 1, 3, 4), np.float32))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor()))
    first = [feed[0] for feed in data.feeds]
    assert all(one is feed[0] for one, feed in zip(first, data.feeds, strict=True))  # small: decoded once
    monkeypatch.setattr(Store.__init__, "__defaults__", (100,))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor()))
    first = [feed[0] for feed in data.feeds]
    assert [one is feed[0] for one, feed in zip(first, data.feeds, strict=True)] == [True, True, *[False] * 4]


def test_feeds__file_that_changed_meanwhile(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 1, 3, 4), np.float32))
    data = CalibrationSet.from_folder(tmp_path, contract(tensor()))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-40])
    with pytest.raises(CalibrationError, match=r"a\.npy: cannot be read as an array \(it ends 40 bytes too early\)"):
        list(data.feeds)


def test_arrays__truncated(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 1, 3, 4), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-40])
    with pytest.raises(CalibrationError, match=r"it ends 40 bytes too early\)\. Save it again with np\.save"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_arrays__damaged_archive(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[120:140] = bytes(20)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"a\.npz: cannot be read as an array .* Save it again with np\.save"):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


def test_arrays__nan(tmp_path: Path) -> None:
    values = np.zeros((6, 1, 3, 4), np.float32)
    values[4, 0, 1, 1] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(
        CalibrationError, match=r"a\.npy: sample 4 has NaN in input 'x'\. Repair whatever wrote the file, or"
    ):
        CalibrationSet.from_folder(tmp_path, contract(tensor()))


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
    for name, count in (("a", 3), ("b", 2), ("c", 2), ("d", 1), ("e", 5)):
        np.save(tmp_path / f"{name}.npy", np.zeros((count, 1, 2), np.float32))
    data = CalibrationSet.from_folder(tmp_path, state_contract())
    assert len(data.thinned(5).feeds) == 5
    # However short the recordings are: at most so many, of which none is empty.
    for most in range(1, 14):
        thinned = data.thinned(most)
        assert 1 <= len(thinned.feeds) <= most or most >= len(data.feeds)
        assert all(len(unit) for unit in thinned.units)
        assert len(thinned.prints) == len(thinned.units)


def test_rolled__states_are_made_again_for_every_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store.__init__, "__defaults__", (0,))
    np.save(tmp_path / "a.npy", np.ones((9, 1, 2), np.float32))
    np.save(tmp_path / "b.npy", np.full((3, 1, 2), 2, np.float32))
    runs = []

    def run(feed: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        runs.append(1)
        return [feed[0] + feed[1]]

    rolled = CalibrationSet.from_folder(tmp_path, state_contract()).rolled(state_contract(), run)
    expected = [*map(float, range(9)), 0.0, 2.0, 4.0]
    for _ in range(2):
        assert [float(feed[1][0, 0]) for feed in rolled.feeds] == expected
    assert len(runs) == 2 * (8 + 2)
    assert [float(feed[1][0, 0]) for feed in rolled.feeds[::4]] == expected[::4]
    assert float(rolled.feeds[7][1][0, 0]) == 7
    assert float(rolled.units[1][-1][1][0, 0]) == 4
    assert [float(feed[1][0, 0]) for feed in rolled.thinned(5).feeds] == [0, 3, 6, 0]
    used, held = rolled.split()
    assert [float(feed[1][0, 0]) for feed in held.feeds] == [7, 8, 4]
    assert len(used.feeds) == 9


def labelled(folder: Path, files: Sequence[str]) -> Path:
    for number, name in enumerate(files):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.full((1, 3, 4), number, np.float32))
    return folder


def with_labels(*labels: str) -> Contract:
    return Contract(task="raw", inputs=(tensor(),), outputs=OUT, labels=labels)


def test_labels__subfolders(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["cat/1.npy", "cat/2.npy", "dog/deep/3.npy"])
    assert CalibrationSet.from_folder(folder, with_labels("dog", "cat")).labels == ("cat", "cat", "dog")
    assert CalibrationSet.from_folder(folder, contract(tensor())).labels == ("cat", "cat", "dog")
    assert CalibrationSet.from_folder(folder, with_labels("day", "night")).labels == (None,) * 3


def test_labels__class_ids(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["0/1.npy", "1/2.npy"])
    assert CalibrationSet.from_folder(folder, with_labels("dog", "cat")).labels == ("dog", "cat")


def test_labels__none(tmp_path: Path) -> None:
    data = CalibrationSet.from_folder(labelled(tmp_path, ["1.npy", "more/2.npy"]), with_labels("dog", "cat"))
    assert data.labels == (None, None)
    assert data.names == ("1.npy", "more/2.npy")


def test_labels__table(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["a/1.npy", "b/2.npy", "3.npy"])
    (folder / "labels.csv").write_text("file,label\na/1.npy,cat\nb/2.npy, dog\n\n3.npy,0\n")
    data = CalibrationSet.from_folder(folder, with_labels("dog", "cat"))
    assert dict(zip(data.names, data.labels, strict=True)) == {"3.npy": "dog", "a/1.npy": "cat", "b/2.npy": "dog"}
    assert data.problems == ()


def test_labels__are_part_of_the_sets_hash(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["1.npy", "2.npy"])
    plain = CalibrationSet.from_folder(folder, with_labels("dog", "cat")).sha256
    (folder / "labels.csv").write_text("1.npy,cat\n2.npy,dog\n")
    one = CalibrationSet.from_folder(folder, with_labels("dog", "cat")).sha256
    (folder / "labels.csv").write_text("1.npy,dog\n2.npy,cat\n")
    other = CalibrationSet.from_folder(folder, with_labels("dog", "cat")).sha256
    assert len({plain, one, other}) == 3


def test_labels__table_with_mistakes__all_are_told(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["one.npy", "two.npy", "three.npy"])
    (folder / "labels.csv").write_text("one.npy,cat\none.npy,dog\ntwo.np,cat\nthree.npy,cat,2\n")
    with pytest.raises(CalibrationError) as caught:
        CalibrationSet.from_folder(folder, contract(tensor()))
    text = str(caught.value)
    assert "labels.csv: 5 problems" in text
    assert "line 2: 'one.npy' has the label 'cat' already, got 'dog'" in text
    assert "line 3: no file 'two.np'. Did you mean 'two.npy'?" in text
    assert "line 4: has 3 columns, expected two: file,label" in text
    assert "no line for 'two.npy'" in text
    assert "Give one line per file: file,label" in text


def test_labels__that_the_model_does_not_have(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["cat/1.npy", "dogs/2.npy", "dogs/3.npy"])
    with pytest.raises(
        CalibrationError,
        match=r"(?s)labels that the model does not have:.*'dogs' \(2 files, first dogs/2\.npy\)\. Did you mean 'dog'\?.*"
        r"Rename them to the model's labels, or to class ids 0\.\.1: dog, cat",
    ):
        CalibrationSet.from_folder(folder, with_labels("dog", "cat"))


def classifier(*labels: str) -> Contract:
    vector = OutputSpec(name="y", shape=(1, 4), dtype="float32", branches=(Branch(name="y", class_axis=1),))
    return Contract(task="raw", inputs=(tensor(),), outputs=(vector,), labels=labels)


def test_labels__subfolders_of_a_classifier_without_names__are_none_and_it_says_so(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["day/1.npy", "night/2.npy"])
    data = CalibrationSet.from_folder(folder, classifier())
    assert data.labels == (None, None)
    (problem,) = data.problems
    assert problem == (
        "its sub-folders (day, night ...) are no labels: the model's classes have no names. If they are, name the classes in the "
        "spec, in their order: labels: [...]"
    )
    folder = labelled(tmp_path / "ids", ["3/1.npy", "0/2.npy"])
    assert CalibrationSet.from_folder(folder, classifier()).labels == ("0", "3")


def test_labels__table_for_a_classifier_without_names(tmp_path: Path) -> None:
    folder = labelled(tmp_path, ["1.npy", "2.npy", "3.npy"])
    (folder / "labels.csv").write_text("1.npy,cat\n2.npy,3\n3.npy,4\n")
    with pytest.raises(
        CalibrationError,
        match=r"(?s)'4' \(1 files, first 3\.npy\).*'cat' \(1 files, first 1\.npy\).*"
        r"Give the ids 0\.\.3, or name the classes in the spec, in their order: labels: \[\.\.\.\]",
    ):
        CalibrationSet.from_folder(folder, classifier())


def reader(characters: str) -> Contract:
    image = InputSpec(name="x", shape=(1, 3, 8, 32), dtype="float32", source=ImageInput(layout="NCHW"))
    lines = OutputSpec(name="y", shape=(1, 4, len(characters) + 1), dtype="float32")
    return Contract(task="text-recognition", inputs=(image,), outputs=(lines,), labels=tuple(characters))


def lines(folder: Path, *texts: str) -> Path:
    cv2 = pytest.importorskip("cv2", reason="needs pip install 'edgesdk[vision]'")
    rng = np.random.default_rng(0)
    rows = []
    for number, text in enumerate(texts):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 256, (8, 32, 3), np.uint8))
        rows.append(f'{number}.png,"{text}"')
    (folder / "labels.csv").write_text("\n".join(rows), "utf-8")
    return folder


def test_labels__texts_are_made_of_the_models_characters(tmp_path: Path) -> None:
    data = CalibrationSet.from_folder(lines(tmp_path, "bad cab", "a, b", "é dead"), reader("abcde ,"))
    assert data.labels == ("bad cab", "a, b", "é dead")


def test_labels__texts_in_other_characters__are_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(
        CalibrationError,
        match=r"(?s)labels\.csv: 8 of 11 characters of the labels are none that the model reads, 'B' \(3\), 'A' \(2\).*"
        r"for example 'BAD' of 0\.png\. Its characters are: abcde \.\.\.\nWrite what each line says in these characters, or give the model's "
        r"own character list: labels_file: in the spec",
    ):
        CalibrationSet.from_folder(lines(tmp_path, "BAD", "CAB", "BEabc"), reader("abcde "))


def test_labels__texts_are_never_taken_from_folders(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs pip install 'edgesdk[vision]'")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.png"), np.full((8, 32, 3), ord(name), np.uint8))
    assert CalibrationSet.from_folder(tmp_path, reader("ab")).labels == (None, None)


def test_set__made_in_memory() -> None:
    feed = [np.zeros((1, 3, 4), np.float32)]
    data = CalibrationSet(units=tuple((feed,) for _ in range(10)), sha256="")
    used, held = data.split()
    assert (len(used.feeds), len(held.feeds), held.labels) == (8, 2, (None, None))


def test_split__a_kind_of_sample_goes_to_both_sides(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 1, 3, 4)).astype(np.float32)
    values[:20] = values[0] + 0.01 * values[:20]  # a fixed camera: all nearly the same
    data = rows(tmp_path / "a", values, [f"{number:02}" for number in range(50)])
    used, held = data.split()
    assert len(held.units) == 10
    assert 1 <= sum(name < "20" for name in held.names) <= 8
    assert sum(name < "20" for name in used.names) >= 12


def test_split__a_film_is_cut_at_its_end(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 1, 3, 4)).astype(np.float32)
    values[:39] = values[0] + 0.01 * values[:39]
    data = rows(tmp_path / "a", values, [f"{number:02}" for number in range(40)])
    _, held = data.split()
    assert held.names == tuple(f"{number:02}.npy" for number in range(32, 40))


@pytest.mark.zoo
def test_split__photographs_of_the_zoo(tmp_path: Path) -> None:
    folder = calibration_folder("ppocr-det", tmp_path / "set", count=40)
    image = InputSpec(name="x", shape=(1, 3, 64, 64), dtype="float32", source=ImageInput(layout="NCHW"))
    data = CalibrationSet.from_folder(folder, contract(image))
    used, held = data.split()
    assert (len(used.units), len(held.units)) == (32, 8)
    assert 1 <= sum(int(Path(name).stem) % 4 == 0 for name in held.names) <= 5  # every fourth is the same page
    np.testing.assert_array_equal(
        np.stack([feed[0] for feed in used.feeds]), np.stack([feed[0] for feed in used.feeds[:]])
    )
