"""Peak memory of a variant, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Format

Array = NDArray[Any]

_TIMEOUT_S = 300
_RUNS = 3

_CHILD = """
import json, sys
import numpy as np

def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))

path, kind, arrays, runs = sys.argv[1:5]
if kind == "onnx":
    import onnxruntime
else:
    from ai_edge_litert.interpreter import Interpreter
feed = {}
with np.load(arrays) as loaded:
    feed = {name: loaded[name] for name in loaded.files}
try:
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")  # the peak of importing is not the model's
except OSError:
    pass
before = max(kilobytes("VmRSS"), 0)
if kind == "onnx":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(int(runs)):
        session.run(None, feed)
else:
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    details = {one["name"]: one["index"] for one in interpreter.get_input_details()}
    by_order = [one["index"] for one in interpreter.get_input_details()]
    for position, (name, value) in enumerate(feed.items()):
        interpreter.set_tensor(details.get(name, by_order[position]), value)
    for _ in range(int(runs)):
        interpreter.invoke()
print(json.dumps({"bytes": max(kilobytes("VmHWM") - before, 0) * 1024}))
"""


def peak_memory(content: bytes, kind: Format, inputs: Sequence[str], feed: Sequence[Array]) -> int | None:
    """Bytes that loading a model and running it three times takes at its peak, above a process that only imported the runtime.

    Args:
        content: The model file.
        kind: Its format.
        inputs: Its own input names, in the order of ``feed``.
        feed: One inference.

    Returns:
        None where this system does not tell (it is no Linux), or the child failed.
    """
    if not Path("/proc/self/status").is_file():
        return None
    with tempfile.TemporaryDirectory(prefix="edgesdk-memory-") as folder:
        model, arrays = Path(folder) / f"model.{kind}", Path(folder) / "feed.npz"
        model.write_bytes(content)
        given: dict[str, Any] = dict(zip(inputs, feed, strict=True))
        np.savez(arrays, **given)
        try:
            done = subprocess.run(  # noqa: S603 - our own interpreter with our own text
                [sys.executable, "-c", _CHILD, str(model), kind, str(arrays), str(_RUNS)],
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=True,
            )
            return int(json.loads(done.stdout)["bytes"])
        except (subprocess.SubprocessError, OSError, ValueError, KeyError):
            return None
