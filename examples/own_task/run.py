"""Converts a model for the task of this folder, and lets it look at two pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx.parser  # noqa: TID251 - this half of the example runs on the developer's machine
import tomllib

import edgesdk
from edgesdk.samples import Picture
from edgesdk_converters.pipeline import convert  # noqa: TID251 - as above

HERE = Path(__file__).parent
BUILD = HERE / "build"
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
mean (float[1,3,32,32] picture) => (float[1,3,1,1] colour) { colour = GlobalAveragePool(picture) }"""


def register() -> None:
    """What `pip install ./examples/own_task` does, for this process only: the entry points beside the module."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["project"]
    info = BUILD / f"edgesdk_mean_colour-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    sys.path[:0] = [str(HERE), str(BUILD)]


register()
onnx.save(onnx.parser.parse_model(MODEL), BUILD / "mean.onnx")
done = convert(
    BUILD / "mean.onnx",
    device="raspberry-pi-4",
    calibration=None,  # float variants only: there is nothing to gain from int8 here
    spec=HERE / "model.yaml",
    output=BUILD / "mean-colour.edge",
)
with edgesdk.load(done.bundle) as model:
    for name, rgb in (("orange", (255, 128, 0)), ("night", (5, 5, 40))):
        picture = Picture(pixels=np.full((48, 64, 3), rgb, np.uint8), colour="RGB")
        print(name, model(picture).to_json())
