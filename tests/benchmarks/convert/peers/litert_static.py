"""Peer litert-quantizer: its recipe static_wi8_ai8 on a float TFLite file. Run as ``python litert_static.py JOB.json``."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import quantizer, recipe

job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
content = Path(job["tflite"]).read_bytes()
interpreter = Interpreter(model_content=content)
signature, names = next(iter(interpreter.get_signature_list().items()))
details = interpreter.get_signature_runner(signature).get_input_details()
with np.load(job["calibration"]) as arrays:
    columns = list(arrays.values())


def laid_out(array: np.ndarray, shape: list[int]) -> np.ndarray:
    """NCHW to NHWC where the file wants it."""
    moved = array if list(array.shape) == shape else array.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(moved)


samples = [
    {
        name: laid_out(column[index], [int(side) for side in details[name]["shape"]]).astype(details[name]["dtype"])
        for name, column in zip(names["inputs"], columns, strict=True)
    }
    for index in range(len(columns[0]))
]
begin = time.process_time()
worker = quantizer.Quantizer(content)
worker.load_quantization_recipe(recipe.static_wi8_ai8())
ranges = worker.calibrate({signature: samples}, num_threads=1)
result = worker.quantize(ranges)
target = job["output"] + "/int8.tflite"
Path(target).write_bytes(result.quantized_model)
print(json.dumps({"int8": target, "seconds": time.process_time() - begin}))
