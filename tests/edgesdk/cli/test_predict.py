from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import ImageInput
from edgesdk.cli.main import main

Make = Callable[..., Path]
Fake = Callable[..., bytes]


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.array([[-1, 2, -3, 4]], np.float32))
    return tmp_path / "x.npy"


@pytest.fixture
def classifier(make_bundle: Make, fake: Fake) -> Path:
    """Calls everything its first class."""
    output = {"name": "y", "shape": [1, 2], "op": "fill", "value": 0.5}
    return make_bundle(
        "classifier",
        {"onnx-fp32": fake(shape=(1, 3, 8, 8), outputs=[output])},
        task="image-classification",
        source=ImageInput(layout="NCHW"),
        shape=(1, 3, 8, 8),
        out=(1, 2),
        labels=("cat", "dog"),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        assert cv2.imwrite(str(folder / name), np.full((20, 30, 3), 90, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predict__json_has_result_model_and_latency(
    make_bundle: Make, array: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(make_bundle()), str(array), "--json", "--device", "generic-x86-64"]) == 0
    (told,) = lines(capsys)
    assert told["input"] == str(array)
    assert told["result"]["outputs"]["y"]["values"] == [[0, 2, 0, 4]]
    assert told["model"]["name"] == "relu"
    assert set(told["latency"]) == {"pre_ms", "inference_ms", "post_ms"}


def test_predict__for_people(make_bundle: Make, array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(make_bundle()), str(array), "--backend", "onnxruntime"]) == 0
    head, _, rest = capsys.readouterr().out.partition(":\n")
    assert head == str(array)
    assert json.loads(rest)["kind"] == "raw"
    assert '"shape": [1, 4]' in rest  # numbers of a list on one line


def test_predict__folder_of_pictures_in_order(
    classifier: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(classifier), str(photos), "--json", "--backend", "fake"]) == 0
    told = lines(capsys)
    assert [Path(item["input"]).name for item in told] == ["a.png", "b.png"]
    assert {item["result"]["kind"] for item in told} == {"classification"}


def test_predict__annotate_one(
    classifier: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    out = tmp_path / "out.jpg"
    assert main(["predict", str(classifier), str(photos / "a.png"), "--backend", "fake", "--annotate", str(out)]) == 0
    drawn = cv2.imread(str(out))
    assert drawn is not None
    assert drawn.shape == (20, 30, 3)
    assert f"wrote {out}" in capsys.readouterr().err


def test_predict__annotate_many_goes_into_a_folder(
    classifier: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["predict", str(classifier), str(photos), "--backend", "fake", "--annotate"]
    assert main([*arguments, str(tmp_path / "drawn")]) == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.jpg", "b.jpg"]
    capsys.readouterr()
    assert main([*arguments, str(tmp_path / "drawn.jpg")]) == 1
    assert "there are several inputs, expected a folder: --annotate drawn/" in capsys.readouterr().err


def test_predict__annotate_into_no_folder__says_so_before_it_predicts(
    classifier: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "no" / "out.jpg"
    assert main(["predict", str(classifier), str(photos / "a.png"), "--backend", "fake", "--annotate", str(out)]) == 1
    captured = capsys.readouterr()
    assert f"there is no folder {out.parent}. Make it: mkdir -p {out.parent}" in captured.err
    assert captured.out == ""


def test_predict__annotate_of_no_picture(
    make_bundle: Make, array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(make_bundle()), str(array), "--annotate", str(tmp_path / "out.jpg")]) == 1
    assert "is no picture. Leave the option out" in capsys.readouterr().err


def test_predict__bad_input_does_not_stop_the_others(
    make_bundle: Make, array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "a.npy"
    broken.write_bytes(b"broken")
    assert main(["predict", str(make_bundle()), str(broken), str(array), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["input"] == str(array)
    assert "is no array file that can be read" in captured.err


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x.npy"], "is a bundle, expected an .edge file"),
        (["a.edge"], "nothing to predict. Name a picture, wav, npy or npz file: edgesdk predict a.edge picture.jpg"),
    ],
)
def test_predict__usage(names: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", *names]) == 2
    assert message in capsys.readouterr().err


def test_predict__empty_folder(make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    assert main(["predict", str(make_bundle()), str(tmp_path / "none")]) == 1
    assert "has no picture, wav, npy or npz file" in capsys.readouterr().err


def test_predict__missing_bundle(array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "gone.edge", str(array)]) == 1
    assert "gone.edge: there is no such file, expected a bundle" in capsys.readouterr().err


def test_predict__unknown_variant(make_bundle: Make, array: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(make_bundle()), str(array), "--variant", "onnx-int8"]) == 1
    assert "no variant 'onnx-int8' in this bundle" in capsys.readouterr().err
