from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import AssumptionWarning, TaskError
from edgesdk.samples import Picture
from edgesdk.tasks.results import Detections
from edgesdk.tasks.vision.yolo import MAX_CANDIDATES, ObjectDetection

LABELS = ("person", "dog", "car")
SIDE = 64
COUNT = 84  # 8x8 + 4x4 + 2x2
PICTURE = Picture(pixels=np.zeros((240, 320, 3), np.uint8))
IMAGE = InputSpec(
    name="images", shape=(1, 3, SIDE, SIDE), dtype="float32", source=ImageInput(layout="NCHW", fit="letterbox")
)


def _output(rows: Mapping[int, tuple[tuple[float, ...], int, float]], count: int = COUNT) -> NDArray[np.float32]:
    """(1, 4 + 3, n): prediction index -> box cxcywh, class, score."""
    output = np.zeros((1, 4 + len(LABELS), count), np.float32)
    for index, (box, class_id, score) in rows.items():
        output[0, :4, index] = box
        output[0, 4 + class_id, index] = score
    return output


def _contract(shape: tuple[int, ...], labels: tuple[str, ...] = LABELS, **options: Any) -> Contract:
    output = OutputSpec(name="output0", shape=shape, dtype="float32")
    return Contract(task="object-detection", inputs=(IMAGE,), outputs=(output,), labels=labels, options=options)


def _detect(output: NDArray[np.float32], **options: Any) -> Detections:
    return ObjectDetection(_contract(output.shape, **options))(lambda _: [output], PICTURE)


# 320x240 onto 64x64: scale 0.2, 8 rows of border above and below.
DOG = ((20.0, 28.0, 10.0, 20.0), 1, 0.9)
DOG_XYXY = [75.0, 50.0, 125.0, 150.0]


def test_detection__box_lands_in_picture_pixels() -> None:
    result = _detect(_output({17: DOG}))
    np.testing.assert_allclose(result.xyxy, [DOG_XYXY], atol=1e-3)
    assert (result.labels, result.class_ids.tolist(), result.picture_size_wh) == (("dog",), [1], (320, 240))
    np.testing.assert_allclose(result.scores, [0.9])


def test_detection__transposed_and_normalised_outputs_give_the_same() -> None:
    output = _output({17: DOG})
    output[0, :4] /= SIDE
    result = _detect(np.ascontiguousarray(output.transpose(0, 2, 1)), coordinates="normalised")
    np.testing.assert_allclose(result.xyxy, [DOG_XYXY], atol=1e-3)


def test_detection__overlaps_of_one_class_are_one_object() -> None:
    box = DOG[0]
    rows = {3: (box, 1, 0.8), 4: (box, 1, 0.9), 5: (box, 2, 0.5)}
    assert _detect(_output(rows)).labels == ("dog", "car")
    assert _detect(_output(rows), agnostic=True).labels == ("dog",)


def test_detection__best_first_and_bounded() -> None:
    rows = {index: ((5.0 + 6 * index, 30.0, 4.0, 4.0), 0, 0.3 + 0.05 * index) for index in range(10)}
    result = _detect(_output(rows), max_detections=4)
    np.testing.assert_allclose(result.scores, [0.75, 0.7, 0.65, 0.6], atol=1e-6)


def test_detection__nothing_above_the_threshold() -> None:
    result = _detect(_output({3: ((9, 9, 2, 2), 0, 0.24)}))
    assert len(result) == 0
    assert result.picture_size_wh == (320, 240)
    assert len(_detect(_output({3: ((9, 9, 2, 2), 0, 0.24)}), score_threshold=0.2)) == 1


def test_detection__boxes_are_cut_off_at_the_picture() -> None:
    result = _detect(_output({0: ((0.0, 32.0, 200.0, 200.0), 0, 0.9)}))
    np.testing.assert_allclose(result.xyxy, [[0, 0, 320, 240]])


def test_detection__not_finite_boxes_are_dropped() -> None:
    result = _detect(_output({0: ((np.nan, 1, 1, 1), 0, 0.9), 17: DOG}))
    assert result.labels == ("dog",)


def test_detection__candidates_are_bounded() -> None:
    """All predictions fire, as those of a broken model do; the best one survives."""
    count = MAX_CANDIDATES * 3
    output = _output({}, count)
    output[0, :4] = np.random.default_rng(0).uniform(5, 60, (4, count))
    output[0, 4] = 0.5
    output[0, 4, 1234] = 0.99
    result = _detect(output, max_detections=5)
    assert len(result) == 5
    assert result.scores[0] == pytest.approx(0.99)


def test_detection__normalised_boxes_read_as_pixels_are_noticed_once() -> None:
    output = _output({0: ((0.5, 0.5, 0.2, 0.2), 0, 0.9)})
    task = ObjectDetection(_contract(output.shape))
    with pytest.warns(AssumptionWarning, match="Set option 'coordinates' to 'normalised'"):
        task(lambda _: [output], PICTURE)
    task(lambda _: [output], PICTURE)


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((1, 8, COUNT), LABELS, "use a YOLOv8 or YOLO11 export"),
        ((1, 300, 6), LABELS, r"suppression in the graph .*export again with nms=False"),
        ((1, 84, 8400), LABELS, "shorter than the model's classes: 3 labels, 80 classes"),
        ((1, 4, COUNT), (), r"expected one output \(1, 4 \+ classes, n\)"),
        ((7, COUNT), LABELS, r"outputs are output0 \(7, 84\); expected one output \(1, 7 = 4 \+ 3 labels, n\)"),
    ],
    ids=["objectness", "suppression", "labels", "no classes", "two axes"],
)
def test_detection__shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        ObjectDetection(_contract(shape, labels))


def test_detection__layout_by_option_where_shapes_are_ambiguous() -> None:
    """As many predictions as channels: only the option knows."""
    output = np.zeros((1, 7, 7), np.float32)
    output[0, 2] = [20, 28, 10, 20, 0, 0.9, 0]
    np.testing.assert_allclose(_detect(output, layout="channels-last").xyxy, [DOG_XYXY], atol=1e-3)


def test_detection__through_a_session(tmp_path: Path) -> None:
    """A graph that emits known boxes, run by ONNX Runtime."""
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'edgesdk[onnx]'")
    helper = onnx.helper
    output = _output({17: DOG, 40: ((50.0, 40.0, 8.0, 8.0), 0, 0.6)})
    constant = onnx.numpy_helper.from_array(output, "boxes")
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Add", ["boxes", "nothing"], ["output0"]),
        ],
        "detector",
        [helper.make_tensor_value_info("images", 1, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", 1, list(output.shape))],
        [constant, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "detector.onnx"
    onnx.save(model, path)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result = ObjectDetection(_contract(output.shape))(lambda feed: session.run(None, {"images": feed[0]}), PICTURE)
    assert result.labels == ("dog", "person")
    np.testing.assert_allclose(result.xyxy, [DOG_XYXY, [230.0, 140.0, 270.0, 180.0]], atol=1e-3)
