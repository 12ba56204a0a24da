from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.backends.api import SessionOptions
from edgesdk.backends.select import session_options
from edgesdk.bundle import Measurements
from edgesdk.bundle.manifest import Latency, Measurement
from edgesdk.errors import BackendFallbackWarning, NoBackendError, PromiseWarning
from edgesdk.model import load
from edgesdk.model.trial import Times
from edgesdk.profiles import DeviceProfile
from edgesdk.tasks.results import RawResult

Make = Callable[..., Path]
MakeBoard = Callable[..., DeviceProfile]
Fake = Callable[..., bytes]
BROKEN = b'{"schema": "edgesdk.fake-model/1"}'


def measured(ratio: float) -> Measurements:
    latency = Latency(cpu_ms=ratio, source_cpu_ms=1, ratio=ratio, runs=20, host="a test")
    return Measurements(
        variants=(Measurement(variant="onnx-int8", kept=True, size_bytes=1, source_size_bytes=2, latency=latency),)
    )


def test_load__the_quicker_variant_wins_and_is_remembered(
    make_bundle: Make, make_board: MakeBoard, fake: Fake, edgesdk_cache: Path
) -> None:
    path = make_bundle(models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake(delay_ms=4)})
    with load(path, profile=make_board("fake")) as model:
        assert model.parts[0].variant.id == "onnx-int8"
    (file,) = (edgesdk_cache / "winners").iterdir()
    assert json.loads(file.read_text())["variant"] == "onnx-int8"
    # Turn the memory round: were the variants timed again, int8 would win again.
    file.write_text(json.dumps({"choice": 1, "variant": "onnx-fp32", "backend": "fake"}))
    with load(path, profile=make_board("fake")) as model:
        assert model.parts[0].variant.id == "onnx-fp32"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"choice": 99, "variant": "a", "backend": "b"}'])
def test_load__damaged_memory_times_anew(
    make_bundle: Make, make_board: MakeBoard, fake: Fake, edgesdk_cache: Path, content: bytes
) -> None:
    path = make_bundle(models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake(delay_ms=4)})
    load(path, profile=make_board("fake")).close()
    (file,) = (edgesdk_cache / "winners").iterdir()
    file.write_bytes(content)
    with load(path, profile=make_board("fake")) as model:
        assert model.parts[0].variant.id == "onnx-int8"
    assert json.loads(file.read_text())["choice"] == 0


