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


def int8(*more: str, folder: str) -> tuple[str, float, str]:
    """The file (empty where there is none), its CPU seconds and what went wrong: at writing or, as here, only at loading."""
    seconds, wrong = run("-oiqt", *data, *more, folder=folder)
    made = [path for path in sorted((output / folder).glob("*_integer_quant.tflite")) if "full" not in path.name]
    return (str(made[0]) if made and not wrong else ""), seconds, wrong or "no integer_quant file was written"


path, seconds, wrong = int8(folder="int8")
if not path:
    answer["int8_error"] = wrong
    path, seconds, _ = int8("-qt", "per-tensor", folder="int8-per-tensor")
    answer["per_tensor"] = bool(path)
if path:
    answer.update(int8=path, seconds=seconds)
print(json.dumps(answer))
