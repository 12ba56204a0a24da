"""Checks the object that `edgesdk demo --json` printed: `python check_demo.py FILE`. Exit 1 with every miss."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def misses(report: dict[str, Any]) -> list[str]:
    """What the demo promises and did not deliver, in words."""
    models = report["models"]
    found: list[str] = []

    def want(ok: bool, words: str) -> None:
        if not ok:
            found.append(words)

    want(len(models) >= 4, f"{len(models)} models, expected at least 4")
    wheels = {model["wheel"].split()[0] for model in models}
    want(len(wheels) >= 3, f"models of {sorted(wheels)}, expected three wheels")
    formats = {name for model in models for name in model["formats"]}
    want(formats >= {"onnx", "tflite"}, f"formats {sorted(formats)}, expected onnx and tflite")
    tasks = {model["task"] for model in models}
    want("voice-activity" in tasks, f"tasks {sorted(tasks)}, expected speech")
    want(
        bool(tasks & {"face-detection", "face-keypoints", "text-detection"}), f"tasks {sorted(tasks)}, expected vision"
    )
    shares = {
        (variant, model["name"]): size / model["size_bytes"]["before"]
        for model in models
        for variant, size in model["variants"].items()
        if variant.endswith("-int8") and size
    }
    onnx = {name: share for (variant, name), share in shares.items() if variant == "onnx-int8"}
    tflite = {name: share for (variant, name), share in shares.items() if variant == "tflite-int8"}
    want(min(onnx.values(), default=9) <= 0.35, f"int8 ONNX at {onnx} of its size, expected one at most 0.35")
    want(min(tflite.values(), default=9) <= 0.40, f"int8 TFLite at {tflite} of its source, expected one at most 0.40")
    want(any(model["refused"] for model in models), "the guard refused nothing, expected a refusal to be shown")
    want(
        report["published"] == report["received"] > 0,
        f"published {report['published']}, received {report['received']}, expected them equal",
    )
    return found


if __name__ == "__main__":
    problems = misses(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print("\n".join(problems) or "the demo delivers what it promises")
    sys.exit(bool(problems))
