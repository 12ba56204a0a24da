from __future__ import annotations

import dataclasses
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import AudioInput, Contract, InputSpec, OutputSpec, StateInput, TensorInput
from edgesdk.errors import ModelFormatError
from edgesdk.samples import Audio, Picture, Tensors
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.pipeline import Conversion, convert
from edgesdk_converters.report import (
    contents_of,
    make_examples,
    pick_samples,
    read_record,
    record_of,
    summary,
    write_report,
)
from edgesdk_converters.report.build import record_of_bundle
from edgesdk_converters.report.examples import MAX_SIDE, Pick, encode_png
from edgesdk_converters.report.page import page
from edgesdk_converters.report.trials import best
from edgesdk_converters.runner import OnnxRunner


@pytest.fixture
def conversion(make_conv: Callable[..., onnx.ModelProto], calibration: Path, tmp_path: Path) -> Conversion:
    onnx.save(make_conv(classes=5), tmp_path / "model.onnx")
    return convert(
        tmp_path / "model.onnx",
        device="raspberry-pi-4",
        calibration=calibration,
        output=tmp_path / "small.edge",
        optimize="size",
    )


def test_record_of__a_real_conversion(conversion: Conversion, tmp_path: Path) -> None:
    record = record_of(conversion, limits={"snr_db": 20.0})
    with Bundle.open(conversion.bundle) as bundle:
        assert record.identity == bundle.identity
        variants = {variant.id for variant in bundle.manifest.variants}
        again = record_of_bundle(bundle)
    assert {trial.measurement.variant for trial in record.trials if trial.chosen} == variants
    assert set(record.operators) == variants
    assert record.operators["onnx-fp32"]["Conv"] == 3
    assert set(record.files) >= {variant.file for variant in conversion.manifest.variants}
    assert set(record.sparsity) >= {"first", "depthwise", "last"}
    assert best(record) is not None
    assert again.trials == record.trials
    assert again.device == "raspberry-pi-4"
    write_report(record, tmp_path / "r.json")
    assert read_record(tmp_path / "r.json") == record
    assert "In each of" in page(record)


def test_record_of__bundle_that_was_moved_away(conversion: Conversion, tmp_path: Path) -> None:
    shutil.move(conversion.bundle, tmp_path / "elsewhere.edge")
    record = record_of(conversion)
    assert record.identity == ""
    assert record.operators == {}
    page(record)


def test_contents_of__counts_operators_and_zeros(make_conv: Callable[..., onnx.ModelProto]) -> None:
    model = make_conv()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "w0")
    array = numpy_helper.to_array(weights).copy()
    array[: len(array) // 2] = 0
    weights.CopyFrom(numpy_helper.from_array(array, "w0"))
    found = contents_of(model.SerializeToString(), "onnx")
    assert found.operators == {"Add": 1, "Conv": 3, "Relu": 2}
    assert found.sparsity == {"first": 0.5, "depthwise": 0.0, "last": 0.0}


def test_contents_of__tflite_and_the_same_weights_as_halves(conversion: Conversion) -> None:
    with Bundle.open(conversion.bundle) as bundle:
        names = {v.precision: v.file for v in bundle.manifest.variants if v.format == "tflite"}
        if not names:
            pytest.skip("this board's profile makes no TFLite file")
        whole = contents_of(bundle.read(names["fp32"]), "tflite")
        halves = contents_of(bundle.read(names["fp16"]), "tflite")
    assert whole.operators["CONV_2D"] >= 2
    assert len(whole.sparsity) == 4
    assert len(halves.sparsity) == 4
    assert all(0 <= share < 0.05 for share in (*whole.sparsity.values(), *halves.sparsity.values()))


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_contents_of__no_model(form: Any) -> None:
    with pytest.raises(ModelFormatError):
        contents_of(b"\x07" * 100, form)


def _raw_contract() -> Contract:
    return Contract(
        task="raw",
        inputs=(InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 5), dtype="float32"),),
    )


def test_examples__arrays_from_a_folder(classifier: onnx.ModelProto, calibration: Path) -> None:
    contract, runner = _raw_contract(), OnnxRunner(classifier)
    _, held_out = CalibrationSet.from_folder(calibration, contract).split()
    picks = tuple(pick_samples(held_out, calibration, contract, count=3))
    assert len({pick.name for pick in picks}) == 3
    same = make_examples(contract, picks, runner.run, runner.run)
    assert all(one.same and one.expected == one.got and not one.picture_png for one in same)

    def other(feed: Any) -> list[Any]:
        return [np.roll(array, 1) for array in runner.run(feed)]

    differing = make_examples(contract, picks, runner.run, other)
    assert not any(one.same for one in differing)
    assert differing[0].expected["outputs"]["y"]["values"] == same[0].expected["outputs"]["y"]["values"]


