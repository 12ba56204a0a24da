"""Peer onnx2tf 2.x: float TFLite, then static int8 with float inputs and outputs. Run as ``python onnx2tf_int8.py JOB.json``."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
output = Path(job["output"])
copy = output / "model.onnx"
shutil.copyfile(job["model"], copy)  # onnx2tf rewrites its input in place
tool = str(Path(sys.executable).with_name("onnx2tf"))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(*more: str, folder: str) -> tuple[float, str]:
    """CPU seconds and the last line of what was said, empty where it went well."""
    begin = _cpu_of_children()
    command = [tool, "-i", str(copy), "-o", str(output / folder), "-n", "-v", "error", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=job["timeout_s"])
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error: " in line]
    return _cpu_of_children() - begin, (lines or ["no reason given"])[0][:300] if done.returncode else ""


answer: dict[str, object] = {}
seconds, wrong = run(folder="float")
answer["float_seconds"] = seconds
made = sorted((output / "float").glob("*_float32.tflite"))
if wrong or not made:
    answer["float_error"] = wrong or "no float32 file was written"
else:
    answer["float"] = str(made[0])
data: list[str] = []
with np.load(job["calibration"]) as arrays:
    for name in arrays.files:
        rows = np.concatenate(list(arrays[name]))
        rows = rows.transpose(0, 2, 3, 1) if rows.ndim == 4 else rows
        np.save(output / f"{name}.npy", rows)
        data += ["-cind", name, str(output / f"{name}.npy"), "0", "1"]
        if rows.ndim == 4:
            zeros = "[[[[" + ",".join(["0"] * rows.shape[3]) + "]]]]"
            data[-2:] = [zeros, zeros.replace("0", "1")]
seconds, wrong = run("-oiqt", *data, folder="int8")
made = sorted((output / "int8").glob("*_integer_quant.tflite"))
made = [path for path in made if "full" not in path.name]
if wrong or not made:
    answer["int8_error"] = wrong or "no integer_quant file was written"
else:
    answer.update(int8=str(made[0]), seconds=seconds)
print(json.dumps(answer))
