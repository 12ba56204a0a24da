"""What `edgesdk bench` measures; also used by the benchmarks of the repository."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from edgesdk.backends import ModelFile
from edgesdk.backends.timing import host_name, interleaved, pinned, ratio
from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import AudioInput, Contract, ImageInput, TensorInput
from edgesdk.cli import bare_peer
from edgesdk.errors import BackendError, TaskError
from edgesdk.model import Model, load
from edgesdk.samples import Audio, Picture, Sample, Tensors

BUDGET_S = 10.0
"""Wall time of each measurement, unless a number of runs is given."""
MOST_RUNS = 500
COLD_STARTS = 3
"""The quickest of so many counts: the first one fills the disk cache and the cache of optimised graphs."""
SYNTHETIC_WH = (640, 480)
"""Size of the picture that is used where no input is given: what a small camera delivers."""

_FIRST_RESULT = """
import json, sys, time
facts = json.loads(sys.argv[1])
import edgesdk
imported = time.monotonic_ns()
model = edgesdk.load(facts["bundle"], backend=facts["backend"], variant=facts["variant"], threads=facts["threads"])
loaded = time.monotonic_ns()
from edgesdk.cli.bench_measure import one_sample
model.infer(one_sample(facts["bundle"], facts["input"]))
done = time.monotonic_ns()
from edgesdk.backends.timing import memory_bytes
print(json.dumps({"imported": imported, "loaded": loaded, "done": done, **memory_bytes()}))
"""


def bench(
    bundle: str | Path,
    *,
    input_file: str | None = None,
    peer: bool = True,
    runs: int = 0,
    backend: str = "auto",
    variant: str = "auto",
    threads: int = 1,
) -> dict[str, Any]:
    """Measure a bundle on this machine, pinned to one core.

    Args:
        bundle: The bundle.
        input_file: What to predict; None is a synthetic sample of the kind that the model takes.
        peer: Whether to compare with the bare runtime.
        runs: Rounds of each measurement; 0 is what fits into ten seconds, at most 500.
        backend: As in `edgesdk.load`.
        variant: As in `edgesdk.load`.
        threads: Intra-operator threads of both.

    Returns:
        Plain data: the host, wall percentiles and CPU medians in microseconds, ratios to the bare runtime (medians of
        interleaved CPU times), memory in bytes, cold start in milliseconds from the start of a fresh process.

    Raises:
        EdgeSdkError: Whatever keeps the bundle from running here.
    """
    path = Path(bundle)
    rounds, budget_s = (runs, float("inf")) if runs else (MOST_RUNS, BUDGET_S)
    with load(path, backend=backend, variant=variant, threads=threads) as model:
        part = model.parts[0]
        contract = part.manifest.contract
        samples = synthetic_samples(contract) if input_file is None else _samples_of(contract, input_file)
        with Bundle.open(path) as opened:
            file = opened.model_file(part.variant)
        package = _package(part.backend) if peer else ""
        feed = _feed(model, next(samples)) if peer else []
        calls: dict[str, Callable[[], object]] = {"predict": lambda: model(next(samples))}
        if peer:
            calls["session"] = lambda: part.session.run(feed)
        if package:
            calls["bare"] = bare_peer.bare_call(package, file.content, _by_name(file, feed), threads)
        with pinned():
            wall, split = _wall(model, samples, rounds, budget_s)
            timings = interleaved(calls, rounds=rounds, budget_s=budget_s)
        report: dict[str, Any] = {
            "bundle": str(path),
            "identity": part.identity,
            "variant": part.variant.id,
            "backend": part.session.description,
            "host": host_name(),
            "input": input_file or "synthetic",
            "runs": len(timings["predict"].samples_us),
            "wall_us": wall,
            "split_ms": split,
            "cpu_us": {name: round(timing.p50_us, 2) for name, timing in timings.items()},
            "ratio": {name: round(ratio(timings[name], timings["bare"]), 3) for name in timings if "bare" in timings},
        }
        facts = {"bundle": str(path.resolve()), "backend": part.backend, "variant": part.variant.id, "threads": threads}
        facts["input"] = None if input_file is None else str(Path(input_file).resolve())
    report["cold_start"] = {"edgesdk": _cold_start(facts)}
    if package:
        report["cold_start"]["bare"] = _bare_cold_start(package, file, feed)
    return report


def _wall(
    model: Model, samples: Iterator[Sample], rounds: int, budget_s: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Wall percentiles of single predictions, and the medians of their parts."""
    splits: list[Any] = []

    def predict() -> None:
        splits.append(model.infer(next(samples)).latency)

    timing = interleaved(
        {"predict": predict}, rounds=rounds, budget_s=budget_s, clock=time.perf_counter_ns, batch_ns=0
    )["predict"]
    wall = {f"p{at}": round(timing.percentile(at), 2) for at in (50, 95, 99)}
    parts = ("pre_ms", "inference_ms", "post_ms")
    return wall, {name: round(statistics.median(getattr(one, name) for one in splits), 4) for name in parts}


