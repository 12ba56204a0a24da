from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.backends import get_backend
from edgesdk.bundle import Manifest, write_bundle
from edgesdk.bundle.manifest import (
    AudioInput,
    Contract,
    ImageInput,
    InputSpec,
    Licence,
    OutputSpec,
    Provenance,
    TensorInput,
    Variant,
)
from edgesdk.cli.bench import COMMAND
from edgesdk.cli.main import main
from edgesdk.errors import NoBackendError, TaskError
from edgesdk.samples import Audio, Picture, Tensors

MODELS = Path(__file__).parents[2] / "contract" / "models"
FAKE = json.dumps(
    {
        "schema": "edgesdk.fake-model/1",
        "inputs": [{"name": "a", "shape": [1, 4]}],
        "outputs": [{"name": "y", "shape": [1, 4], "op": "relu", "of": ["a"]}],
    }
).encode()

# What this machine's profile would rather have is not the matter of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::edgesdk.errors.EdgeSdkWarning")


def a_bundle(folder: Path, kind: str, content: bytes) -> Path:
    contract = Contract(
        task="raw",
        inputs=(InputSpec(name="a", shape=(1, 4), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 4), dtype="float32"),),
    )
    variant = Variant(
        id=f"{kind}-fp32",
        file=f"m.{kind}",
        format=kind,  # type: ignore[arg-type]  # "onnx" or "tflite", from the parametrization
        precision="fp32",
        inputs=("a",),
        outputs=("y",),
    )
    manifest = Manifest(
        name="null",
        contract=contract,
        variants=(variant,),
        files={},
        provenance=Provenance(source_file="null", source_sha256="0" * 64),
        licence=Licence(name="Apache-2.0"),
    )
    return write_bundle(folder / "null.edge", manifest, {f"m.{kind}": content})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("edgesdk.cli.bench_measure.COLD_STARTS", 1)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    return COMMAND.run(parser.parse_args(arguments))


@pytest.mark.parametrize(("backend", "kind"), [("onnxruntime", "onnx"), ("tflite", "tflite")])
def test_bench__json_compares_with_the_bare_runtime(
    backend: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = get_backend(backend).availability()
    if not there.available:
        pytest.skip(f"{there.reason}. {there.fix}")
    bundle = a_bundle(tmp_path, kind, (MODELS / f"null.{kind}").read_bytes())
    assert run(str(bundle), "--json", "--runs", "5") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["variant"] == f"{kind}-fp32"
    assert report["runs"] == 5
    assert "1 thread" in report["backend"]
    assert "Python" in report["host"]
    assert report["wall_us"]["p50"] <= report["wall_us"]["p95"] <= report["wall_us"]["p99"]
    assert set(report["cpu_us"]) == set(report["ratio"]) == {"predict", "session", "bare"}
    assert report["ratio"]["bare"] == 1
    for process in ("edgesdk", "bare"):
        assert report["cold_start"][process]["done_ms"] > 0
        assert report["cold_start"][process]["rss_bytes"] > 1_000_000


@pytest.mark.parametrize("option", ["--runs=-3", "--runs=0", "--threads=0", "--threads=two"])
def test_bench__numbers_that_are_none_are_a_usage_error(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "a.edge", option]) == 2
    assert f"got '{option.partition('=')[2]}', expected a whole number" in capsys.readouterr().err


def test_bench__table_without_a_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = a_bundle(tmp_path, "onnx", FAKE)
    assert run(str(bundle), "--backend", "fake", "--peer", "none", "--runs", "3") == 0
    text = capsys.readouterr().out
    assert "variant onnx-fp32 on edgesdk fake backend" in text
    assert "predict, wall     p50" in text
    assert "first result, edgesdk" in text
    assert "bare" not in text


def test_bench__a_backend_without_a_bare_peer_is_measured_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = a_bundle(tmp_path, "onnx", FAKE)
    assert run(str(bundle), "--backend", "fake", "--json", "--runs", "3") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["cpu_us"]) == {"predict", "session"}
    assert report["ratio"] == {}


def test_bench__a_backend_that_cannot_run_it_is_an_error_with_reasons(tmp_path: Path) -> None:
    with pytest.raises(NoBackendError, match=r"onnx-fp32 on tflite: it is onnx|tflite: neither"):
        run(str(a_bundle(tmp_path, "onnx", FAKE)), "--backend", "tflite", "--runs", "3")


def test_bench__input_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "input.npz", a=np.ones((1, 4), np.float32))
    bundle = a_bundle(tmp_path, "onnx", FAKE)
    arguments = ("--backend", "fake", "--runs", "3", "--json")
    assert run(str(bundle), "--input", str(tmp_path / "input.npz"), *arguments) == 0
    assert json.loads(capsys.readouterr().out)["input"].endswith("input.npz")


def contract_with(source: Any, shape: tuple[int, ...]) -> Contract:
    return Contract(task="raw", inputs=(InputSpec(name="a", shape=shape, dtype="float32", source=source),), outputs=())


def test_synthetic_samples__are_of_the_kind_that_the_model_takes() -> None:
    from edgesdk.cli.bench_measure import synthetic_samples

    picture = next(synthetic_samples(contract_with(ImageInput(layout="NHWC"), (1, 8, 8, 3))))
    assert isinstance(picture, Picture)
    assert picture.size_wh == (640, 480)
    tensors = next(synthetic_samples(contract_with(TensorInput(), (1, 4))))
    assert isinstance(tensors, Tensors)
    assert tensors.arrays["a"].shape == (1, 4)
    stream = synthetic_samples(contract_with(AudioInput(sample_rate_hz=16000, chunk_samples=512), (1, 512)))
    first, second = next(stream), next(stream)
    assert isinstance(first, Audio)
    assert isinstance(second, Audio)
    assert (len(first.pcm), first.first_sample, second.first_sample) == (512, 0, 512)


def test_input_file__shorter_than_one_inference(tmp_path: Path) -> None:
    import wave

    from edgesdk.cli.bench_measure import _samples_of

    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(b"\0\0" * 100)
    contract = contract_with(AudioInput(sample_rate_hz=16000, chunk_samples=512), (1, 512))
    with pytest.raises(TaskError, match=r"100 samples of sound, one inference takes 512. Use a longer file"):
        _samples_of(contract, str(tmp_path / "short.wav"))


def test_benchmarks__run_prints_each_part_with_its_command() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "run.py"
    done = subprocess.run(
        [sys.executable, str(script), "--only", "outbox"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "$ python tests/benchmarks/run.py --only outbox" in done.stdout
    assert "Telemetry.publish" in done.stdout
    assert "host: " in done.stdout