def test_load__quicker_float_of_another_format_breaks_no_promise(
    make_bundle: Make, make_board: MakeBoard, fake: Fake
) -> None:
    models = {"onnx-int8": (fake(delay_ms=4), "int8"), "tflite-fp32": fake()}
    path = make_bundle(models=models, measurements=measured(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(path, profile=make_board("fake"))
    assert model.parts[0].variant.id == "tflite-fp32"
    model.close()


def test_load__every_variant_gets_the_threads_of_the_float_size(
    make_bundle: Make, make_board: MakeBoard, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def options(board: DeviceProfile, size_bytes: int, **more: Any) -> SessionOptions:
        asked.append(size_bytes)
        return session_options(board, size_bytes, **more)

    monkeypatch.setattr("edgesdk.model.loading.session_options", options)
    small, large = fake(), fake(delay_ms=4) + b" " * 300
    load(make_bundle(models={"onnx-int8": (small, "int8"), "onnx-fp32": large}), profile=make_board("fake")).close()
    assert set(asked) == {max(4 * len(small), len(large))}


def test_load__broken_promise_warns_every_time(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(
        models={"onnx-int8": (fake(delay_ms=4), "int8"), "onnx-fp32": fake()}, measurements=measured(0.5)
    )
    for _ in range(2):
        with pytest.warns(PromiseWarning) as caught:
            model = load(path, profile=make_board("fake"))
        assert model.parts[0].variant.id == "onnx-fp32"
        model.close()
        text = str(caught[0].message)
        assert "variant 'onnx-int8' took 0.50 of the source's time when converted, but takes 4" in text
        assert "the float variant 'onnx-fp32' takes" in text
        assert "load(..., variant='onnx-int8')" in text
        assert caught[0].filename == __file__


@pytest.mark.parametrize(("slower_ms", "warnings_given"), [(0.019, 0), (0.021, 1)])
def test_load__promise_broken_by_less_than_anybody_notices(
    make_bundle: Make,
    make_board: MakeBoard,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
    slower_ms: float,
    warnings_given: int,
) -> None:
    times = Times(first_ms=0.012 + slower_ms, second_ms=0.012, ratio=0.012 / (0.012 + slower_ms), pairs=20)
    monkeypatch.setattr("edgesdk.model.choosing.time_in_turns", lambda *_: times)
    path = make_bundle(models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake()}, measurements=measured(0.5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(path, profile=make_board("fake")).close()
    assert [warning.category for warning in caught] == [PromiseWarning] * warnings_given


def test_load__variant_that_was_asked_for_is_not_judged(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(models={"onnx-int8": (fake(delay_ms=4), "int8"), "onnx-fp32": fake()})
    with load(path, profile=make_board("fake"), variant="onnx-int8") as model:
        assert model.parts[0].variant.id == "onnx-int8"


def test_load__variant_that_is_slower_on_purpose_stays(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    # Made with --optimize size: its own measurement says that it is slower.
    path = make_bundle(
        models={"onnx-int8": (fake(delay_ms=4), "int8"), "onnx-fp32": fake()}, measurements=measured(1.4)
    )
    with load(path, profile=make_board("fake")) as model:
        assert model.parts[0].variant.id == "onnx-int8"


def test_load__candidate_that_does_not_open_is_told(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(models={"onnx-int8": (BROKEN, "int8"), "onnx-fp32": fake()})
    with pytest.warns(
        BackendFallbackWarning, match=r"runs onnx-fp32 on .*fake.*\n  onnx-int8 on fake: .*required field"
    ):
        model = load(path, profile=make_board("fake"))
    model.close()


def test_load__candidate_that_fails_its_first_run_is_told(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    path = make_bundle(models={"onnx-int8": (fake(fail_at=[1]), "int8"), "onnx-fp32": fake()})
    with pytest.warns(BackendFallbackWarning, match=r"onnx-int8 on fake: .*inference 1 failed"):
        model = load(path, profile=make_board("fake"))
    model.close()


def test_load__nothing_opens(make_bundle: Make, make_board: MakeBoard) -> None:
    path = make_bundle(models={"onnx-int8": (BROKEN, "int8"), "onnx-fp32": BROKEN})
    with pytest.raises(NoBackendError) as caught:
        load(path, profile=make_board("fake"))
    assert len(caught.value.reasons) == 2
    assert "`edgesdk doctor` shows what this board has" in str(caught.value)


def test_load__idle_accelerator_is_told_and_an_optional_runtime_is_not(
    make_bundle: Make, make_board: MakeBoard, fake: Fake
) -> None:
    path = make_bundle(models={"onnx-fp32": fake()})
    with pytest.warns(BackendFallbackWarning, match=r"hailo: no such backend is registered"):
        load(path, profile=make_board("hailo", "fake", accelerated=("hailo",))).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path, profile=make_board("openvino", "fake")).close()


def test_load__cache_that_cannot_be_written(
    make_bundle: Make,
    make_board: MakeBoard,
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "file"))
    path = make_bundle(models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake(delay_ms=4)})
    with load(path, profile=make_board("fake")) as model:
        assert model.parts[0].variant.id == "onnx-int8"
    assert "Set EDGESDK_CACHE to a folder that can" in caplog.text


def test_load__real_and_fake_backends_side_by_side(make_bundle: Make, make_board: MakeBoard) -> None:
    # The fake backend says that it takes onnx, but not this file: it falls away with its reason.
    with pytest.warns(BackendFallbackWarning, match=r"onnx-fp32 on fake: .*reads only its own JSON"):
        model = load(make_bundle(), profile=make_board("fake", "onnxruntime"))
    result = model(np.full((1, 4), -1, np.float32))
    assert isinstance(result, RawResult)
    assert result.arrays["y"].tolist() == [[0, 0, 0, 0]]
    model.close()


def test_load__variant_that_the_guard_refused_is_told(make_bundle: Make, make_board: MakeBoard, fake: Fake) -> None:
    refused = Measurement(
        variant="onnx-int8", kept=True, reasons=("branch 'y': SNR 9.0 dB",), size_bytes=1, source_size_bytes=2
    )
    path = make_bundle(
        models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake(delay_ms=4)},
        measurements=Measurements(variants=(refused,)),
        allowed="it is only a demo",
    )
    with pytest.warns(PromiseWarning) as caught:
        model = load(path, profile=make_board("fake"))
    assert model.parts[0].variant.id == "onnx-int8"
    model.close()
    text = str(caught[0].message)
    assert "which the guard refused (branch 'y': SNR 9.0 dB); it was kept on request: it is only a demo" in text
    assert "load(..., variant='onnx-fp32')" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path, profile=make_board("fake"), variant="onnx-fp32").close()


def test_load__no_temporary_folder_and_no_home__is_a_warning(
    make_bundle: Make, make_board: MakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> Any:
        raise FileNotFoundError("No usable temporary directory found")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("edgesdk.backends.onnxruntime.tempfile.TemporaryDirectory", refuse)
    monkeypatch.delenv("EDGESDK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.warns(BackendFallbackWarning, match="Set TMPDIR to a folder"):
        load(make_bundle(), profile=make_board("onnxruntime")).close()
