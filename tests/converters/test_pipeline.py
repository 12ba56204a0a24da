from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import Measurement
from edgesdk.errors import ConversionError, ProfileNotFoundError, TaskError
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.pipeline import Conversion, convert
from edgesdk_converters.progress import Quiet
from edgesdk_converters.report import advice, summary
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.variants.opening import open_family

DEVICE = "raspberry-pi-4"


@pytest.fixture
def run(tmp_path: Path, calibration: Path) -> Callable[..., Conversion]:
    def _run(model: onnx.ModelProto, *, output: str = "out.edge", **more: object) -> Conversion:
        onnx.save(model, tmp_path / "model.onnx")
        arguments: dict[str, object] = {
            "device": DEVICE,
            "calibration": calibration,
            "output": tmp_path / output,
            "formats": ("onnx",),
            **more,
        }
        return convert(tmp_path / "model.onnx", **arguments)  # type: ignore[arg-type]  # tests pass what they mean

    return _run


def test_convert__dscnn_agrees_with_fp32(kws: Path, tmp_path: Path) -> None:
    data = np.load(kws / "kws01_half.npz")
    # The file's int8 features, back to the model's float input: scale 0.5847029, zero point 83.
    x = ((data["features"].astype(np.float32) - 83) * np.float32(0.5847029)).reshape(-1, 1, 1, 49, 10)
    folder = tmp_path / "first100"
    folder.mkdir()
    np.savez(folder / "samples.npz", x=x[:100])
    before = (kws / "ds_cnn_fp32.onnx").read_bytes()
    result = convert(
        kws / "ds_cnn_fp32.onnx", device=DEVICE, calibration=folder, output=tmp_path / "kws.edge", optimize="size"
    )
    assert (kws / "ds_cnn_fp32.onnx").read_bytes() == before
    assert result.ok
    assert result.manifest.provenance.source_sha256 == hashlib.sha256(before).hexdigest()
    with Bundle.open(result.bundle) as bundle:
        bundle.verify()
        content = bundle.read("model.int8.onnx")
    reference, quantized = OnnxRunner(before), OnnxRunner(content)
    agree = sum(int(reference.run([one])[0].argmax() == quantized.run([one])[0].argmax()) for one in x[100:])
    assert agree >= 396


def test_convert__two_conversions_are_byte_identical(
    make_conv: Callable[..., onnx.ModelProto], run: Callable[..., Conversion]
) -> None:
    contents = []
    for output in ("a.edge", "b.edge"):
        result = run(make_conv(), output=output, optimize="size", name="same")
        with Bundle.open(result.bundle) as bundle:
            contents.append(
                {name: bundle.read(name) for name in bundle.manifest.files} | {"id": bundle.identity.encode()}
            )
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"model.fp32.onnx", "model.fp16.onnx", "model.int8.onnx", "plan.json", "id"}


