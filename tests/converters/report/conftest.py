"""A record with something in every part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgesdk.bundle.manifest import (
    Branch,
    BranchFidelity,
    Contract,
    FileEntry,
    ImageInput,
    InputSpec,
    Latency,
    Licence,
    Measurement,
    OutputSpec,
    Provenance,
)
from edgesdk.samples import Picture
from edgesdk_converters.quantize.recipe import Plan
from edgesdk_converters.report.examples import encode_png
from edgesdk_converters.report.record import (
    CalibrationFindings,
    Example,
    Finding,
    NodeCost,
    Record,
    TensorHistogram,
    Trial,
)

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil.test/x onerror=alert(1)>\u202egnp.\x00\x1b[31m&amp;"
"""What a stranger may put into any name of a model."""


def figure(branch: str, snr_db: float, *, agreement: float | None = None, passed: bool = True) -> BranchFidelity:
    return BranchFidelity(
        output="out", branch=branch, snr_db=snr_db, cosine=0.999, top1_agreement=agreement, passed=passed
    )


def make_trial(
    variant: str, *, size: int = 250_000, ratio: float | None = 0.5, chosen: bool = True, **more: Any
) -> Trial:
    """One trial; ``snr`` of its worst branch, ``reasons``, ``float_nodes``, ``recipe``."""
    form, precision = variant.split("-")
    snr = more.get("snr", 31.5)
    latency = None if ratio is None else Latency(cpu_ms=ratio, source_cpu_ms=1.0, ratio=ratio, runs=9, host="Test CPU")
    return Trial(
        recipe=more.get("recipe", ""),
        format=form,  # type: ignore[arg-type]  # onnx or tflite
        precision=precision,
        float_nodes=more.get("float_nodes", ()),
        chosen=chosen,
        measurement=Measurement(
            variant=variant,
            kept=chosen,
            reasons=more.get("reasons", ()),
            size_bytes=size,
            source_size_bytes=1_000_000,
            fidelity=(figure("boxes", snr + 10), figure("scores", snr, passed=snr >= 20)),
            latency=latency,
            held_out_samples=20,
            metrics={"f1": 0.991},
            peak_memory_bytes=12_300_000,
        ),
    )


def make_record(word: str = "scores") -> Record:
    """A detector's; ``word`` stands wherever a stranger could have written."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
    png = encode_png(Picture(pixels=pixels))
    counts = np.histogram(rng.normal(0, 1, 5000), 128)[0]
    nodes = [f"{word}/conv_{index}" for index in range(40)]
    return Record(
        name=word,
        bundle="demo.edge",
        identity="f" * 64,
        device="raspberry-pi-4",
        host="Test CPU",
        contract=Contract(
            task="object-detection",
            inputs=(
                InputSpec(
                    name=word,
                    shape=(1, 3, 64, 64),
                    dtype="float32",
                    source=ImageInput(layout="NCHW", fit="letterbox", mean=(0.5,), std=(0.25,)),
                ),
            ),
            outputs=(
                OutputSpec(
                    name="out",
                    shape=(1, 6, 84),
                    dtype="float32",
                    branches=(Branch(name="boxes", axis=1, stop=4), Branch(name=word, axis=1, start=4)),
                ),
            ),
            labels=(word, "cat"),
            options={"threshold": 0.25, word: word},
        ),
        provenance=Provenance(
            source_file=f"{word}.onnx", source_sha256="a" * 64, tools={"onnx": "1.18"}, calibration_samples=80
        ),
        licence=Licence(name="MIT", source=word),
        assumptions=(f"task: {word}",),
        limits={"snr_db": 20.0, "agreement": 0.98, "speedup": 1.25, "size_bytes": 600_000.0},
        trials=(
            make_trial("onnx-fp32", size=990_000, ratio=1.0, snr=120.0),
            make_trial("onnx-int8", recipe=f"w8a8 {word}", float_nodes=(nodes[0],)),
            make_trial("tflite-int8", ratio=0.45, float_nodes=(nodes[0],)),
            make_trial("onnx-int8", chosen=False, snr=11.0, reasons=(f"branch {word!r}: SNR 11.0 dB, expected 20",)),
            make_trial("onnx-dynamic", chosen=False, ratio=None, snr=25.0),
        ),
        failures=(f"int8: {word}",),
        sensitivity=tuple(
            NodeCost(
                node=node,
                op_type="Conv",
                weight_bytes=1000 * index,
                error={"boxes": 10.0 ** -(2 + index / 10), word: 10.0 ** -(1.5 + index / 10)},
                scheme="float" if index == 0 else "w8a8",
                reason=f"costs half of the budget of {word}" if index == 0 else "",
            )
            for index, node in enumerate(nodes)
        ),
        histograms=tuple(
            TensorHistogram(
                tensor=f"{word}_{index}",
                node=word,
                counts=tuple(counts.tolist()),
                low=-4.0,
                high=4.0,
                chosen_low=-3.0 if index else -4.0,
                chosen_high=3.0 if index else 4.0,
            )
            for index in range(3)
        ),
        examples=(
            Example(
                name=f"{word}.jpg",
                expected={"kind": "detections", "objects": [{"label": word, "score": 0.91, "xyxy": [1, 2, 3, 4]}]},
                got={"kind": "detections", "objects": []},
                same=False,
                picture_png=png,
                got_png=png,
                variant=f"onnx-{word}",
            ),
            Example(name="no picture", expected={"kind": "raw", "a": 1}, got={"kind": "raw", "a": 1}, same=True),
        ),
        calibration=CalibrationFindings(
            samples=80,
            enough=False,
            verdict=f"No: class {word} has two samples.",
            findings=(Finding(severity="warning", subject=word, text="add more.", files=(f"{word}.jpg",)),),
            groups={word: 2, "cat": 78},
            stability=((10, 0.2), (20, 0.1), (40, 0.04)),
            forecast=(80, 0.03),
        ),
        sparsity={word: 0.42, "dense": 0.001},
        operators={"onnx-fp32": {"Conv": 40, word: 1}, "onnx-int8": {"Conv": 40, "QuantizeLinear": 41}},
        files={"model.int8.onnx": FileEntry(sha256="b" * 64, size_bytes=250_000)},
        plan=Plan(
            recipe="auto",
            model_sha256="c" * 64,
            schemes={nodes[0]: "float", nodes[1]: "w8a8"},
            calibrator="mse",
            equalize=False,
            bias_correction=True,
            rounding="nearest",
            per_channel=True,
            block_size=32,
        ),
    )


@pytest.fixture
def record() -> Record:
    return make_record()


@pytest.fixture
def hostile() -> Record:
    return make_record(HOSTILE)


@pytest.fixture
def trial() -> Callable[..., Trial]:
    return make_trial
