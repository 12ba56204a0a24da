from __future__ import annotations

from pathlib import Path

import pytest

from edgesdk.bundle.manifest import Branch, ImageInput, TensorInput
from edgesdk.errors import ConfigError, ConversionError
from edgesdk_converters.contract import Media, OutputFacts, build_contract
from edgesdk_converters.frontends.api import SourceModel, Tensor
from edgesdk_converters.spec import ModelSpec, OutputHint, read_spec

ULTRALYTICS = {"names": "{0: 'person', 1: 'bicycle'}", "task": "detect", "imgsz": "[320, 320]", "stride": "32"}


def build(
    metadata: dict[str, str] | None = None,
    spec: ModelSpec | None = None,
    media: Media = "pictures",
    shape: tuple[int, ...] = (1, 3, 320, 320),
    out: tuple[int, ...] = (1, 6, 2100),
) -> tuple[object, ...]:
    source = SourceModel(
        content=b"",
        format="onnx",
        file="m.onnx",
        sha256="",
        inputs=(Tensor(name="x", shape=shape, dtype="float32"),),
        outputs=(Tensor(name="y", shape=out, dtype="float32"),),
        metadata=metadata or {},
    )
    contract, notes = build_contract(
        source,
        spec or ModelSpec(),
        shapes={"x": shape},
        outputs=[OutputFacts(name="y", shape=out, dtype="float32")],
        branches={},
        media=media,
    )
    return contract, contract.inputs[0].source, notes, contract.outputs[0].branches


def test_contract__ultralytics_metadata() -> None:
    contract, image, notes, _ = build(ULTRALYTICS)
    assert contract.task == "object-detection"  # type: ignore[attr-defined]  # a Contract
    assert contract.labels == ("person", "bicycle")  # type: ignore[attr-defined]  # a Contract
    assert image == ImageInput(layout="NCHW", fit="letterbox")
    assert "Ultralytics" in notes[0]  # type: ignore[index]  # a list


def test_contract__paddle_alphabet() -> None:
    contract, *_ = build({"character": "a\nb\n\u3042\n"})
    assert contract.labels == ("a", "b", "\u3042")  # type: ignore[attr-defined]  # a Contract


def test_contract__spec_comes_before_metadata() -> None:
    contract, *_ = build(ULTRALYTICS, ModelSpec(task="raw", labels=("x",)))
    assert contract.task == "raw"  # type: ignore[attr-defined]  # a Contract
    assert contract.labels == ("x",)  # type: ignore[attr-defined]  # a Contract


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 8, 8), ImageInput(layout="NCHW")),
        ((1, 8, 8, 3), ImageInput(layout="NHWC")),
        ((1, 8, 8, 1), ImageInput(layout="NHWC", colour="GREY")),
    ],
)
def test_contract__pictures_by_default_are_stated(shape: tuple[int, ...], expected: ImageInput) -> None:
    _, image, notes, _ = build(shape=shape)
    assert image == expected
    assert "times 1/255" in notes[1]  # type: ignore[index]  # a list
    assert "source: {kind: image" in notes[1]  # type: ignore[index]  # a list


def test_contract__arrays_as_they_are() -> None:
    assert build(media="arrays")[1] == TensorInput()


def test_contract__recordings_need_a_spec() -> None:
    with pytest.raises(ConversionError, match=r"(?s)holds recordings, but nothing says.*--spec:\ntask: voice-activity"):
        build(media="recordings", shape=(1, 512))


def test_contract__class_axis() -> None:
    assert build(spec=ModelSpec(task="image-classification"), out=(1, 1000))[3] == (Branch(name="y", class_axis=1),)
    spec = ModelSpec(outputs={"y": OutputHint(class_axis=2)})
    assert build(spec=spec, out=(1, 40, 97))[3] == (Branch(name="y", class_axis=2),)


def test_spec__all_problems_with_line_and_nearest_word(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("tsak: raw\ninputs:\n  x: {shape: [1, 3, 8, 8], source: {kind: image, layout: NCHW, color: BGR}}\n")
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    text = str(caught.value)
    assert "model.yaml:1" in text
    assert "task" in text
    assert "model.yaml:3" in text
    assert "colour" in text


def test_spec__labels_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "model.yaml").write_text("labels_file: labels.txt\n")
    assert read_spec(tmp_path / "model.yaml").labels == ("cat", "dog")
    (tmp_path / "model.yaml").write_text("labels_file: none.txt\n")
    with pytest.raises(ConfigError, match=r"labels_file 'none\.txt' cannot be read as UTF-8 text.*One label per line"):
        read_spec(tmp_path / "model.yaml")


def test_contract__labels_that_are_not_as_many_as_the_classes() -> None:
    by_class = {"y": OutputHint(class_axis=1)}
    with pytest.raises(
        ConversionError,
        match=r"m\.onnx: 2 labels, but its class vectors have 5 classes\. Give one label per class, in the order of the class ids",
    ):
        build(spec=ModelSpec(labels=("a", "b"), outputs=by_class), out=(1, 5))
    contract, *_ = build(spec=ModelSpec(labels=tuple("abcde"), outputs=by_class), out=(1, 5))
    assert contract.labels == tuple("abcde")  # type: ignore[attr-defined]  # a Contract
    # A class vector behind a Concat is as long as its branch.
    part = {"y": OutputHint(branches=(Branch(name="c", axis=1, start=4, stop=6, class_axis=1),))}
    contract, *_ = build(spec=ModelSpec(labels=("a", "b"), outputs=part), out=(1, 6))
    assert contract.labels == ("a", "b")  # type: ignore[attr-defined]  # a Contract


def test_contract__labels_of_the_file_that_do_not_fit_are_left_out_and_said() -> None:
    contract, _, notes, _ = build({"labels": "a\nb"}, ModelSpec(outputs={"y": OutputHint(class_axis=1)}), out=(1, 5))
    assert contract.labels == ()  # type: ignore[attr-defined]  # a Contract
    assert any("the file's own labels are left out: 2 labels" in note for note in notes)  # type: ignore[attr-defined]  # a list


def test_spec__labels_file_with_the_mark_of_some_editors(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    (tmp_path / "model.yaml").write_text("labels_file: labels.txt\n", encoding="utf-8")
    assert read_spec(tmp_path / "model.yaml").labels == ("cat", "dog")


def test_spec__labels_file_of_characters(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\n\u2028\n\u3000\n \nz", encoding="utf-8")
    (tmp_path / "model.yaml").write_text("labels_file: labels.txt\n", encoding="utf-8")
    assert read_spec(tmp_path / "model.yaml").labels == ("a", "\u2028", "\u3000", " ", "z")
    (tmp_path / "labels.txt").write_text("", encoding="utf-8")
    assert read_spec(tmp_path / "model.yaml").labels == ()