def test_convert__licence_of_the_files_metadata(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    onnx.helper.set_model_props(small, {"license": "AGPL-3.0 License"})
    licence = run(small, calibration=None).manifest.licence
    assert licence.name == "AGPL-3.0 License"
    assert licence.source == "metadata of model.onnx"


def test_convert__records_what_was_assumed(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    result = run(small, optimize="size")
    assert any(line.startswith("task: raw") for line in result.assumptions)
    assert result.manifest.provenance.calibration_samples == 24
    assert {m.held_out_samples for m in result.measurements.variants} == {6}
    assert {v.precision for v in result.manifest.variants} == {"fp32", "fp16", "int8"}


def test_convert__old_opset_and_dynamic_shapes(
    make_conv: Callable[..., onnx.ModelProto], run: Callable[..., Conversion], tmp_path: Path
) -> None:
    spec = tmp_path / "model.yaml"
    spec.write_text("inputs:\n  x: {shape: [1, 3, 16, 16]}\n")
    result = run(make_conv(opset=11, dynamic=True), spec=spec, optimize="size")
    with Bundle.open(result.bundle) as bundle:
        model = onnx.load_from_string(bundle.read("model.int8.onnx"))
    assert model.opset_import[0].version >= 17
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 16, 16]


class _Broken:
    """The usual road: one scale for the concatenated output, so that small scores vanish."""

    def __init__(self, family: object) -> None:
        self._family = family

    def __getattr__(self, name: str) -> object:
        return getattr(self._family, name)

    def attempts(self, wish: object, contract: object, feeds: object) -> object:
        from edgesdk_converters.variants.api import Attempt, Form

        model = onnx.load_from_string(self._family.floats()[0].content)  # type: ignore[attr-defined]  # a GraphFamily
        scale, zero = np.float32(320 / 255), np.uint8(0)
        model.graph.initializer.extend(
            [onnx.numpy_helper.from_array(np.asarray(scale), "s"), onnx.numpy_helper.from_array(np.asarray(zero), "z")]
        )
        last = model.graph.node[-1]
        last.output[0] = "joined"
        model.graph.node.extend(
            [
                onnx.helper.make_node("QuantizeLinear", ["joined", "s", "z"], ["q"], "q"),
                onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["output0"], "dq"),
            ]
        )
        # Padding the comparison of sizes: the broken file stands for an int8 one.
        form = Form(
            content=model.SerializeToString(),
            precision="int8",
            inputs=("images",),
            outputs=("output0",),
            recipe="one scale",
        )
        yield Attempt(forms=(form,), recipe="one scale")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesdk_converters.pipeline.open_family", lambda *a: _Broken(open_family(*a)))


