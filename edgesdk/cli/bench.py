"""`edgesdk bench BUNDLE`: percentiles, memory, cold start, and the ratio to the bare runtime."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgesdk.cli.arguments import whole
from edgesdk.cli.main import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle (.edge file or unpacked folder)")
    parser.add_argument("--input", metavar="FILE", help="picture, wav or npz to predict; default: a synthetic one")
    parser.add_argument("--peer", choices=["raw", "none"], default="raw", help="compare with the bare runtime (raw)")
    parser.add_argument(
        "--runs", type=whole(1), default=0, metavar="N", help="default: what fits into 10 s, at most 500"
    )
    parser.add_argument("--backend", default="auto", metavar="NAME")
    parser.add_argument("--variant", default="auto", metavar="ID")
    parser.add_argument(
        "--threads", type=whole(1, 256), default=1, metavar="N", help="default 1: only that compares well"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _run(options: argparse.Namespace) -> int:
    from edgesdk.cli.bench_measure import bench

    report = bench(
        options.bundle,
        input_file=options.input,
        peer=options.peer == "raw",
        runs=options.runs,
        backend=options.backend,
        variant=options.variant,
        threads=options.threads,
    )
    print(json.dumps(report, indent=2) if options.json else _table(report))
    return 0


def _table(report: dict[str, Any]) -> str:
    wall, cpu, split = report["wall_us"], report["cpu_us"], report["split_ms"]
    lines = [
        f"{report['bundle']}: variant {report['variant']} on {report['backend']}",
        f"host: {report['host']}",
        f"input: {report['input']}; {report['runs']} runs, pinned to one core",
        "",
        f"predict, wall     p50 {wall['p50'] / 1e3:9.3f} ms   p95 {wall['p95'] / 1e3:9.3f} ms   p99 {wall['p99'] / 1e3:9.3f} ms",
        f"  of it           before {split['pre_ms']:.3f} ms, inference {split['inference_ms']:.3f} ms, after {split['post_ms']:.3f} ms",
    ]
    for name, words in (("predict", "predict, CPU"), ("session", "our session, CPU"), ("bare", "bare runtime, CPU")):
        if name in cpu:
            against = f"   {report['ratio'][name]:.3f} x bare" if name in report["ratio"] else ""
            lines.append(f"{words:18}p50 {cpu[name] / 1e3:9.3f} ms{against}")
    for name, start in report["cold_start"].items():
        memory = f", {start['rss_bytes'] / 2**20:.0f} MiB resident" if start.get("rss_bytes") else ""
        words = f"first result, {name}"
        lines.append(f"{words:22}{start['done_ms']:9.1f} ms after the start of a fresh process{memory}")
    return "\n".join(lines)


COMMAND = Command(
    help="measure a bundle here: percentiles, memory, cold start, ratio to the bare runtime",
    configure=_configure,
    run=_run,
)
