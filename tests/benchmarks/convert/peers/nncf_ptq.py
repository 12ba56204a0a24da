"""Peer NNCF: nncf.quantize with its defaults. Run as ``python nncf_ptq.py JOB.json`` in an environment of its own."""

import json
import sys
import time
from pathlib import Path

import nncf  # type: ignore[import-not-found]  # lives in an environment of its own
import numpy as np
import onnx

job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
with np.load(job["calibration"]) as arrays:
    columns = {name: arrays[name] for name in arrays.files}
count = len(next(iter(columns.values())))
begin = time.process_time()
dataset = nncf.Dataset([{name: column[index] for name, column in columns.items()} for index in range(count)])
quantized = nncf.quantize(onnx.load(job["model"]), dataset)
target = job["output"] + "/int8.onnx"
onnx.save(quantized, target)
print(json.dumps({"int8": target, "seconds": time.process_time() - begin}))
