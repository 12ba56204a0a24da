"""A real recording through a real model, the way a user writes it: a hand-made bundle, `load`, a path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk.bundle import Manifest, write_bundle
from edgesdk.bundle.manifest import (
    AudioInput,
    ConstantInput,
    Contract,
    InputSpec,
    Licence,
    OutputSpec,
    Provenance,
    StateInput,
    Variant,
)
from edgesdk.cli.main import main

pytestmark = pytest.mark.zoo


@pytest.fixture
def silero(zoo: Callable[[str], Path], tmp_path: Path) -> Path:
    contract = Contract(
        task="voice-activity",
        inputs=(
            InputSpec(
                name="input",
                shape=(1, 576),
                dtype="float32",
                source=AudioInput(sample_rate_hz=16000, chunk_samples=512, context_samples=64),
            ),
            InputSpec(name="state", shape=(2, 1, 128), dtype="float32", source=StateInput(from_output="stateN")),
            InputSpec(name="sr", shape=(), dtype="int64", source=ConstantInput(value=16000)),
        ),
        outputs=(
            OutputSpec(name="output", shape=(1, 1), dtype="float32"),
            OutputSpec(name="stateN", shape=(2, 1, 128), dtype="float32"),
        ),
    )
    variant = Variant(
        id="onnx-fp32",
        file="silero.onnx",
        format="onnx",
        precision="fp32",
        inputs=("input", "state", "sr"),
        outputs=("output", "stateN"),
    )
    manifest = Manifest(
        name="silero",
        contract=contract,
        variants=(variant,),
        files={},
        provenance=Provenance(source_file="silero.onnx", source_sha256="0" * 64),
        licence=Licence(name="MIT"),
    )
    return write_bundle(tmp_path / "silero.edge", manifest, {"silero.onnx": zoo("silero-vad").read_bytes()})


# The recording has 44.1 or 48 kHz; that it is resampled is told.
@pytest.mark.filterwarnings("ignore:.*resampled:edgesdk.errors.SourceWarning")
@pytest.mark.filterwarnings("ignore:.*averaged:edgesdk.errors.SourceWarning")
def test_predict__finds_the_speech_of_a_recording(
    silero: Path, zoo: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recording = zoo("beckett")
    assert main(["predict", str(silero), str(recording), str(recording), "--json"]) == 0
    first, again = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["result"]["kind"] == "voice_activity"
    assert first["result"] == again["result"]  # nothing of the first stream is left in the second
    assert first["latency"]["inference_ms"] > first["latency"]["post_ms"]
