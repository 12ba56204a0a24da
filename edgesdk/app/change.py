"""When does a result say something new? For ``publish: {when: change}``.

Scores, coordinates and times move with every sample and are no news. What counts, by the ``kind`` of the result:

========================  ==========================================================================
classification            the best label
detections                which labels, and how many of each
faces                     how many
text_direction            how many degrees
face_keypoints            whether there is a face
voice_activity            whether somebody speaks; a beginning or an end within the block always counts
raw                       every number
others                    all texts, truth values and class ids, whatever their order
========================  ==========================================================================
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any


def signature(payload: Mapping[str, Any]) -> str:
    """What a result says, as text: equal for two results between which nothing changed.

    Args:
        payload: A result's ``to_json()``.
    """
    says = _SAYS.get(str(payload.get("kind")))
    said = _words(payload) if says is None else says(payload)
    return json.dumps([payload.get("kind"), said], sort_keys=True)


class ChangeDetector:
    """Decides for one model of one stream. Not thread-safe.

    Args:
        every_s: Publish at least this often; None: only changes.
        clock: Monotonic seconds.
    """

    def __init__(self, every_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last: str | None = None
        self._published_s = -math.inf

    def wants(self, payload: Mapping[str, Any]) -> bool:
        """Whether this result is to be published; if so, it is what the next one is compared with."""
        said = signature(payload)
        now_s = self._clock()
        due = self._every_s is not None and now_s - self._published_s >= self._every_s
        # Speech that begins and ends within one block leaves `speaking` as it was.
        happened = payload.get("kind") == "voice_activity" and bool(payload.get("events"))
        if said == self._last and not due and not happened:
            return False
        self._last, self._published_s = said, now_s
        return True


def not_finite(value: Any) -> bool:
    """Whether plain data holds a NaN or an infinity anywhere, which JSON has no word for."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(not_finite, value.values()))
    if isinstance(value, list | tuple):
        return any(map(not_finite, value))
    return False


def _classification(payload: Mapping[str, Any]) -> Any:
    return [one.get("label") for one in payload.get("classes", [])[:1]]


def _detections(payload: Mapping[str, Any]) -> Any:
    return sorted(str(one.get("label")) for one in payload.get("objects", []))


def _faces(payload: Mapping[str, Any]) -> Any:
    return len(payload.get("faces", []))


def _face_keypoints(payload: Mapping[str, Any]) -> Any:
    return bool(payload.get("points"))


def _text_direction(payload: Mapping[str, Any]) -> Any:
    return payload.get("degrees")


def _voice_activity(payload: Mapping[str, Any]) -> Any:
    return payload.get("speaking")


def _raw(payload: Mapping[str, Any]) -> Any:
    return payload.get("outputs")


def _words(value: Any, key: str = "") -> Any:
    if isinstance(value, str | bool) or (key == "class_id" and isinstance(value, int)):
        return value
    if isinstance(value, Mapping):
        found = {name: _words(item, str(name)) for name, item in value.items() if name != "kind"}
        return {name: item for name, item in found.items() if item is not None}
    if isinstance(value, list | tuple):
        items = [_words(item, key) for item in value]
        return sorted((item for item in items if item is not None), key=lambda item: json.dumps(item, sort_keys=True))
    return None


_SAYS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "classification": _classification,
    "detections": _detections,
    "faces": _faces,
    "face_keypoints": _face_keypoints,
    "text_direction": _text_direction,
    "voice_activity": _voice_activity,
    "raw": _raw,
}
