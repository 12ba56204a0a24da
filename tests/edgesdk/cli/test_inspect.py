from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesdk.bundle import Measurements
from edgesdk.bundle.manifest import BranchFidelity, Latency, Measurement
from edgesdk.cli.main import main

Make = Callable[..., Path]

MEASURED = Measurements(
    variants=(
        Measurement(
            variant="onnx-int8",
            kept=True,
            size_bytes=1,
            source_size_bytes=4,
            fidelity=(
                BranchFidelity(output="y", branch="boxes", snr_db=31.4, cosine=0.999, passed=True),
                BranchFidelity(
                    output="y", branch="scores", snr_db=22.25, cosine=0.99, top1_agreement=0.991, passed=True
                ),
            ),
            latency=Latency(cpu_ms=1.25, source_cpu_ms=2.5, ratio=0.5, runs=20, host="a fast machine"),
        ),
        Measurement(variant="onnx-fp16", kept=False, reasons=("SNR 3 dB in boxes",), size_bytes=2, source_size_bytes=4),
    )
)


@pytest.fixture
def bundle(make_bundle: Make, fake: Callable[..., bytes]) -> Path:
    return make_bundle(
        "doorway",
        {"onnx-int8": (fake(), "int8"), "onnx-fp32": fake()},
        labels=("cat", "dog"),
        measurements=MEASURED,
        assumptions=("pictures are RGB times 1/255",),
        allowed="only a trial",
        version=4,
    )


def test_inspect__shows_all_for_people(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    out = capsys.readouterr().out
    for part in (
        "doorway, version 4: raw",
        "licence     MIT",
        "labels      cat, dog",
        "x  float32  1x4  tensor",
        "scores 22.2 dB, top-1 0.991",
        "1.25 ms, 0.50 of the source's, on a fast machine",
        "refused: onnx-fp16: SNR 3 dB in boxes",
        "pictures are RGB times 1/255",
        "allowed although the guard refused it: only a trial",
    ):
        assert part in out
    assert out.index("onnx-int8") < out.index("onnx-fp32")


def test_inspect__json_is_the_bundles_own(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["manifest"]["schema"] == "edgesdk.bundle/1.0"
    assert told["manifest"]["contract"]["labels"] == ["cat", "dog"]
    assert told["measurements"]["variants"][0]["latency"]["ratio"] == 0.5
    assert len(told["identity"]) == 64


def test_inspect__escape_sequences_do_not_reach_the_terminal(
    make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_bundle(assumptions=("\x1b]0;mine\x07 harmless",))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "harmless" in out


def test_inspect__no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.edge").write_bytes(b"no zip at all, but long enough to have an end record")
    assert main(["inspect", str(tmp_path / "a.edge")]) == 1
    assert "edgesdk inspect: error:" in capsys.readouterr().err


def test_inspect__variant_kept_against_the_guard__is_named(
    make_bundle: Make, fake: Callable[..., bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    measured = Measurement(
        variant="onnx-int8", kept=True, reasons=("SNR 9 dB in boxes",), size_bytes=1, source_size_bytes=4
    )
    path = make_bundle(
        models={"onnx-int8": (fake(), "int8"), "onnx-fp32": fake()},
        measurements=Measurements(variants=(measured,)),
        allowed="only a trial",
    )
    assert main(["inspect", str(path)]) == 0
    assert "kept although the guard refused it: onnx-int8: SNR 9 dB in boxes" in capsys.readouterr().out
