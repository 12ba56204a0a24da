from __future__ import annotations

import subprocess
import sys

import pytest

from edgesdk.errors import MissingExtraError
from edgesdk.extras import import_extra


def test_extra__missing_module_gives_the_pip_line() -> None:
    with pytest.raises(
        MissingExtraError, match=r"reading pictures needs no_such_module.*pip install 'edgesdk\[vision\]'"
    ):
        import_extra("no_such_module", extra="vision", purpose="reading pictures")


def test_extra__importing_tasks_and_reading_pulls_in_no_opencv() -> None:
    modules = (
        "edgesdk.tasks.vision.yolo, edgesdk.tasks.vision.blazeface, edgesdk.tasks.vision.draw, edgesdk.sources.reading"
    )
    code = f"import sys, {modules}; sys.exit('cv2' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_extra__raw_needs_no_opencv() -> None:
    """The board of a speech or sensor model has no OpenCV."""
    code = """
import sys
sys.modules["cv2"] = None
import numpy as np
from edgesdk.bundle.manifest import Contract, ImageInput, InputSpec, OutputSpec, TensorInput
from edgesdk.errors import MissingExtraError
from edgesdk.samples import Tensors
from edgesdk.tasks import make_task
x = InputSpec(name="x", shape=(1,), dtype="float32", source=TensorInput())
y = OutputSpec(name="y", shape=(1,), dtype="float32")
task = make_task(Contract(task="raw", inputs=(x,), outputs=(y,)))
assert task(lambda feed: list(feed), Tensors(arrays={"x": np.ones(1, np.float32)})).to_json()
image = InputSpec(name="x", shape=(1, 3, 4, 4), dtype="float32", source=ImageInput(layout="NCHW"))
try:
    make_task(Contract(task="image-classification", inputs=(image,), outputs=(y,)))
except MissingExtraError as error:
    assert "pip install 'edgesdk[vision]'" in str(error)
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
