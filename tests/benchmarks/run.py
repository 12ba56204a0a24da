"""What edgesdk costs, measured: `make bench`, or ``python tests/benchmarks/run.py [--only PART] [--json]``.

Each part prints its table and the command that made it. CPU times are medians of single-thread CPU time with the
candidates in turn, pinned to one core: on a shared machine they repeat within some ten per cent, wall times do not.
The models are the contract suite's null models (one Relu on four numbers): what is left is the overhead.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
MODELS = HERE.parents[1] / "contract" / "models"
ROUNDS = 200
STARTS = 7
BURSTS, BURST = 8, 500
"""Results are published in bursts that the ring holds, as a camera never would."""

Report = dict[str, Any]


def predict() -> Report:
    """Time of one prediction over the bare runtime call, on null models (CPU, median, us)."""
    import numpy as np

    from edgesdk.backends import ModelFile, SessionOptions, get_backend
    from edgesdk.backends.tflite import runtime_package
    from edgesdk.backends.timing import interleaved, pinned, ratio
    from edgesdk.cli.bare_peer import bare_call
    from edgesdk.model import load
    from edgesdk.samples import Tensors

    array = np.ones((1, 4), np.float32)
    sample = Tensors(arrays={"a": array})
    rows: list[Report] = []
    for backend, kind in (("onnxruntime", "onnx"), ("tflite", "tflite")):
        there = get_backend(backend).availability()
        if not there.available:
            rows.append({"model": f"null.{kind}", "skipped": f"{there.reason}. {there.fix}"})
            continue
        content = (MODELS / f"null.{kind}").read_bytes()
        file = ModelFile(content=content, format=kind, name="null", sha256=hashlib.sha256(content).hexdigest())
        package = runtime_package() if backend == "tflite" else backend
        with pinned(), _bundle() as path:
            session = get_backend(backend).open(file, SessionOptions(threads=1))
            model = load(path, backend=backend, threads=1)
            calls: dict[str, Callable[[], object]] = {
                "bare": bare_call(package, content, {"a": array}),
                "session.run": lambda session=session: session.run([array]),  # type: ignore[misc]  # bound now, not later
                "model(sample)": lambda model=model: model(sample),  # type: ignore[misc]  # same
                "model.infer(sample)": lambda model=model: model.infer(sample),  # type: ignore[misc]  # same
            }
            timings = interleaved(calls, rounds=ROUNDS)
            model.close()
        bare = timings["bare"]
        for name, timing in timings.items():
            rows.append(
                {
                    "model": f"null.{kind}",
                    "runtime": there.runtime,
                    "call": name,
                    "cpu_us": round(timing.p50_us, 2),
                    "over_bare_us": round(timing.p50_us - bare.p50_us, 2),
                    "ratio": round(ratio(timing, bare), 2),
                }
            )
    return {"rows": rows}


_IMPORTS = {
    "python": "",
    "import numpy": "import numpy",
    "import edgesdk": "import edgesdk",
    "import edgesdk; edgesdk.load": "import edgesdk; edgesdk.load",
    "import edgesdk; edgesdk.App": "import edgesdk; edgesdk.App",
}
_TELL_MEMORY = """
for line in open("/proc/self/status"):
    if line.startswith("VmRSS"):
        print(line.split()[1])
"""


def imports() -> Report:
    """Import time and memory in fresh processes (CPU time user + system and wall: quickest; resident after: median)."""
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in _IMPORTS}
    for _ in range(STARTS):
        for name, code in _IMPORTS.items():
            seen[name].append(_fresh(code + _TELL_MEMORY)[:3])
    rows: list[Report] = []
    for name, values in seen.items():
        cpu, wall = min(value[0] for value in values), min(value[1] for value in values)
        resident = statistics.median(value[2] for value in values)
        rows.append(
            {"process": name, "cpu_ms": round(cpu, 1), "wall_ms": round(wall, 1), "rss_mib": round(resident / 1024, 1)}
        )
    base = rows[0]
    for row in rows:
        row["cpu_over_python_ms"] = round(row["cpu_ms"] - base["cpu_ms"], 1)
        row["rss_over_python_mib"] = round(row["rss_mib"] - base["rss_mib"], 1)
    return {"rows": rows}


_FIRST = {
    "bare onnxruntime": """
