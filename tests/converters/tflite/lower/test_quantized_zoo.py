"""Real models: int8 ONNX and int8 TFLite out of one conversion decide the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import InputSpec
from edgesdk.sources.reading import read_picture
from edgesdk.tasks.vision.preprocess import ImagePreprocessor
from edgesdk_converters.pipeline import convert
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.zoo import fetch
from edgesdk_converters.zoo.catalog import spec_path
from edgesdk_converters.zoo.samples import calibration_folder, sample_folder

pytestmark = [pytest.mark.zoo, pytest.mark.slow]
Array = NDArray[Any]


def litert(content: bytes, feeds: list[Array]) -> list[Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    results = []
    for feed in feeds:
        interpreter.set_tensor(source, feed)
        interpreter.invoke()
        results.append(np.array(interpreter.get_tensor(target)))
    return results


def last_scale(content: bytes) -> float:
    """Step of the last quantized tensor before the output."""
    model = onnx.load_from_string(content)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    node = made[model.graph.output[0].name]
    while node.op_type != "DequantizeLinear":
        node = made[node.input[0]]
    return float(values[node.input[1]])


def both(source: Path, calibration: Path, output: Path, spec: Path | None) -> tuple[bytes, bytes, InputSpec]:
    convert(
        source,
        device="generic-x86-64",
        calibration=calibration,
        output=output,
        spec=spec,
        optimize="size",
        allow="the test looks at the int8 files, whatever the guard says",
    )
    with Bundle.open(output) as bundle:
        files = {variant.id: bundle.read(variant.file) for variant in bundle.manifest.variants}
        return files["onnx-int8"], files["tflite-int8"], bundle.manifest.contract.inputs[0]


def assert_agree(graph: bytes, flat: bytes, feeds: list[Array]) -> None:
    runner = OnnxRunner(graph)
    expected = [runner.run([feed])[0] for feed in feeds]
    got = litert(flat, feeds)
    same = [bool((a.argmax(-1) == b.argmax(-1)).all()) for a, b in zip(expected, got, strict=True)]
    assert np.mean(same) >= 0.99
    step = max(last_scale(graph), 1 / 256)
    within = [np.mean(np.abs(a - b) <= 2.02 * step) for a, b in zip(expected, got, strict=True)]
    assert np.mean(within) >= 0.95


def test_kws__both_formats_decide_the_same(kws: Path, tmp_path: Path) -> None:
    features = np.load(kws / "kws01_half.npz")["features"]
    values = ((features.astype(np.float32) - 83) * 0.5847029).astype(np.float32)
    graph = onnx.load(kws / "ds_cnn_fp32.onnx").graph
    shape = [1, *(dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:])]
    folder = tmp_path / "calibration"
    folder.mkdir()
    np.save(folder / "a.npy", values[:150].reshape(-1, *shape[1:]))
    one, other, spec = both(kws / "ds_cnn_fp32.onnx", folder, tmp_path / "kws.edge", None)
    assert_agree(one, other, [value.reshape(spec.shape) for value in values[150:]])


def test_ppocr_cls__both_formats_decide_the_same(tmp_path: Path) -> None:
    name = "ppocr-cls"
    one, other, spec = both(
        fetch(name), calibration_folder(name, tmp_path / "calibration"), tmp_path / "cls.edge", spec_path(name)
    )
    preprocess = ImagePreprocessor(spec)
    pictures = sorted(sample_folder(name, tmp_path / "samples", count=100).glob("*.png"))
    feeds = [np.array(preprocess(read_picture(picture))[0]).reshape(spec.shape) for picture in pictures]
    assert_agree(one, other, feeds)
