from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.manifest import Branch, Contract, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import CalibrationError
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.metrics import AccuracyMetric, metric_for, read_labels


def contract(labels: tuple[str, ...] = ("yes", "no", "stop"), task: str = "raw") -> Contract:
    return Contract(
        task=task,
        inputs=(InputSpec(name="x", shape=(1, 4), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32", branches=(Branch(name="y", class_axis=1),)),),
        labels=labels,
    )


def put(folder: Path, *names: str, table: str | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    if table is not None:
        (folder / "labels.csv").write_text(table)
    return folder


def test_labels__table(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "sub/b.wav", "c.npy", table="file,label\na.wav,yes\nsub/b.wav,2\nc.npy:0,no\nc.npy:1,stop\n")
    labels = read_labels(tmp_path, contract())
    assert labels is not None
    assert labels.for_units(["a.wav", "c.npy", "c.npy", "sub/b.wav"]) == ["yes", "no", "stop", "2"]


def test_labels__sub_folders(tmp_path: Path) -> None:
    labels = read_labels(put(tmp_path, "yes/1.wav", "no/1.wav", "no/2.wav"), contract())
    assert labels is not None
    assert labels.of("no/2.wav") == "no"


def test_labels__none(tmp_path: Path) -> None:
    assert read_labels(put(tmp_path, "1.wav"), contract()) is None
    assert read_labels(put(tmp_path, "monday/1.wav"), contract()) is None  # a file beside the sub-folders
    (tmp_path / "1.wav").unlink()
    assert read_labels(tmp_path, contract()) is None  # order, no classes
    assert read_labels(put(tmp_path, "yes/1.wav"), contract(labels=())) is None


def test_labels__that_do_not_match_are_all_named_with_the_nearest(tmp_path: Path) -> None:
    put(tmp_path, "a.wav", "b.wav", "c.wav", table="a.wav,yess\nb.wave,no\nb.wav,9\na.wav,yes\nb.wav\n")
    with pytest.raises(CalibrationError) as caught:
        read_labels(tmp_path, contract())
    text = str(caught.value)
    assert "labels.csv:1: label 'yess' is none of the model's. Did you mean 'yes'?" in text
    assert "labels.csv:2: there is no file 'b.wave'. Did you mean 'b.wav'?" in text
    assert "labels.csv:3: label '9' is none of the model's. It has: yes, no, stop." in text
    assert "labels.csv:4: 'a.wav' has a label already, 'yess'" in text
    assert "labels.csv:5: has 1 columns, expected 2: file,label" in text
    assert "c.wav: has no label in labels.csv" in text
    assert "Correct them, or remove the file." in text


def test_labels__sub_folder_that_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(
        CalibrationError, match=re.escape("noo/: label 'noo' is none of the model's. Did you mean 'no'?")
    ):
        read_labels(put(tmp_path, "yes/1.wav", "noo/1.wav"), contract())


def test_labels__texts_are_free(tmp_path: Path) -> None:
    spec = Contract(task="text-recognition", inputs=(), outputs=contract().outputs, labels=("a",))
    labels = read_labels(put(tmp_path, "1.png", table='1.png,"Gate 7, open"\n'), spec)
    assert labels is not None
    assert labels.of("1.png") == "Gate 7, open"


def test_labels__no_table_in_utf8(tmp_path: Path) -> None:
    put(tmp_path, "a.wav")
    (tmp_path / "labels.csv").write_bytes(b"a.wav,\xff\xfe")
    with pytest.raises(CalibrationError, match="Save it as UTF-8"):
        read_labels(tmp_path, contract())


def test_accuracy__by_hand() -> None:
    metric = metric_for(contract())
    assert isinstance(metric, AccuracyMetric)
    yes, no = np.asarray([[0.9, 0.1, 0.0]]), np.asarray([[0.1, 0.9, 0.0]])
    metric.add([yes], [no])  # no label: does not count
    assert metric.result() == {}
    for _ in range(9):
        metric.add([yes], [yes], "yes")
    assert not metric.missed(Budget(max_drop=0.005))
    metric.add([yes], [no], "0")
    assert metric.result() == {"accuracy": 0.9, "float_accuracy": 1.0}
    assert not metric.missed(Budget(max_drop=0.005))  # one of ten
    metric.add([yes], [no], "yes")
    assert not metric.missed(Budget())
    (shortfall,) = metric.missed(Budget(max_drop=0.005))
    assert "18.18 percentage points lost, expected at most 0.5 (11 labelled samples)" in shortfall.text