def test_examples__pictures_are_shown_with_their_results(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    from edgesdk.bundle.manifest import ImageInput

    contract = Contract(
        task="image-classification",
        inputs=(InputSpec(name="x", shape=(1, 3, 16, 16), dtype="float32", source=ImageInput(layout="NCHW")),),
        outputs=(OutputSpec(name="y", shape=(1, 3), dtype="float32"),),
        labels=("red", "green", "blue"),
    )
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(10):
        pixels = np.full((600, 900, 3), index * 20, np.uint8)
        pixels[:, :, index % 3] = 255
        cv2.imwrite(str(folder / f"{index}.png"), pixels)

    def run(feed: Any) -> list[Any]:
        means = feed[0].mean(axis=(2, 3))
        return [(np.exp(means * 9) / np.exp(means * 9).sum()).astype(np.float32)]

    _, held_out = CalibrationSet.from_folder(folder, contract).split()
    picks = tuple(pick_samples(held_out, folder, contract))
    assert picks
    assert all(isinstance(pick.sample, Picture) for pick in picks)
    examples = make_examples(contract, picks, run, run)
    assert all(one.same and one.expected["classes"][0]["label"] in contract.labels for one in examples)
    shown = cv2.imdecode(np.frombuffer(examples[0].picture_png, np.uint8), cv2.IMREAD_COLOR)
    assert max(shown.shape) == MAX_SIDE
    assert examples[0].got_png


def test_examples__of_a_long_recording_the_beginning(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000 * 60))
    audio = InputSpec(
        name="x", shape=(1, 512), dtype="float32", source=AudioInput(sample_rate_hz=16000, chunk_samples=512)
    )
    contract = Contract(
        task="voice-activity", inputs=(audio,), outputs=(OutputSpec(name="y", shape=(1, 1), dtype="float32"),)
    )
    (pick,) = pick_samples(CalibrationSet.from_folder(tmp_path, contract), tmp_path, contract)
    assert isinstance(pick.sample, Audio)
    assert 10 < pick.sample.pcm.size / 16000 < 20
    (one,) = make_examples(contract, [pick], *[lambda feed: [np.zeros((1, 1), np.float32)]] * 2)
    assert one.same


def test_examples__of_a_long_stream_the_beginning() -> None:
    spec = InputSpec(name="x", shape=(1, 2), dtype="float32", source=TensorInput())
    contract = Contract(task="raw", inputs=(spec,), outputs=(OutputSpec(name="y", shape=(1, 2), dtype="float32"),))
    stream = [[np.full((1, 2), number, np.float32)] for number in range(2000)]
    (pick,) = pick_samples(CalibrationSet(units=(stream,), sha256=""), None, contract)
    ran: list[float] = []

    def run(feed: Any) -> list[Any]:
        ran.append(float(feed[0][0, 0]))
        return [feed[0]]

    make_examples(contract, [pick], run, lambda feed: [feed[0]])
    assert ran == list(range(512))


def test_examples__inputs_in_which_something_is_found_come_first() -> None:
    from edgesdk_converters.report.examples import _says_something

    assert _says_something({"kind": "faces", "picture_size_wh": [3, 4], "faces": [{"score": 0.9}]})
    assert not _says_something({"kind": "faces", "picture_size_wh": [3, 4], "faces": []})
    assert not _says_something({"kind": "text_line", "text": "", "quad": [[0, 0]]})
    assert _says_something({"kind": "text_direction", "degrees": 0, "score": 0.9})
    contract = _raw_contract()
    one = np.ones((1, 5), np.float32)
    picks = [Pick(name=str(index), feeds=([one],)) for index in range(9)]
    shown = make_examples(contract, picks, lambda feed: [feed[0]], lambda feed: [feed[0]], count=4)
    assert [example.name for example in shown] == ["0", "1", "2", "3"]


def test_examples__states_are_fed_forward_by_the_calibration_set() -> None:
    contract = Contract(
        task="raw",
        inputs=(
            InputSpec(name="x", shape=(1,), dtype="float32", source=TensorInput()),
            InputSpec(name="h", shape=(1,), dtype="float32", source=StateInput(from_output="h2")),
        ),
        outputs=(
            OutputSpec(name="y", shape=(1,), dtype="float32"),
            OutputSpec(name="h2", shape=(1,), dtype="float32"),
        ),
    )

    def run(feed: Any) -> list[Any]:
        return [feed[0] + feed[1], feed[0]]

    one = np.ones(1, np.float32)
    pick = Pick(name="stream", feeds=([one, 0 * one], [one, one]))
    (example,) = make_examples(contract, [pick], run, run)
    assert example.expected["outputs"]["y"]["values"] == [2.0]
    sample = Pick(name="tensors", sample=Tensors(arrays={"x": one}))
    assert make_examples(contract, [sample], run, run)[0].same


def test_encode_png__colours_as_they_are() -> None:
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :, 0] = 255
    blue_first = cv2.imdecode(np.frombuffer(encode_png(Picture(pixels=red, colour="RGB")), np.uint8), cv2.IMREAD_COLOR)
    assert blue_first[0, 0].tolist() == [0, 0, 255]
    grey = encode_png(Picture(pixels=np.zeros((1000, 10), np.uint8), colour="GREY"))
    assert cv2.imdecode(np.frombuffer(grey, np.uint8), cv2.IMREAD_UNCHANGED).shape == (MAX_SIDE, 5)


def test_summary__says_what_passed_below_a_limit(conversion: Conversion) -> None:
    assert not [line for line in summary(conversion) if line.startswith("note: ")]
    first, *rest = conversion.measurements.variants
    figures = tuple(msgspec.structs.replace(one, top1_agreement=11 / 12, passed=True) for one in first.fidelity)
    few = msgspec.structs.replace(first, fidelity=figures, held_out_samples=12)
    measurements = msgspec.structs.replace(conversion.measurements, variants=(few, *rest))
    (note,) = [
        line
        for line in summary(dataclasses.replace(conversion, measurements=measurements))
        if line.startswith("note: ")
    ]
    assert note == (
        f"note: {first.variant} agrees in 91.7% of 12 held-out inputs, below the limit of 98%: of so few, one decision is no reason to "
        "refuse. Give more to judge on: --evaluation DIR"
    )
