from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Mosquitto:
    """A mosquitto of our own: ``start``, ``kill`` and ``start`` again on the same port."""

    def __init__(self, folder: Path, options: str = "allow_anonymous true\n", listener: str = "") -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        self.folder = folder
        self.config = folder / "mosquitto.conf"
        # It starts as root in CI and would change to a user that cannot read the test's folder.
        self.config.write_text(f"user root\nlistener {self.port} 127.0.0.1\n{listener}{options}log_dest stderr\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        log = (self.folder / "mosquitto.log").open("ab")
        self.process = subprocess.Popen([program, "-c", str(self.config)], stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "mosquitto.log").read_text()
                time.sleep(0.02)
            else:
                return self

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()


@pytest.fixture
def make_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    made: list[Mosquitto] = []

    def make(options: str = "allow_anonymous true\n", listener: str = "") -> Mosquitto:
        folder = tmp_path / f"mosquitto{len(made)}"
        folder.mkdir()
        made.append(Mosquitto(folder, options, listener))
        return made[-1].start()

    yield make
    for broker in made:
        broker.kill()


SIZE, STRIDE, CELLS = 320, 8, 40
REACH = 6
"""Cells in which a square's edges are looked for on each side: squares up to 96 model pixels are measured."""
COPIES = 8
"""Equal channels per colour, so that there is something for int8 to make faster."""
COLOURS_BGR = {"red": (26, 26, 230), "green": (26, 230, 26), "blue": (230, 26, 26)}


@pytest.fixture(scope="session")
def square_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO export as people have it (metadata, one output of boxes and scores behind one Concat), weights set by hand.

    It really detects: squares of three colours on a grey ground. A cell's colour purity is averaged over 8 x 8 pixels; how far
    the four edges are is the sum of the coverage to each side, as in the head of YOLOv8; a class's score is high where
    3 x 3 cells are covered.
    """
    onnx = pytest.importorskip("onnx", reason="pip install -e ./converters")
    helper, node = onnx.helper, onnx.helper.make_node
    purity = np.full((3, 3), -0.5)
    np.fill_diagonal(purity, 1)
    to_rgb = 1.25 / STRIDE**2  # the drawn colours are 0.8 of the way from grey to pure
    patch = np.repeat(purity * to_rgb, COPIES, axis=0)[:, :, None, None] * np.ones((1, 1, STRIDE, STRIDE))
    own = np.repeat(np.eye(3), COPIES, axis=1)[:, :, None, None] / COPIES
    before = np.array([1.0] * REACH + [0.5] + [0.0] * REACH) / COPIES
    distance = np.zeros((4, 3 * COPIES, 2 * REACH + 1, 2 * REACH + 1))
    distance[0, :, REACH, :], distance[2, :, REACH, :] = before, before[::-1]
    distance[1, :, :, REACH], distance[3, :, :, REACH] = before, before[::-1]
    centres = np.stack(np.meshgrid(np.arange(CELLS) + 0.5, np.arange(CELLS) + 0.5)).reshape(1, 2, -1)
    floats = {
        "patch": patch,
        "distance": distance,
        "score": own * np.full((1, 1, 3, 3), 20 / 9),
        "score_bias": np.full(3, -15.0),
        "anchors": centres,
        "stride": np.array(STRIDE),
        "two": np.array(2),
    }
    integers = {"as_boxes": np.array([1, 4, -1]), "as_scores": np.array([1, 3, -1]), "halves": np.array([2, 2])}
    nodes: list[Any] = [
        node("Conv", ["images", "patch"], ["purity"], strides=[STRIDE, STRIDE]),
        node("Relu", ["purity"], ["coverage"]),
        node("Conv", ["coverage", "distance"], ["sides"], pads=[REACH] * 4),
        node("Reshape", ["sides", "as_boxes"], ["ltrb"]),
        node("Split", ["ltrb", "halves"], ["lt", "rb"], axis=1),
        node("Sub", ["anchors", "lt"], ["x1y1"]),
        node("Add", ["anchors", "rb"], ["x2y2"]),
        node("Add", ["x1y1", "x2y2"], ["sum"]),
        node("Div", ["sum", "two"], ["centre"]),
        node("Sub", ["x2y2", "x1y1"], ["size"]),
        node("Concat", ["centre", "size"], ["cells"], axis=1),
        node("Mul", ["cells", "stride"], ["boxes"]),
        node("Conv", ["coverage", "score", "score_bias"], ["logits"], pads=[1] * 4),
        node("Reshape", ["logits", "as_scores"], ["flat"]),
        node("Sigmoid", ["flat"], ["scores"]),
        node("Concat", ["boxes", "scores"], ["output0"], axis=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "squares",
            [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, [1, 7, CELLS**2])],
            [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in floats.items()]
            + [onnx.numpy_helper.from_array(value, name) for name, value in integers.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    names = repr(dict(enumerate(COLOURS_BGR)))
    metadata = {"task": "detect", "stride": "32", "batch": "1", "imgsz": f"[{SIZE}, {SIZE}]", "names": names}
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    file = tmp_path_factory.mktemp("squares") / "yolo.onnx"
    onnx.save(model, file)
    return file


@pytest.fixture(scope="session")
def square_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures 480 x 360 of up to four squares, and beside the folder its truth: for each file ``[label, x1, y1, x2, y2]``s."""
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    truth: dict[str, list[list[Any]]] = {}
    for number in range(40):
        ground = random.normal(110, 12, (360, 480, 1)) + np.linspace(-40, 40, 480)[None, :, None]
        picture = ground.repeat(3, axis=2)
        squares: list[list[Any]] = []
        for quarter in range(4):
            if quarter and random.random() < 0.35:
                continue
            width, height = random.integers(50, 110, 2).tolist()
            x = quarter % 2 * 240 + int(random.integers(20, 210 - width))
            y = quarter // 2 * 180 + int(random.integers(10, 170 - height))
            label = str(random.choice(list(COLOURS_BGR)))
            picture[y : y + height, x : x + width] = COLOURS_BGR[label]
            squares.append([label, x, y, x + width, y + height])
        name = f"{number:04d}.jpg"
        assert cv2.imwrite(str(folder / name), np.clip(picture, 0, 255).astype(np.uint8))
        truth[name] = squares
    (folder.parent / f"{folder.name}.json").write_text(json.dumps(truth))
    return folder
