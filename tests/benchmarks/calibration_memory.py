"""Prints the peak memory of calibration with few and with many samples: `python tests/benchmarks/calibration_memory.py`.

Every figure is the largest resident set of a process of its own that reads a folder, holds a fifth of it out, observes the activations of a small
convolutional model, and quantizes it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def main() -> int:
    """Run all combinations, print the table, fail beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 640], help="sides of the model's input in pixels")
    parser.add_argument("--counts", type=int, nargs="+", default=[32, 1024], help="samples")
    parser.add_argument("--kinds", nargs="+", default=["pictures", "arrays"], choices=["pictures", "arrays"])
    parser.add_argument("--limit", type=float, default=1.1, help="most memory with many samples over that with few")
    parser.add_argument("--recipe", default="w8a8", help="how the model is quantized then")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(_calibrate(Path(asked.child[0]), Path(asked.child[1]), asked.recipe))
        return 0
    worst = 0.0
    print("input                samples   peak MB     over     seconds")
    with tempfile.TemporaryDirectory() as temporary:
        for size in asked.sizes:
            model = Path(temporary) / f"{size}.onnx"
            model.write_bytes(_model(size).SerializeToString())
            for kind in asked.kinds:
                first = 0.0
                for count in asked.counts:
                    folder = Path(temporary) / f"{kind}-{size}-{count}"
                    _write(folder, kind, size, count)
                    began = time.perf_counter()
                    command = [sys.executable, __file__, "--recipe", asked.recipe, "--child", str(model), str(folder)]
                    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                    first = first or peak
                    worst = max(worst, peak / first)
                    seconds = time.perf_counter() - began
                    print(
                        f"{size:4} x {size:<4} {kind:8} {count:8} {peak:9.1f} {peak / first:8.3f} {seconds:10.1f}",
                        flush=True,
                    )
                    for file in folder.iterdir():
                        file.unlink()
    print(f"largest: {worst:.3f} of the memory with the fewest samples, at most {asked.limit} are allowed")
    return int(worst > asked.limit)


def _calibrate(model: Path, folder: Path, recipe: str) -> float:
    import resource

    from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec
    from edgesdk_converters.calibration import CalibrationSet
    from edgesdk_converters.quantize.quantizer import Quantizer
    from edgesdk_converters.quantize.recipes import load_recipe

    loaded = onnx.load(model)
    size = loaded.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    image = InputSpec(name="x", shape=(1, 3, size, size), dtype="float32", source=ImageInput(layout="NCHW"))
    contract = Contract(
        task="raw", inputs=(image,), outputs=(OutputSpec(name="y", shape=(1, 32, 1, 1), dtype="float32"),)
    )
    used, held_out = CalibrationSet.from_folder(folder, contract).split()
    quantizer = Quantizer(loaded, used.feeds)
    quantizer.apply(quantizer.plan(load_recipe(recipe)))
    if len(held_out.feeds) == 0:
        raise SystemExit("nothing was held out")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


def _write(folder: Path, kind: str, size: int, count: int) -> None:
    import cv2

    folder.mkdir()
    rng = np.random.default_rng(0)
    if kind == "pictures":
        for number in range(count):
            coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
            cv2.imwrite(str(folder / f"{number:05}.jpg"), cv2.resize(coarse, (size * 4 // 3, size)))
        return
    file = folder / "samples.npy"
    with file.open("wb") as stream:
        header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (count, 3, size, size)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _ in range(count):
            stream.write(rng.random((3, size, size), np.float32).tobytes())


def _model(size: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    widths = (3, 16, 16, 32, 32)
    nodes, weights, name = [], [], "x"
    for number, (before, after) in enumerate(pairwise(widths)):
        weights.append(
            numpy_helper.from_array(rng.normal(0, 0.1, (after, before, 3, 3)).astype(np.float32), f"w{number}")
        )
        nodes.append(
            helper.make_node(
                "Conv", [name, f"w{number}"], [f"c{number}"], f"conv{number}", strides=[2, 2], pads=[1] * 4
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], f"relu{number}"))
        name = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["y"], "pool"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", 1, [1, 3, size, size])],
        [helper.make_tensor_value_info("y", 1, [1, widths[-1], 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    sys.exit(main())
