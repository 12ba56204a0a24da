"""One conversion, both formats: quantized once, replayed from its plan, reported."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import ImageInput, Measurement
from edgesdk.errors import CalibrationError, ConfigError, ConversionError, NotExpressibleError
from edgesdk.profiles import load_profile
from edgesdk_converters.choosing import UNLIKE
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.pipeline import Conversion, convert
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.variants.open import open_tflite

Run = Callable[..., Conversion]


@pytest.fixture
def run(tmp_path: Path, calibration: Path) -> Run:
    def _run(model: onnx.ModelProto, **more: object) -> Conversion:
        onnx.save(model, tmp_path / "model.onnx")
        arguments: dict[str, object] = {
            "device": "raspberry-pi-4",
            "calibration": calibration,
            "output": tmp_path / "out.edge",
            "optimize": "size",
            **more,
        }
        return convert(tmp_path / "model.onnx", **arguments)  # type: ignore[arg-type]  # tests pass what they mean

    return _run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Thirty pictures of noise as a calibration folder."""
    cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(30):
        cv2.imwrite(str(folder / f"{number:02}.png"), rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    return folder


def contents(conversion: Conversion) -> dict[str, bytes]:
    with Bundle.open(conversion.bundle) as bundle:
        bundle.verify()
        return {name: bundle.read(name) for name in bundle.manifest.files}


def test_convert__writes_both_formats_with_the_same_numbers(
    classifier: onnx.ModelProto, run: Run, feeds: list[list[np.ndarray]]
) -> None:
    files = contents(run(classifier))
    assert {name for name in files if "int8" in name} == {"model.int8.onnx", "model.int8.tflite"}
    first, second = OnnxRunner(files["model.int8.onnx"]), open_tflite(files["model.int8.tflite"], "t", ("x",), ("y",))
    step = 1 / 256  # of a Softmax in 8 bits
    for feed in feeds:
        (a,), (b,) = first.run(feed), second.run(feed)
        assert np.abs(a - b).max() <= 2 * step
        assert a.argmax() == b.argmax()


def test_convert__format_picks_one(small: onnx.ModelProto, run: Run) -> None:
    assert {variant.format for variant in run(small, formats=("tflite",)).manifest.variants} == {"tflite"}


def test_convert__plan_replays_to_the_same_bytes(small: onnx.ModelProto, run: Run, tmp_path: Path) -> None:
    first = contents(run(small))
    plan = tmp_path / "plan.json"
    plan.write_bytes(first["plan.json"])
    again = run(small, plan=plan, output=tmp_path / "again.edge")
    second = contents(again)
    assert {name: second[name] for name in first if name.startswith("model.")} == {
        name: content for name, content in first.items() if name.startswith("model.")
    }
    assert again.manifest.provenance.recipe == "auto, replayed from plan.json"


def test_convert__plan_of_another_model_is_refused(
    small: onnx.ModelProto, classifier: onnx.ModelProto, run: Run, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_bytes(contents(run(small))["plan.json"])
    with pytest.raises(ConfigError, match=r"belongs to another graph.*make a new plan with --recipe auto"):
        run(classifier, plan=plan)


def test_convert__recipes_make_a_variant_each(small: onnx.ModelProto, run: Run) -> None:
    result = run(small, recipe=["w8a8", "w8a16", "w8"], formats=("onnx",), allow="to see them all")
    assert {variant.precision for variant in result.manifest.variants} == {"fp32", "fp16", "int8", "w8a16", "w8"}
    files = contents(result)
    schemes = {
        name: set(msgspec.json.decode(content, type=Plan).schemes.values())
        for name, content in files.items()
        if name.endswith(".json")
    }
    assert schemes["plan.json"] >= {"w8a8"}
    assert schemes["plan.w8a16.json"] >= {"w8a16"}
    assert schemes["plan.w8.json"] >= {"w8"}


def test_convert__recipes_of_one_precision_and_unknown_ones(small: onnx.ModelProto, run: Run) -> None:
    with pytest.raises(ConfigError, match=r"recipes 'auto' and 'w8a8' both make w8a8 variants\. Give one of them"):
        run(small, recipe=["auto", "w8a8"])
    with pytest.raises(ConfigError, match=r"recipe 'w8a9' is unknown\. Did you mean 'w8a8'\?"):
        run(small, recipe="w8a9")


def test_convert__recipe_float16_needs_no_calibration(small: onnx.ModelProto, run: Run) -> None:
    result = run(small, recipe="float16", calibration=None)
    assert {variant.precision for variant in result.manifest.variants} == {"fp32", "fp16"}


def test_convert__pictures_go_in_as_pixels(small: onnx.ModelProto, run: Run, pictures: Path) -> None:
    result = run(small, calibration=pictures)
    (spec,) = result.manifest.contract.inputs
    assert (spec.dtype, spec.shape) == ("uint8", (1, 16, 16, 3))
    assert isinstance(spec.source, ImageInput)
    assert (spec.source.layout, spec.source.scale) == ("NHWC", 1.0)
    measured = {one.variant: one for one in result.measurements.variants}
    for variant in ("onnx-fp32", "tflite-fp32"):
        assert min(figure.snr_db for figure in measured[variant].fidelity) > 80


def test_convert__fold_input_false_keeps_the_models_own_input(
    small: onnx.ModelProto, run: Run, pictures: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "model.yaml"
    spec.write_text("fold_input: false\n")
    (taken,) = run(small, calibration=pictures, spec=spec).manifest.contract.inputs
    assert (taken.dtype, taken.shape) == ("float32", (1, 3, 16, 16))


def test_convert__what_tflite_cannot_say_stays_onnx(
    parse: Callable[[str], onnx.ModelProto], run: Run, tmp_path: Path
) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) '
        "{ i = NonZero (x) f = Cast<to: int = 1> (i) n = ReduceSum<keepdims: int = 0> (f) "
        "z = Constant<value: tensor = float {0.0}> () s = Mul (n, z) y = Add (x, s) }"
    )
    result = run(parse(text), recipe="float16")
    assert {variant.format for variant in result.manifest.variants} == {"onnx"}
    assert any("not written as TFLite" in note and "NonZero" in note for note in result.assumptions)
    with pytest.raises(NotExpressibleError, match="NonZero"):
        run(parse(text), recipe="float16", formats=("tflite",))


def test_convert__report_as_html_and_json(small: onnx.ModelProto, run: Run, tmp_path: Path) -> None:
    run(small, report=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<!doctype html>" in page[:200].lower()
    run(small, report=tmp_path / "report.json", output=tmp_path / "b.edge")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {trial["format"] for trial in record["trials"]} == {"onnx", "tflite"}
    assert record["sensitivity"]
    assert record["histograms"]
    assert record["calibration"]["samples"] == 24
    with pytest.raises(
        ConversionError, match=r"a report is called NAME\.html or NAME\.json\. Say --report report\.html"
    ):
        run(small, report=tmp_path / "report.pdf")


def test_convert__budget_decides(small: onnx.ModelProto, run: Run) -> None:
    result = run(small, budget=Budget(min_snr_db=119), recipe="w8a8")
    assert not result.ok
    assert any("expected at least 119 dB" in reason for one in result.refused for reason in one.reasons)


def test_convert__a_float_form_that_is_wrong_stops_everything(
    small: onnx.ModelProto, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judge = Judge.judge

    def strict(*args: object, **more: object) -> Measurement:
        measured = judge(*args, **more)  # type: ignore[arg-type]  # passed on
        return msgspec.structs.replace(measured, kept=False, reasons=("branch 'y': SNR 3.0 dB",))

    monkeypatch.setattr(Judge, "judge", strict)
    with pytest.raises(ConversionError, match=r"(?s)not even a float form.*onnx-fp32: branch 'y': SNR 3\.0 dB"):
        run(small)
    assert not (tmp_path / "out.edge").exists()


def test_convert__int8_tflite_goes_in_as_it_is(classifier: onnx.ModelProto, run: Run, tmp_path: Path) -> None:
    content = contents(run(classifier, formats=("tflite",)))["model.int8.tflite"]
    source = tmp_path / "int8.tflite"
    source.write_bytes(content)
    result = convert(
        source, device="raspberry-pi-4", calibration=tmp_path / "calibration", output=tmp_path / "again.edge"
    )
    assert result.ok
    assert contents(result) == {"model.int8.tflite": content}
    (measured,) = result.measurements.variants
    assert measured.kept
    assert measured.reasons == ()
    assert any("is quantized already, so it stays TFLite, as it is" in note for note in result.assumptions)


def test_convert__a_recipe_that_the_board_has_no_use_for_is_not_tried_silently(
    small: onnx.ModelProto, run: Run
) -> None:
    result = run(small, recipe="w4", optimize="speed")
    (note,) = [note for note in result.assumptions if note.startswith("recipe w4 in tflite for raspberry-pi-4:")]
    assert note.endswith("tflite does not express it. Ask for onnx")


def test_convert__a_board_that_supports_none_of_the_recipes(
    small: onnx.ModelProto, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = load_profile("coral-dev-board")
    only = msgspec.structs.replace(profile.backends[0], precisions=("bf16",))
    board = msgspec.structs.replace(profile, backends=(only,))
    monkeypatch.setattr("edgesdk_converters.pipeline.load_profile", lambda _: board)
    with pytest.raises(
        ConversionError,
        match=r"(?s)coral-dev-board supports none of the recipes:\n  auto: .*Convert for another device",
    ):
        run(small)
    assert not (tmp_path / "out.edge").exists()


def test_convert__nan_in_the_evaluation_names_the_node(
    parse: Callable[[str], onnx.ModelProto], run: Run, tmp_path: Path
) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) '
        "{ a = Relu (x) b = Sqrt (x) y = Add (a, b) }"
    )
    samples = np.random.default_rng(0).uniform(0.1, 1, (8, 3, 16, 16)).astype(np.float32)
    samples[5, 1, 2, 3] = -1.0
    (tmp_path / "evaluation").mkdir()
    np.save(tmp_path / "evaluation" / "samples.npy", samples)
    with pytest.raises(
        CalibrationError,
        match=r"held-out inference 5: the source's output 'y' holds NaN.*it begins at node '[^']+' \(Sqrt\)",
    ):
        run(parse(text), evaluation=tmp_path / "evaluation")


def test_convert__labels_without_use_are_not_dropped_silently(
    small: onnx.ModelProto, run: Run, tmp_path: Path, feeds: list[list[np.ndarray]]
) -> None:
    for number, feed in enumerate(feeds[:12]):
        folder = tmp_path / "labelled" / ("day" if number % 2 else "night")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", feed[0])
    result = run(small, evaluation=tmp_path / "labelled", recipe="float16")
    assert "the labels of the samples are not used: task 'raw' has no class vector or text to compare them with" in (
        result.assumptions
    )


def test_convert__sub_folders_that_are_no_labels_are_said_of_the_evaluation_too(
    classifier: onnx.ModelProto, run: Run, tmp_path: Path, feeds: list[list[np.ndarray]]
) -> None:
    for number, feed in enumerate(feeds[:12]):
        folder = tmp_path / "labelled" / ("day" if number % 2 else "night")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", feed[0])
    result = run(classifier, evaluation=tmp_path / "labelled", recipe="float16", spec=_by_class(tmp_path))
    assert any(
        note.startswith("evaluation folder: its sub-folders (day, night ...) are no labels")
        for note in result.assumptions
    )


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"max_size": "1KiB"}, r"larger than allowed: \d+ bytes, expected at most 1024"),
        ({"min_speedup": "1000x"}, r"times as fast as the float variant on .*, expected at least 1000"),
        ({"min_fidelity": ["119dB"]}, r"branch 'y': SNR \d+\.\d dB, expected at least 119 dB"),
        ({"max_drop": "0pp", "min_fidelity": ["0.1", "1dB"]}, r"percentage points lost, expected at most 0 \("),
    ],
)
def test_convert__every_budget_is_enforced_in_both_formats(
    run: Run, tmp_path: Path, option: dict[str, Any], reason: str
) -> None:
    # Random weights: without a Softmax, four bits change many a decision.
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3 * 16 * 16, 8)).astype(np.float32)
    by_class = "max_drop" in option
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"], "flat"),
            onnx.helper.make_node("Gemm", ["flat", "w"], ["y"], "head"),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 16, 16])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 8])],
        [onnx.numpy_helper.from_array(weights * (1e-3 if by_class else 1) + (1 if by_class else 0), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    spec = {"spec": _by_class(tmp_path)} if by_class else {}
    result = run(model, recipe="w8a8", budget=Budget.parse(**option), **spec)
    assert not result.ok
    assert {one.variant for one in result.refused} >= {"onnx-int8", "tflite-int8"}
    for one in result.refused:
        if one.variant.endswith("int8"):
            assert any(re.search(reason, text) for text in one.reasons), one.reasons


def test_convert__two_recipes_that_end_in_one_precision_keep_the_first(
    small: onnx.ModelProto, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgesdk_converters.variants.graph.precision_of", lambda *_: "w8")
    result = run(small, recipe=["w8a8", "w8"], formats=("onnx",), allow="to see them all")
    assert [variant.id for variant in result.manifest.variants].count("onnx-w8") == 1
    assert any("w8: makes onnx-w8, and so did" in failure for failure in result.failures)
    assert any("Give one of the recipes, or make two bundles" in failure for failure in result.failures)


def test_convert__a_format_that_decides_otherwise_is_refused_and_the_first_is_kept(
    classifier: onnx.ModelProto, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Judge, "unlike", lambda *_: "ONNX and TFLite decide differently")
    result = run(classifier, recipe="w8a8")
    assert result.ok
    assert {variant.id for variant in result.manifest.variants} == {
        "onnx-fp32",
        "onnx-fp16",
        "onnx-int8",
        "tflite-fp32",
        "tflite-fp16",
    }
    (refused,) = result.refused
    assert refused.variant == "tflite-int8"
    assert refused.reasons == ("ONNX and TFLite decide differently",)


def test_convert__the_search_gives_up_where_formats_keep_deciding_otherwise(
    classifier: onnx.ModelProto, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(9))
    monkeypatch.setattr(Judge, "unlike", lambda *_: f"ONNX and TFLite decide differently, {next(asked)}")
    result = run(classifier, recipe="auto")
    assert next(asked) == UNLIKE
    assert "onnx-int8" in {variant.id for variant in result.manifest.variants}


def _by_class(folder: Path) -> Path:
    spec = folder / "model.yaml"
    spec.write_text("outputs:\n  y: {class_axis: 1}\n", encoding="utf-8")
    return spec


def test_convert__four_bit_weights_of_float_arithmetic_are_onnx_only(
    small: onnx.ModelProto, run: Run, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nscheme: w4\ncoverage: compute\n")
    conversion = run(small, recipe=recipe, allow="a test")
    made = {form.id for form in conversion.manifest.variants}
    assert "onnx-w4" in made
    assert "tflite-w4" not in made
    (failure,) = conversion.failures
    assert failure.startswith("tflite-w4: a TFLite file would store these weights in 8 bits")
    assert failure.endswith("Take recipe w8 for TFLite, or say --format onnx.")
