"""Zoo models that come as PyTorch code and a state dict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgesdk.model import Model, load
from edgesdk.tasks.results import Classification
from edgesdk_converters.pipeline import convert
from edgesdk_converters.zoo.catalog import spec_path
from edgesdk_converters.zoo.samples import calibration_folder, sample_folder


def best(model: Model, picture: Path) -> int:
    result = model(picture)
    assert isinstance(result, Classification)
    return int(result.class_ids[0])


@pytest.mark.torch
@pytest.mark.zoo
@pytest.mark.slow
def test_efficientnet_lite0__int8_passes_the_guard_and_still_knows_an_espresso(
    tmp_path: Path, zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = convert(
        "edgesdk_converters.zoo.factories:efficientnet_lite0",
        device="raspberry-pi-4",
        state_dict=zoo("efficientnet-lite0"),
        spec=spec_path("efficientnet-lite0"),
        calibration=calibration_folder("efficientnet-lite0", tmp_path / "pictures"),
        output=tmp_path / "lite0.edge",
        # Only the fidelity is judged here: a test has no time limits.
        optimize="size",
    )
    assert result.ok, result.refused
    int8 = next(m for m in result.measurements.variants if m.variant == "onnx-int8")
    assert int8.size_bytes <= 0.35 * int8.source_size_bytes
    with load(result.bundle, variant="onnx-int8") as small, load(result.bundle, variant="onnx-fp32") as large:
        espresso = 967  # ImageNet's class id
        assert best(small, zoo("coffee")) == best(large, zoo("coffee")) == espresso
        pictures = sorted(sample_folder("efficientnet-lite0", tmp_path / "more", count=20).iterdir())
        agree = [best(small, p) == best(large, p) for p in pictures]
    assert np.mean(agree) >= 0.9