import sys, numpy as np, onnxruntime
s = onnxruntime.InferenceSession(open(sys.argv[1] + "/null.onnx", "rb").read(), providers=["CPUExecutionProvider"])
s.run(["y"], {"a": np.ones((1, 4), np.float32)})
""",
    "edgesdk, onnxruntime": """
import sys, numpy as np, edgesdk
model = edgesdk.load(sys.argv[2], backend="onnxruntime", threads=1)
model({"a": np.ones((1, 4), np.float32)})
""",
    "bare tflite": """
import sys, numpy as np
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter
i = Interpreter(model_content=open(sys.argv[1] + "/null.tflite", "rb").read(), num_threads=1)
i.allocate_tensors()
i.set_tensor(i.get_input_details()[0]["index"], np.ones((1, 4), np.float32))
i.invoke()
i.get_tensor(i.get_output_details()[0]["index"])
""",
    "edgesdk, tflite": """
import sys, numpy as np, edgesdk
model = edgesdk.load(sys.argv[2], backend="tflite", threads=1)
model({"a": np.ones((1, 4), np.float32)})
""",
}


def first_result() -> Report:
    """Fresh process: from its start to the first result of a null model (quickest; caches of disk and graphs are warm)."""
    seen: dict[str, list[tuple[float, float, int, str]]] = {name: [] for name in _FIRST}
    with _bundle() as path:
        for _ in range(STARTS):
            for name, code in _FIRST.items():
                seen[name].append(_fresh(code + _TELL_MEMORY, str(MODELS), str(path)))
    rows: list[Report] = []
    for name, values in seen.items():
        good = [value for value in values if not value[3]]
        if not good:
            rows.append({"process": name, "skipped": values[0][3]})
            continue
        cpu, wall = min(value[0] for value in good), min(value[1] for value in good)
        resident = statistics.median(value[2] for value in good)
        rows.append(
            {"process": name, "cpu_ms": round(cpu, 1), "wall_ms": round(wall, 1), "rss_mib": round(resident / 1024, 1)}
        )
    return {"rows": rows}


def outbox() -> Report:
    """Time that `Telemetry.publish` takes of its caller: the result goes into the ring, the writer thread commits it."""
    from edgesdk.backends.timing import interleaved
    from edgesdk.samples import Stamp
    from edgesdk.telemetry import OutboxSettings, Telemetry, TelemetrySettings

    result = {"faces": [{"score": 0.91, "box_xyxy": [10.5, 20.25, 110.0, 140.75]}]}
    with tempfile.TemporaryDirectory(prefix="edgesdk-bench-") as folder:
        settings = TelemetrySettings(outbox=OutboxSettings(path=str(Path(folder) / "bench.outbox")))
        telemetry = Telemetry(settings, device="bench", app="bench", capability={})
        telemetry.start()
        stamp = Stamp.now()
        publish = lambda: telemetry.publish("door", result, captured=stamp)  # noqa: E731  the one call under test
        wall: list[float] = []
        cpu: list[float] = []
        for samples, clock in ((wall, time.perf_counter_ns), (cpu, time.thread_time_ns)):
            for _ in range(BURSTS):
                samples.extend(interleaved({"": publish}, rounds=BURST, clock=clock, batch_ns=0)[""].samples_us)
                telemetry.publish("door", result, captured=stamp, durable=True)  # the ring is empty again
        begin = time.perf_counter_ns()
        telemetry.publish("door", result, captured=stamp, durable=True)
        durable_ms = (time.perf_counter_ns() - begin) / 1e6
        stats = telemetry.close()
    return {
        "rows": [
            {
                "call": "Telemetry.publish",
                "calls": BURSTS * BURST,
                "cpu_us": round(statistics.median(cpu), 2),
                "wall_p50_us": round(statistics.median(wall), 2),
                "wall_p99_us": round(statistics.quantiles(wall, n=100)[98], 2),
                "one_durable_ms": round(durable_ms, 2),
                "accepted": stats.accepted,
                "dropped": stats.dropped,
            }
        ]
    }


PARTS: dict[str, Callable[[], Report]] = {
    "predict": predict,
    "imports": imports,
    "first-result": first_result,
    "outbox": outbox,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", choices=sorted(PARTS), help="one part; default: all")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    from edgesdk.backends.timing import host_name

    warnings.simplefilter("ignore")  # a bench is no place for advice about this machine's runtimes
    report: Report = {"host": host_name(), "load_average": os.getloadavg()[0], "parts": {}}
    with tempfile.TemporaryDirectory(prefix="edgesdk-bench-cache-") as folder:
        os.environ["EDGESDK_CACHE"] = folder  # of our own: neither warm from before nor left behind
        for name in [options.only] if options.only else PARTS:
            command = f"python tests/benchmarks/run.py --only {name}"
            what = (PARTS[name].__doc__ or "").strip()
            try:
                part = PARTS[name]()
            except ImportError as error:
                part = {"rows": [], "skipped": str(error)}
            report["parts"][name] = {"what": what, "command": command, **part}
            if not options.json:
                _print(name, report["parts"][name])
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"host: {report['host']}; load average {report['load_average']:.1f} at the start")
    return 0


def _fresh(code: str, *arguments: str) -> tuple[float, float, int, str]:
    """CPU ms, wall ms, resident KiB, and the error's last line, of a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    # An installed package has its bytecode; a shell that forbids writing it would make us measure the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    wall = (time.perf_counter() - begin) * 1000
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
    if done.returncode:
        return cpu, wall, 0, (done.stderr.strip().splitlines() or ["failed"])[-1]
    return cpu, wall, int(done.stdout.split()[-1]), ""


