"""Peak memory of calibrating and quantizing at 32 and at 1,024 samples, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

COUNTS = (32, 1024)

_CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]  # the checkout
import onnx
from edgesdk_converters.calibration import CalibrationSet
from edgesdk_converters.quantize.quantizer import Quantizer
from edgesdk_converters.quantize.recipes import load_recipe
from tests.benchmarks.convert.rows import Row

def kilobytes(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))

row = Row("detector", Path(sys.argv[1]))
model = onnx.load_from_string(row.content)
calibration = CalibrationSet.from_folder(sys.argv[2], row.contract)
quantizer = Quantizer(model, calibration.feeds)
quantizer.apply(quantizer.plan(load_recipe("w8a8")))
print(kilobytes("VmHWM"), len(calibration.feeds))
"""


def measure(cache: Path) -> dict[str, Any]:
    """Peaks in MiB, of the whole process, and their ratio."""
    from tests.benchmarks.convert import data

    peaks: dict[int, float] = {}
    for count in COUNTS:
        folder = cache / f"data-{data.EDITION}" / f"memory-{count}"
        if len(list(folder.glob("*.png"))) != count:
            data.scene_module().write_folder(folder, count=count, seed=7)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(cache), str(folder), str(data.CHECKOUT)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1][:300]}
        kilobytes, seen = (int(word) for word in done.stdout.split())
        assert seen == count
        peaks[count] = round(kilobytes / 1024, 1)
    small, large = (peaks[count] for count in COUNTS)
    return {"mib": {str(key): value for key, value in peaks.items()}, "ratio": round(large / small, 3)}