def one_sample(bundle: str | Path, input_file: str | None) -> Sample:
    """The sample that `bench` predicts, for a process of its own."""
    with Bundle.open(Path(bundle)) as opened:
        contract = opened.manifest.contract
    return next(synthetic_samples(contract) if input_file is None else _samples_of(contract, input_file))


def synthetic_samples(contract: Contract) -> Iterator[Sample]:
    """Noise of the kind that the model takes, without end: the same sample, or the chunks of a stream."""
    noise = np.random.default_rng(0)
    for spec in contract.inputs:
        if isinstance(spec.source, AudioInput):
            return _chunks(
                noise.normal(0, 0.05, spec.source.chunk_samples * 256).astype(np.float32), spec.source, "noise"
            )
    if any(isinstance(spec.source, ImageInput) for spec in contract.inputs):
        width, height = SYNTHETIC_WH
        return cycle([Picture(pixels=noise.integers(0, 255, (height, width, 3), dtype=np.uint8))])
    taken = [spec for spec in contract.inputs if isinstance(spec.source, TensorInput)]
    return cycle([Tensors(arrays={spec.name: noise.random(spec.shape).astype(spec.dtype) for spec in taken})])


def _samples_of(contract: Contract, file: str) -> Iterator[Sample]:
    from edgesdk.sources.reading import read_picture, read_wav

    for spec in contract.inputs:
        if isinstance(spec.source, AudioInput):
            pcm = read_wav(Path(file), sample_rate_hz=spec.source.sample_rate_hz).pcm
            return _chunks(pcm, spec.source, file)
    if any(isinstance(spec.source, ImageInput) for spec in contract.inputs):
        return cycle([read_picture(Path(file))])
    with np.load(file) as arrays:
        return cycle([Tensors(arrays=dict(arrays))])


def _chunks(pcm: Any, audio: AudioInput, where: str) -> Iterator[Sample]:
    size = audio.chunk_samples
    starts = range(0, len(pcm) - size + 1, size)
    if not starts:
        raise TaskError(f"{where}: {len(pcm)} samples of sound, one inference takes {size}. Use a longer file.")
    return cycle(
        [Audio(pcm=pcm[at : at + size], sample_rate_hz=audio.sample_rate_hz, first_sample=at) for at in starts]
    )


def _feed(model: Model, sample: Sample) -> list[Any]:
    part = model.parts[0]
    feeds = part.task.feeds(sample)
    if not feeds:
        raise TaskError(
            f"task {part.manifest.contract.task!r} makes no inference of this input. Name another one: --input FILE"
        )
    return feeds[0]


def _package(backend: str) -> str:
    """Python package of the runtime behind one of our own backends; empty for others, which have no bare peer here."""
    if backend == "tflite":
        from edgesdk.backends.tflite import runtime_package

        return runtime_package()
    return backend if backend == "onnxruntime" else ""


def _by_name(file: ModelFile, feed: list[Any]) -> dict[str, Any]:
    if len(file.inputs) != len(feed):
        raise BackendError(
            f"{file.name}: the manifest names {len(file.inputs)} inputs, the task fills {len(feed)}. Convert it again."
        )
    return dict(zip(file.inputs, feed, strict=True))


def _cold_start(facts: dict[str, Any]) -> dict[str, Any]:
    """From the start of a fresh process to its first result."""
    best: dict[str, Any] = {}
    for _ in range(COLD_STARTS):
        start = time.monotonic_ns()
        told = json.loads(_fresh(_FIRST_RESULT, json.dumps(facts)))
        times = {f"{name}_ms": round((told[name] - start) / 1e6, 1) for name in ("imported", "loaded", "done")}
        if not best or times["done_ms"] < best["done_ms"]:
            best = {**times, "rss_bytes": told.get("rss"), "peak_bytes": told.get("peak")}
    return best


def _bare_cold_start(package: str, file: ModelFile, feed: list[Any]) -> dict[str, Any]:
    source = Path(bare_peer.__file__).read_text()
    best: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgesdk-") as folder:
        model, arrays = Path(folder) / "model", Path(folder) / "feed.npz"
        model.write_bytes(file.content)
        np.savez(arrays, **_by_name(file, feed))
        for _ in range(COLD_STARTS):
            start = time.monotonic_ns()
            done, resident = _fresh(source, package, str(model), str(arrays)).split()
            took = round((int(done) - start) / 1e6, 1)
            if not best or took < best["done_ms"]:
                best = {"done_ms": took, "rss_bytes": int(resident) * 1024}
    return best


def _fresh(code: str, *arguments: str) -> str:
    """Standard output of a fresh Python that runs ``code``."""
    done = subprocess.run(  # noqa: S603  our own interpreter with our own text
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackendError(f"the fresh process of the cold start failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip().splitlines()[-1]