class _bundle:  # noqa: N801  a context manager that reads like a function
    """A bundle with both null models."""

    def __enter__(self) -> Path:
        from edgesdk.bundle import Manifest, write_bundle
        from edgesdk.bundle.manifest import Contract, InputSpec, Licence, OutputSpec, Provenance, TensorInput, Variant

        self._folder = tempfile.TemporaryDirectory(prefix="edgesdk-bench-")
        variants = tuple(
            Variant(id=f"{kind}-fp32", file=f"m.{kind}", format=kind, precision="fp32", inputs=("a",), outputs=("y",))
            for kind in ("onnx", "tflite")
        )
        shape = (1, 4)
        contract = Contract(
            task="raw",
            inputs=(InputSpec(name="a", shape=shape, dtype="float32", source=TensorInput()),),
            outputs=(OutputSpec(name="y", shape=shape, dtype="float32"),),
        )
        manifest = Manifest(
            name="null",
            contract=contract,
            variants=variants,
            files={},
            provenance=Provenance(source_file="null.onnx", source_sha256="0" * 64),
            licence=Licence(name="Apache-2.0"),
        )
        files = {f"m.{kind}": (MODELS / f"null.{kind}").read_bytes() for kind in ("onnx", "tflite")}
        return write_bundle(Path(self._folder.name) / "null.edge", manifest, files)

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _print(name: str, part: Report) -> None:
    print(f"\n{name}: {part['what']}\n  $ {part['command']}")
    if "skipped" in part:
        print(f"  skipped: {part['skipped']}")
    rows = part["rows"]
    for row in (row for row in rows if "skipped" in row):
        print(f"  skipped: {' '.join(map(str, row.values()))}")
    rows = [row for row in rows if "skipped" not in row]
    if not rows:
        return
    heads = list(rows[0])
    widths = {head: max(len(head), *(len(str(row[head])) for row in rows)) for head in heads}
    print("  " + "  ".join(head.ljust(widths[head]) for head in heads))
    for row in rows:
        cells = (
            str(row[head]).ljust(widths[head]) if isinstance(row[head], str) else str(row[head]).rjust(widths[head])
            for head in heads
        )
        print("  " + "  ".join(cells))


if __name__ == "__main__":
    raise SystemExit(main())
