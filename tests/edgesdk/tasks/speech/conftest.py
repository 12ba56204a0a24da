"""Contracts of voice activity models, as the zoo's manifests state them."""

from __future__ import annotations

from typing import Any

import pytest

from edgesdk.bundle.manifest import AudioInput, ConstantInput, Contract, InputSpec, OutputSpec, StateInput


def _vad(*, context: int = 64, options: dict[str, Any] | None = None, rate: bool = True) -> Contract:
    inputs = [
        InputSpec(
            name="input",
            shape=(1, context + 512),
            dtype="float32",
            source=AudioInput(sample_rate_hz=16000, chunk_samples=512, context_samples=context),
        ),
        InputSpec(name="state", shape=(2, 1, 128), dtype="float32", source=StateInput(from_output="stateN")),
    ]
    if rate:
        inputs.append(InputSpec(name="sr", shape=(), dtype="int64", source=ConstantInput(value=16000)))
    return Contract(
        task="voice-activity",
        inputs=tuple(inputs),
        outputs=(
            OutputSpec(name="output", shape=(1, 1), dtype="float32"),
            OutputSpec(name="stateN", shape=(2, 1, 128), dtype="float32"),
        ),
        options=options or {},
    )


@pytest.fixture
def vad_contract() -> Any:
    return _vad
