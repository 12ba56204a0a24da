"""A result in a few words, for the demo's table."""

from __future__ import annotations

from typing import Any


def in_words(result: dict[str, Any]) -> str:
    """Say what a result (as in a payload) holds; unknown kinds by their name."""
    return _WORDS.get(str(result.get("kind")), _other)(result)


def _faces(result: dict[str, Any]) -> str:
    faces = result["faces"]
    if not faces:
        return "no face"
    return f"{len(faces)} face{'s' * (len(faces) > 1)}, best {faces[0]['score']:.2f}"


def _keypoints(result: dict[str, Any]) -> str:
    return f"{len(result['points'])} keypoints, score {result['score']:.2f}"


def _text(result: dict[str, Any]) -> str:
    texts = [line["text"] for line in result["lines"]]
    return " / ".join(texts)[:72] if texts else "no text"


def _speech(result: dict[str, Any]) -> str:
    state = "speaking" if result["speaking"] else "silence"
    return f"{state}, speech in {100 * result['speech_fraction']:.0f} % of the block"


def _raw(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value['shape']}" for name, value in result["outputs"].items())[:72]


def _other(result: dict[str, Any]) -> str:
    return str(result.get("kind", "?"))


_WORDS = {"faces": _faces, "face_keypoints": _keypoints, "text": _text, "voice_activity": _speech, "raw": _raw}
