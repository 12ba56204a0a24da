"""Our conversion beside everybody else's: `make bench-convert`, or ``python tests/benchmarks/convert/run.py [--only ROW ...]``.

One run, one machine, one table. Every road starts from the same float ONNX and the same calibration samples, and is judged on
the same evaluation samples by the guard's own figures; times are CPU-time ratios, pinned and in turn. Peers run in
environments of their own under ``EDGESDK_BENCH_CACHE`` (default `build/bench-convert`), made on first use. What fails is a
figure like any other.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import warnings
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(CHECKOUT)]


def main() -> int:
    """Measure, print, write; 1 where a condition fails."""
    from edgesdk_converters.guard.latency import host
    from tests.benchmarks.convert import environments, memory
    from tests.benchmarks.convert.criteria import verdicts
    from tests.benchmarks.convert.rows import NAMES
    from tests.benchmarks.convert.table import markdown

    parser = argparse.ArgumentParser(description="Compare our conversion with everybody else's.")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="ROW", choices=[*NAMES, "memory"], help=", ".join(NAMES)
    )
    parser.add_argument("--roads", nargs="*", default=[], metavar="ROAD", help="only roads that begin like this")
    parser.add_argument(
        "--quick", action="store_true", help="every fifth evaluation sample; for trying, not for showing"
    )
    parser.add_argument("--resume", action="store_true", help="keep what results.json holds of other rows")
    parser.add_argument("--output", type=Path, help="folder for results.json and results.md; default: the cache")
    options = parser.parse_args()
    cache = environments.cache()
    output = options.output or cache
    output.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {"rows": {}}
    if options.resume and (output / "results.json").is_file():
        results = json.loads((output / "results.json").read_text("utf-8"))
    results |= {"host": host(), "date": dt.datetime.now(dt.UTC).date().isoformat(), "quick": options.quick}
    for name in NAMES:
        if not options.only or name in options.only:
            print(f"{name}:", file=sys.stderr, flush=True)
            results["rows"][name] = _measured(
                name, cache, options, results["rows"].get(name) if options.roads else None
            )
            (output / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if not options.only or "memory" in options.only:
        results["memory"] = memory.measure(cache)
    text = "\n".join(markdown(results)) + "\n"
    (output / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (output / "results.md").write_text(text, "utf-8")
    print(text)
    return 0 if all(one.passed is not False for one in verdicts(results)) else 1


def _measured(name: str, cache: Path, options: argparse.Namespace, before: dict[str, Any] | None) -> dict[str, Any]:
    """A row's figures; with --roads those of other roads stay as they were."""
    from tests.benchmarks.convert.roads import Roads
    from tests.benchmarks.convert.rows import Row

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    found: dict[str, Any]
    try:
        found = Roads(Row(name, cache, quick=options.quick), cache / "work" / name).walk(options.roads, say)
    except Exception as error:  # noqa: BLE001 - one row that cannot be measured must not hide the others
        say(f"  not measured: {type(error).__name__}: {error}")
        return {"failed": f"{type(error).__name__}: {error}"}
    if before and "roads" in before:
        fresh = {one["road"] for one in found["roads"]}
        found["roads"] = [*(one for one in before["roads"] if one["road"] not in fresh), *found["roads"]]
        found = {**before, **found, "lowering": {**before.get("lowering", {}), **found.get("lowering", {})}}
    return found


if __name__ == "__main__":
    raise SystemExit(main())
