"""The cascade cuts lines out, turns them, reads them; and reads real text with the models of the zoo."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
from edgesdk.errors import TaskError
from edgesdk.samples import Audio, Picture, Sample
from edgesdk.sources.reading import read_picture
from edgesdk.tasks.api import Array, Cascade, Run, Task
from edgesdk.tasks.text_results import Direction, TextLine, TextRegions
from edgesdk.tasks.vision.text_detection import TextDetection
from edgesdk.tasks.vision.text_reading import TextReading
from edgesdk.tasks.vision.text_recognition import TextDirection, TextRecognition

cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")

QUAD = np.array([[10, 10], [50, 10], [50, 20], [10, 20]], np.float32)
TALL = np.array([[60, 10], [70, 10], [70, 50], [60, 50]], np.float32)


class _Part:
    """A task that answers by a function of the picture."""

    contract = Contract(task="fake", inputs=(), outputs=())

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.pictures: list[Picture] = []
        self.resets = 0

    def __call__(self, run: Run, sample: Sample) -> Any:
        assert isinstance(sample, Picture)
        self.pictures.append(sample)
        return self.answer(sample)

    def feeds(self, sample: Sample) -> list[list[Array]]:
        return []

    def reset(self) -> None:
        self.resets += 1


def _line(text: str, score: float) -> TextLine:
    return TextLine(text=text, score=score, quad=QUAD)


def _regions(*quads: Any) -> _Part:
    found = np.array(quads, np.float32).reshape(-1, 4, 2)
    return _Part(lambda _: TextRegions(quads=found, scores=np.ones(len(found), np.float32), picture_size_wh=(100, 60)))


def _upright(picture: Picture) -> bool:
    """The test picture is bright at the upper left corner of each line."""
    return bool(picture.pixels[1, 1].max() > 128)


def _picture(*corners: tuple[int, int]) -> Picture:
    pixels = np.zeros((60, 100, 3), np.uint8)
    for x, y in corners:
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    return Picture(pixels=pixels)


def _read(picture: Sample, **parts: Any) -> Any:
    named: dict[str, Task] = {f"text-{name}": part for name, part in parts.items()}
    runs: dict[str, Run] = {name: (lambda _: []) for name in named}
    return TextReading(named)(runs, picture)


READER = _Part(lambda picture: _line("up", 0.95) if _upright(picture) else _line("down", 0.6))
DIRECTION = _Part(lambda picture: Direction(degrees=0 if _upright(picture) else 180, score=0.99))


@pytest.mark.parametrize("parts", [{"recognition": READER}, {"recognition": READER, "direction": DIRECTION}])
@pytest.mark.parametrize(
    ("quad", "bright"),
    [
        (QUAD, (10, 10)),
        (QUAD, (50, 20)),  # on its head
        (TALL, (60, 50)),  # bottom to top
        (TALL, (70, 10)),  # top to bottom
    ],
)
def test_text__is_read_whichever_way_it_lies(parts: dict[str, Any], quad: Array, bright: tuple[int, int]) -> None:
    text = _read(_picture(bright), detection=_regions(quad), **parts)
    assert text.text == "up"
    assert text.lines[0].quad[0].tolist() == list(bright)
    assert text.lines[0].quad[1].tolist() != text.lines[0].quad[0].tolist()


def test_text__sure_line_is_read_once_and_an_unsure_direction_is_not_followed() -> None:
    reader = _Part(lambda _: _line("x", 0.95))
    unsure = _Part(lambda _: Direction(degrees=180, score=0.6))
    _read(_picture((10, 10)), detection=_regions(QUAD), direction=unsure, recognition=reader)
    assert len(reader.pictures) == 1
    assert _upright(reader.pictures[0])


def test_text__empty_and_unsure_lines_are_left_out() -> None:
    answers = iter([("", 0.0), ("", 0.0), ("noise", 0.4), ("esion", 0.3), (" text ", 0.95)])
    reader = _Part(lambda _: _line(*next(answers)))
    text = _read(_picture(), detection=_regions(QUAD, QUAD, QUAD), recognition=reader)
    assert [line.text for line in text.lines] == ["text"]
    built = text.to_json()
    assert json.loads(json.dumps(built)) == {
        "kind": "text",
        "picture_size_wh": [100, 60],
        "lines": [{"text": "text", "score": 0.95, "quad": QUAD.tolist()}],
    }


def test_text__nothing_found() -> None:
    text = _read(_picture(), detection=_regions(), recognition=READER)
    assert (len(text), text.text, text.to_json()["lines"]) == (0, "", [])


def test_text__reset_reaches_the_parts() -> None:
    parts: dict[str, Any] = {"text-detection": _regions(), "text-recognition": _Part(None)}
    cascade = TextReading(parts)
    assert isinstance(cascade, Cascade)
    cascade.reset()
    assert [part.resets for part in parts.values()] == [1, 1]


def test_text__what_is_wrong_is_named() -> None:
    with pytest.raises(
        TaskError, match=r"got parts \['text-detection'\], missing text-recognition. Load a bundle of each"
    ):
        _read(_picture(), detection=_regions())
    with pytest.raises(
        TaskError, match=r"part 'text-recognition' gave Direction, expected TextLine. Use a bundle whose"
    ):
        _read(_picture(), detection=_regions(QUAD), recognition=DIRECTION)
    with pytest.raises(TaskError, match=r"got Audio .*, it takes a Picture. Give it a picture file or a camera."):
        _read(Audio(pcm=np.zeros(1, np.float32), sample_rate_hz=16000), detection=_regions(), recognition=READER)


LINES = ("Edge devices run models", "Invoice No. 2024-0815", "Total amount due: 1234.56 EUR", "Warning: hot surface")
LONG = "A long line of printed text that is far wider than the window of the model which reads it"


@pytest.fixture(scope="module")
def reading() -> Any:
    """The cascade with the zoo's PP-OCR models, as float; reads a picture."""
    zoo = pytest.importorskip("edgesdk_converters.zoo", reason="pip install -e ./converters")
    runtime = pytest.importorskip("onnxruntime", reason="pip install 'edgesdk[onnx]'")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    sessions = {
        name: runtime.InferenceSession(zoo.fetch(name).read_bytes(), options, providers=["CPUExecutionProvider"])
        for name in ("ppocr-det", "ppocr-cls", "ppocr-rec")
    }
    characters = sessions["ppocr-rec"].get_modelmeta().custom_metadata_map["character"].split("\n")

    def contract(
        task: str, size_hw: tuple[int, int], output: tuple[int, ...], labels: Sequence[str] = (), **changes: Any
    ) -> Contract:
        image = {"layout": "NCHW", "colour": "BGR", "mean": (0.5,), "std": (0.5,), "fit": "pad-right", "pad_value": 127}
        source = ImageInput(**{**image, **changes})
        return Contract(
            task=task,
            inputs=(InputSpec(name="x", shape=(1, 3, *size_hw), dtype="float32", source=source),),
            outputs=(OutputSpec(name="out", shape=output, dtype="float32"),),
            labels=tuple(labels),
        )

    detection = contract(
        "text-detection",
        (640, 640),
        (1, 1, 640, 640),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        fit="letterbox",
    )
    direction = contract("text-direction", (48, 192), (1, 2), ("0", "180"))
    recognition = contract("text-recognition", (48, 320), (1, 40, len(characters) + 2), characters)
    cascade = TextReading(
        {
            "text-detection": TextDetection(detection),
            "text-direction": TextDirection(direction),
            "text-recognition": TextRecognition(recognition),
        }
    )

    def runner(session: Any) -> Run:
        return lambda inputs: session.run(None, {"x": inputs[0]})

    runs = {
        task: runner(sessions[name])
        for task, name in zip(TextReading.tasks, ("ppocr-det", "ppocr-cls", "ppocr-rec"), strict=True)
    }
    return lambda picture: cascade(runs, picture)


