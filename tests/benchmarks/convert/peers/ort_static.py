"""Peer `onnxruntime.quantization`: quantize_static with its defaults. Run as ``python ort_static.py JOB.json``."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, quantize_static


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The samples of an npz file, one by one."""

    def __init__(self, path: str) -> None:
        with np.load(path) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        self._next = 0

    def get_next(self) -> dict[str, object] | None:
        """The next sample, or None at the end."""
        index, self._next = self._next, self._next + 1
        if index >= len(next(iter(self._arrays.values()))):
            return None
        return {name: array[index] for name, array in self._arrays.items()}


job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
begin = time.process_time()
target = job["output"] + "/int8.onnx"
quantize_static(job["model"], target, Reader(job["calibration"]))
print(json.dumps({"int8": target, "seconds": time.process_time() - begin}))
