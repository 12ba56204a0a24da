"""Peer NNCF: nncf.quantize with its defaults. Run as ``python nncf_ptq.py JOB.json`` in an environment of its own."""

import json
import sys
import time

import nncf
import numpy as np
import onnx

with open(sys.argv[1]) as file:
    job = json.load(file)
with np.load(job["calibration"]) as arrays:
    columns = {name: arrays[name] for name in arrays.files}
count = len(next(iter(columns.values())))
begin = time.perf_counter()
dataset = nncf.Dataset([{name: column[index] for name, column in columns.items()} for index in range(count)])
quantized = nncf.quantize(onnx.load(job["model"]), dataset)
target = job["output"] + "/int8.onnx"
onnx.save(quantized, target)
print(json.dumps({"int8": target, "seconds": time.perf_counter() - begin}))