def _page(lines: Sequence[str]) -> Picture:
    pixels = np.full((60 * len(lines) + 40, 1400, 3), 255, np.uint8)
    for index, line in enumerate(lines):
        cv2.putText(pixels, line, (30, 60 * index + 60), cv2.FONT_HERSHEY_DUPLEX, 1.0, (20, 20, 20), 1, cv2.LINE_AA)
    return Picture(pixels=pixels)


@pytest.mark.zoo
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_text__rendered_page_is_read_whichever_way_it_lies(reading: Any, turns: int) -> None:
    lines = (*LINES, LONG)
    page = _page(lines)
    text = reading(Picture(pixels=np.ascontiguousarray(np.rot90(page.pixels, turns))))
    assert len(text) == len(lines)
    expected = "\n".join(lines)
    assert difflib.SequenceMatcher(None, text.text, expected, autojunk=False).ratio() > 0.97
    assert all(line.score > 0.85 for line in text.lines)


@pytest.mark.zoo
def test_text__photograph_of_a_page(reading: Any) -> None:
    zoo = pytest.importorskip("edgesdk_converters.zoo", reason="pip install -e ./converters")
    picture = read_picture(zoo.media("page"))
    text = reading(picture)
    assert len(text) == 7
    closed_up = text.text.replace(" ", "")
    for line in (
        "Region-basedsegmentation",
        "Letusfirstdeterminemarkersofthecoinsandthe",
        "themarkersarefoundatthetwoextremepartsofthe",
        "histogramofgreyvalues:",
    ):
        assert line in closed_up
