"""The search on a real model: the DS-CNN keyword spotter with its labelled samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from edgesdk.bundle.manifest import Contract, InputSpec, OutputSpec, TensorInput
from edgesdk_converters.auto import proposals
from edgesdk_converters.graph import find_branches, pin_shapes, raise_opset, simplify
from edgesdk_converters.guard import Budget
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipe import Recipe
from edgesdk_converters.runner import OnnxRunner


def test_auto__keyword_spotter_keeps_its_accuracy(kws: Path) -> None:
    source = onnx.load(kws / "ds_cnn_fp32.onnx")
    raised, _ = raise_opset(pin_shapes(source, {"x": (1, 1, 49, 10)}), file="ds_cnn_fp32.onnx")
    with np.load(kws / "kws01_half.npz") as data:
        features = (data["features"].astype(np.float32) - 83) * np.float32(0.5847029)  # the file's own scale
        labels = [str(int(label)) for label in data["label"]]
    inputs = [[row.reshape(1, 1, 49, 10)] for row in features]
    model, _ = simplify(raised, OnnxRunner(raised), inputs[:1])
    contract = Contract(
        task="raw",
        inputs=(InputSpec(name="x", shape=(1, 1, 49, 10), dtype="float32", source=TensorInput()),),
        outputs=(OutputSpec(name="y", shape=(1, 12), dtype="float32", branches=find_branches(model)["y"]),),
    )
    calibration, held_out = inputs[:200], [[feed] for feed in inputs[200:]]
    judge = Judge(
        contract,
        OnnxRunner(model),
        held_out,
        source_size_bytes=len(source.SerializeToString()),
        optimize="speed",
        budget=Budget(max_drop=0.01),
        labels=labels[200:],
    )
    quantizer = Quantizer(model, calibration)
    recipe = Recipe(name="auto", scheme="auto")
    found = proposals(quantizer, model, contract.outputs, calibration, recipe=recipe, contract=contract)
    close = next(one for one in (judge.compare(OnnxRunner(proposal.model)) for proposal in found) if not one.reasons)
    (figure,) = close.fidelity
    assert figure.top1_agreement is not None
    assert figure.top1_agreement >= 0.99
    assert figure.kl_divergence is not None
    assert figure.kl_divergence <= 0.02
    assert close.metrics["accuracy"] >= close.metrics["float_accuracy"] - 0.01
    assert close.metrics["float_accuracy"] > 0.9
