"""What the choices behind learnt rounding bring: `python tests/benchmarks/rounding.py [SPLITS]`.

The DS-CNN keyword spotter with 4-bit weights, calibrated on one half of its samples and compared with the float model on the
other: KL divergence (mean and worst of the splits) and agreement, per choice. The first row is what is shipped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk_converters.quantize import gptq, rounding, weights
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Recipe
from edgesdk_converters.quantize.recipes import load_recipe
from edgesdk_converters.runner import OnnxRunner

Array = NDArray[Any]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "mlperf-tiny-kws"
FEATURES = 83, 0.5847029
"""Zero point and scale of the file's int8 features."""

CHOICES: dict[str, dict[str, Any]] = {
    "shipped (gptq)": {},
    "nearest": {"recipe": {"rounding": "nearest"}},
    "adaround": {"recipe": {"rounding": "adaround"}},
    "no repair of what was lost before": {"patch": (rounding, "best_weights", lambda matrix, _: matrix)},
    "no bias correction": {"recipe": {"bias_correction": False}},
    "damping 0.01": {"patch": (gptq.damped, "__defaults__", (0.01,))},
    "damping 1": {"patch": (gptq.damped, "__defaults__", (1.0,))},
    "21 scales tried": {"patch": (weights, "_FACTORS", np.linspace(0.4, 1.0, 21))},
    "61 scales tried": {"patch": (weights, "_FACTORS", np.linspace(0.4, 1.0, 61))},
}


@contextmanager
def patched(place: Any, name: str, value: Any) -> Iterator[None]:
    """Another value while the block runs."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def measure(
    model: onnx.ModelProto, feeds: list[list[Array]], held: list[list[Array]], recipe: Recipe
) -> tuple[float, float]:
    """KL divergence and agreement on ``held``."""
    quantizer = Quantizer(model, feeds)
    reference, made = OnnxRunner(model), OnnxRunner(quantizer.apply(quantizer.plan(recipe)))
    a = np.concatenate([reference.run(feed)[0] for feed in held])
    b = np.concatenate([made.run(feed)[0] for feed in held])
    return (
        float((a * (np.log(a + 1e-9) - np.log(b + 1e-9))).sum(1).mean()),
        float((a.argmax(1) == b.argmax(1)).mean()),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("splits", nargs="?", type=int, default=3, help="halves of the samples, drawn anew (default 3)")
    splits = parser.parse_args(arguments).splits
    if not (DATA / "ds_cnn_fp32.onnx").is_file():
        print(f"needs the DS-CNN of MLPerf Tiny in {DATA} (mlcommons/tiny)", file=sys.stderr)
        return 1
    model = onnx.load(DATA / "ds_cnn_fp32.onnx")
    with np.load(DATA / "kws01_half.npz") as data:
        x = ((data["features"].astype(np.float32) - FEATURES[0]) * np.float32(FEATURES[1])).reshape(-1, 1, 1, 49, 10)
    print(f"| choice | KL, mean of {splits} | KL, worst | agreement |\n| --- | --- | --- | --- |")
    for words, choice in CHOICES.items():
        recipe = msgspec.structs.replace(load_recipe("w4a8"), **choice.get("recipe", {}))
        found = []
        for seed in range(splits):
            order = np.random.default_rng(seed).permutation(len(x))
            feeds, held = ([[x[i]] for i in part] for part in np.array_split(order, 2))
            with patched(*choice.get("patch", (gptq, "DAMPING", gptq.DAMPING))):
                found.append(measure(model, feeds, held, recipe))
        kl, agreement = np.asarray(found).T
        print(f"| {words} | {kl.mean():.4f} | {kl.max():.4f} | {agreement.mean():.4f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