@pytest.mark.usefixtures("broken")
def test_convert__dead_scores_are_refused_per_branch(yolo: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    result = run(yolo, optimize="size")
    assert not result.ok
    assert [variant.precision for variant in result.manifest.variants] == ["fp16", "fp32"]
    refused = result.refused[0]
    boxes, scores = refused.fidelity
    assert boxes.passed
    assert not scores.passed
    assert scores.snr_db < 1
    assert any("output0[4:6]" in reason and "expected at least 20 dB" in reason for reason in refused.reasons)
    text = "\n".join(summary(result))
    assert "refused: onnx-int8" in text
    assert "Only float variants are in the bundle. What you can do:" in text
    assert any("--allow REASON" in line for line in advice(result))
    assert any("float_nodes" in line for line in advice(result))


@pytest.mark.usefixtures("broken")
def test_convert__allow_keeps_it_with_the_reason(yolo: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    result = run(yolo, optimize="size", allow="boxes only, scores are not used")
    assert result.ok
    with Bundle.open(result.bundle) as bundle:
        assert bundle.manifest.allowed == "boxes only, scores are not used"
        assert "onnx-int8" in {variant.id for variant in bundle.manifest.variants}
        assert bundle.measurements is not None
        kept = next(m for m in bundle.measurements.variants if m.variant == "onnx-int8")
    assert kept.kept
    assert kept.reasons


def test_convert__yolo_head_done_right_passes(yolo: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    result = run(yolo, optimize="size")
    figures = {f.branch: f for m in result.measurements.variants if m.variant == "onnx-int8" for f in m.fidelity}
    assert set(figures) == {"output0[0:4]", "output0[4:6]"}


def test_convert__nothing_to_quantize_fails_with_the_reason(
    parse: Callable[[str], onnx.ModelProto], run: Callable[..., Conversion]
) -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { y = Sigmoid (x) }'
    )
    result = run(model, optimize="size")
    assert not result.ok
    assert "nothing in this model can be quantized" in result.failures[0]


def test_convert__interrupted_leaves_no_file(
    small: onnx.ModelProto, run: Callable[..., Conversion], tmp_path: Path
) -> None:
    class Impatient(Quiet):
        def say(self, text: str) -> None:
            if text.startswith("int8"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, progress=Impatient())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calibration", "model.onnx"]


def test_convert__bad_output(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    with pytest.raises(ConversionError, match=r"a bundle is called NAME\.edge\. Say --output out\.edge"):
        run(small, output="out.zip")
    with pytest.raises(ConversionError, match=r"there is no folder .*Create it: mkdir -p"):
        run(small, output="none/out.edge")


def test_convert__bad_name_and_version(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    with pytest.raises(ConversionError, match=r"--name 'My Model': expected lower-case.*Say --name my-model"):
        run(small, name="My Model")
    with pytest.raises(ConversionError, match="--version 0: expected 1 or more"):
        run(small, version=0)


def test_convert__task_that_does_not_fit_is_refused_before_the_work(
    small: onnx.ModelProto, run: Callable[..., Conversion], tmp_path: Path
) -> None:
    spec = tmp_path / "model.yaml"
    spec.write_text("task: object-detection\ninputs:\n  x: {source: {kind: image, layout: NCHW}}\n")
    with pytest.raises(TaskError, match="object-detection"):
        run(small, spec=spec)


def test_convert__unknown_device(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    with pytest.raises(ProfileNotFoundError, match="raspberry-pi-4"):
        run(small, device="raspbery-pi-4")


def test_convert__float_nodes_of_the_spec_stay_float(
    small: onnx.ModelProto, run: Callable[..., Conversion], tmp_path: Path
) -> None:
    spec = tmp_path / "model.yaml"
    spec.write_text("float_nodes: [last]\n")
    result = run(small, spec=spec, optimize="size")
    assert next(v for v in result.manifest.variants if v.precision == "int8").float_nodes[-1:] == ("last",)
    spec.write_text("float_nodes: [lst]\n")
    result = run(small, spec=spec, optimize="size")
    assert "float_nodes name 'lst'" in result.failures[0]
    assert "Quantizable nodes: first, depthwise, last" in result.failures[0]


def test_convert__separate_evaluation_folder(
    small: onnx.ModelProto, run: Callable[..., Conversion], calibration: Path, tmp_path: Path
) -> None:
    shutil.copytree(calibration, tmp_path / "evaluation")
    result = run(small, evaluation=tmp_path / "evaluation", optimize="size")
    assert result.manifest.provenance.calibration_samples == 30
    assert {m.held_out_samples for m in result.measurements.variants} == {30}


def test_convert__without_calibration_is_float_only(small: onnx.ModelProto, run: Callable[..., Conversion]) -> None:
    result = run(small, calibration=None)
    assert [v.precision for v in result.manifest.variants] == ["fp16", "fp32"]
    assert any("no calibration samples" in line for line in result.assumptions)


def test_convert__no_fallback_leaves_the_float_variants_out(
    small: onnx.ModelProto, run: Callable[..., Conversion]
) -> None:
    result = run(small, optimize="size", fallback=False)
    assert [variant.precision for variant in result.manifest.variants] == ["int8"]
    assert {m.variant for m in result.measurements.variants} >= {"onnx-fp32", "onnx-int8"}


@pytest.mark.usefixtures("broken")
def test_convert__no_fallback_keeps_float_where_int8_is_refused(
    yolo: onnx.ModelProto, run: Callable[..., Conversion]
) -> None:
    result = run(yolo, optimize="size", fallback=False)
    assert "int8" not in {variant.precision for variant in result.manifest.variants}
    assert result.manifest.variants


def test_convert__allow_without_a_refusal__blames_nothing(
    yolo: onnx.ModelProto, run: Callable[..., Conversion], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge.judge

    def kind(*args: Any, **more: Any) -> Measurement:
        return msgspec.structs.replace(judge(*args, **more), kept=True, reasons=())

    monkeypatch.setattr(Judge, "judge", kind)
    result = run(yolo, optimize="size", allow="just in case")
    assert result.ok
    assert "onnx-int8" in {variant.id for variant in result.manifest.variants}
    assert result.manifest.allowed is None
