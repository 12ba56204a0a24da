"""Equal inputs make equal bytes, whatever the machine's settings are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

SCRIPT = """
import hashlib, importlib.util, os, sys

os.cpu_count = lambda: int(sys.argv[2])  # decides how many threads run models

spec = importlib.util.spec_from_file_location("models", sys.argv[1])
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)

from edgesdk.bundle.manifest import OutputSpec
from edgesdk_converters.auto import proposals
from edgesdk_converters.auto.plans import plan_bytes
from edgesdk_converters.guard import Budget
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipes import load_recipe, recipe_names
from edgesdk_converters.tflite.lower import lower

model, feeds = models.conv_model(classes=5, channels=96), models.samples(20)
outputs = (OutputSpec(name="y", shape=(1, 5), dtype="float32"),)

def tell(words, content):
    print(words, hashlib.sha256(content).hexdigest())

for name in recipe_names():
    quantizer = Quantizer(model, feeds)
    if name != "auto":
        plan = quantizer.plan(load_recipe(name))
        made = quantizer.apply(plan)
        tell(name, plan_bytes(plan) + made.SerializeToString(deterministic=True))
        tell(name + " tflite", lower(made))
        continue
    for number, one in enumerate(
        proposals(quantizer, model, outputs, feeds, recipe=load_recipe(name), budget=Budget(min_snr_db=45))
    ):
        tell(f"auto {number}", plan_bytes(one.plan) + one.model.SerializeToString(deterministic=True))
"""


def run(*, hash_seed: str, threads: str, workers: str) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "OPENBLAS_NUM_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(CONFTEST), workers],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_quantizer__hash_seed_and_threads_change_no_byte() -> None:
    first = run(hash_seed="0", threads="1", workers="1")
    assert len(first) > 16
    assert run(hash_seed="4711", threads="3", workers="4") == first
