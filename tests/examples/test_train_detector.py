"""The example that trains a detector: its scenes, its committed model, and a training in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_detector"


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return __import__("scenes")


def test_scene__follows_from_its_seed(scenes: ModuleType) -> None:
    first, again, other = scenes.scene(5), scenes.scene(5), scenes.scene(6)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.xyxy, again.xyxy)
    assert not np.array_equal(first.pixels, other.pixels)


def test_scene__boxes_lie_inside_and_are_of_the_stated_sizes(scenes: ModuleType) -> None:
    seen = set()
    for one in scenes.scenes(60, seed=9):
        assert one.pixels.shape == (scenes.SIZE, scenes.SIZE, 3)
        assert one.xyxy.min(initial=0) >= 0
        assert one.xyxy.max(initial=0) <= scenes.SIZE
        sides = (one.xyxy[:, 2:] - one.xyxy[:, :2]).max(axis=1)
        assert sides.max(initial=0) <= scenes.LARGEST + 2
        seen |= set(one.class_ids.tolist())
    assert seen == set(range(len(scenes.CLASSES)))


def test_write_folder__labels_belong_to_the_pictures(scenes: ModuleType, tmp_path: Path) -> None:
    scenes.write_folder(tmp_path, count=3, seed=1)
    labels = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    assert labels["classes"] == list(scenes.CLASSES)
    assert sorted(labels["objects"]) == sorted(path.name for path in tmp_path.glob("*.png"))
    drawn = next(iter(scenes.scenes(1, seed=1)))
    assert [row[1:] for row in labels["objects"]["0000.png"]] == drawn.xyxy.tolist()


def test_detector__committed_model_finds_what_is_there(scenes: ModuleType) -> None:
    from edgesdk_converters.frontends import read_source
    from edgesdk_converters.guard.metrics.boxes import Boxes, f1, match
    from edgesdk_converters.runner import OnnxRunner
    from edgesdk_converters.spec import ModelSpec

    source = read_source(EXAMPLE / "detector.onnx", ModelSpec())
    assert source.metadata["task"] == "detect"
    runner = OnnxRunner(source.content)
    matched = there = found = 0
    for one in scenes.scenes(50, seed=11):
        picture = np.ascontiguousarray(one.pixels[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255
        mine = _detections(runner.run([picture])[0][0])
        truth = Boxes(xyxy=one.xyxy.astype(np.float64), scores=np.ones(len(one.xyxy)), class_ids=one.class_ids)
        matched, there, found = matched + match(truth, mine), there + len(truth), found + len(mine)
    assert f1(matched, there, found) >= 0.9


def test_detector__answers_float32() -> None:
    """The exporter once made float64 of its grid and of all behind it, which hardly any tool takes."""
    import onnx

    model = onnx.load(EXAMPLE / "detector.onnx")
    (output,) = model.graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert not casts


def _detections(rows: Any) -> Any:
    """Boxes of an output (4 + classes, n), by the board's own suppression."""
    from edgesdk.tasks.vision.nms import suppress_per_class
    from edgesdk_converters.guard.metrics.boxes import Boxes

    scores, class_ids = rows[4:].max(axis=0), rows[4:].argmax(axis=0).astype(np.int64)
    kept = np.flatnonzero(scores >= 0.25)
    half = rows[2:4, kept].T / 2
    xyxy = np.concatenate([rows[:2, kept].T - half, rows[:2, kept].T + half], axis=1)
    picked = suppress_per_class(xyxy, scores[kept], class_ids[kept], 0.7, 300)
    return Boxes(
        xyxy=xyxy[picked].astype(np.float64),
        scores=scores[kept][picked].astype(np.float64),
        class_ids=class_ids[kept][picked],
    )


@pytest.mark.torch
@pytest.mark.parametrize("turn", range(8))
def test_turned__boxes_stay_on_their_objects(scenes: ModuleType, turn: int) -> None:
    train: Any = __import__("train")
    pixels = np.zeros((160, 160, 3), np.uint8)
    pixels[20:50, 30:90] = 255
    one = scenes.Scene(pixels=pixels, xyxy=np.array([[30, 20, 90, 50]], np.float32), class_ids=np.array([0]))
    turned = train.turned(one, turn)
    ys, xs = np.nonzero(turned.pixels[..., 0])
    assert turned.xyxy.tolist() == [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]


@pytest.mark.torch
@pytest.mark.slow
def test_train__runs_and_exports_what_the_converter_recognises(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(EXAMPLE / "train.py"),
        "--steps",
        "3",
        "--batch",
        "2",
        "--check",
        "2",
    ]
    done = subprocess.run(
        [*command, "--threads", "1", "--least-f1", "0", "--output", str(tmp_path / "d.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "2 held-out scenes of seed 11: precision" in done.stdout
    import onnx

    made = onnx.load(str(tmp_path / "d.onnx"))
    facts = {item.key: item.value for item in made.metadata_props}
    assert facts["names"] == "{0: 'ball', 1: 'tile', 2: 'cone', 3: 'star'}"
    assert [dim.dim_value for dim in made.graph.output[0].type.tensor_type.shape.dim] == [1, 8, 2100]
