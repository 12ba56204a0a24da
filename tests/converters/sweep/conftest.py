"""A sweep over tiny models: a cell takes a few seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

BOARDS = ("raspberry-pi-4", "raspberry-pi-5")


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the models and the sweep file that names them."""

    def write(models: int = 1, boards: int = 2, *, calibrated: bool = False, **more: Any) -> Path:
        folder = tmp_path / "sweep"
        folder.mkdir(exist_ok=True)
        entries: dict[str, Any] = {}
        for index in range(models):
            weights = np.random.default_rng(index).normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32)
            graph = helper.make_graph(
                [helper.make_node("Conv", ["x", "w"], ["c"], "conv"), helper.make_node("Relu", ["c"], ["y"], "relu")],
                "tiny",
                [helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])],
                [helper.make_tensor_value_info("y", 1, [1, 16, 6, 6])],
                [numpy_helper.from_array(weights, "w")],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
            onnx.save(model, folder / f"m{index}.onnx")
            entries[f"m{index}"] = {"source": f"m{index}.onnx", "optimize": "size"}
        if calibrated:
            (folder / "samples").mkdir(exist_ok=True)
            np.save(
                folder / "samples" / "x.npy",
                np.random.default_rng(7).uniform(0, 1, (30, 3, 8, 8)).astype(np.float32),
            )
            for entry in entries.values():
                entry["calibration"] = "samples"
        content = {"models": entries, "boards": list(BOARDS[:boards]), "output": "results", **more}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return folder / "sweep.yaml"

    return write
