"""A result in a few words, for people who watch: the lines of `edgesdk run` and the preview."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any


def in_words(payload: Mapping[str, Any]) -> str:
    """What a result says, on one line.

    Args:
        payload: Its ``to_json()`` with ``kind``.
    """
    words = _WORDS.get(str(payload.get("kind")))
    if words is not None:
        return words(payload)
    text = json.dumps({name: value for name, value in payload.items() if name != "kind"}, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:159]}…"


def _count(number: int, one: str, several: str) -> str:
    return f"no {one}" if number == 0 else f"{number} {one if number == 1 else several}"


def _classification(payload: Mapping[str, Any]) -> str:
    classes = payload.get("classes") or []
    return f"{classes[0]['label']} {classes[0]['score']:.2f}" if classes else "no class"


def _detections(payload: Mapping[str, Any]) -> str:
    counts = Counter(str(one.get("label")) for one in payload.get("objects") or [])
    return ", ".join(f"{count} {label}" for label, count in counts.most_common()) or "nothing"


def _faces(payload: Mapping[str, Any]) -> str:
    return _count(len(payload.get("faces") or []), "face", "faces")


def _face_keypoints(payload: Mapping[str, Any]) -> str:
    points = len(payload.get("points") or [])
    return f"{points} keypoints" if points else "no face"


def _voice_activity(payload: Mapping[str, Any]) -> str:
    return "speech" if payload.get("speaking") else "silence"


def _text_regions(payload: Mapping[str, Any]) -> str:
    return _count(len(payload.get("regions") or []), "text region", "text regions")


def _text(payload: Mapping[str, Any]) -> str:
    lines = [str(line.get("text", "")) for line in payload.get("lines") or []]
    return " | ".join(line for line in lines if line) or "no text"


def _text_line(payload: Mapping[str, Any]) -> str:
    return str(payload.get("text", ""))


def _text_direction(payload: Mapping[str, Any]) -> str:
    return f"{payload.get('degrees')} degrees"


def _raw(payload: Mapping[str, Any]) -> str:
    outputs: Mapping[str, Any] = payload.get("outputs") or {}
    parts = []
    for name, output in outputs.items():
        best = f" argmax {output['argmax']}" if "argmax" in output else ""
        parts.append(f"{name} {'x'.join(map(str, output.get('shape', [])))}{best}")
    return ", ".join(parts) or "no outputs"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "classification": _classification,
    "detections": _detections,
    "faces": _faces,
    "face_keypoints": _face_keypoints,
    "voice_activity": _voice_activity,
    "text_regions": _text_regions,
    "text": _text,
    "text_line": _text_line,
    "text_direction": _text_direction,
    "raw": _raw,
}
