"""Loads TFLite content on one thread, through the board's own backend."""

from __future__ import annotations

import hashlib

from edgesdk.backends.api import ModelFile, Session, SessionOptions


def open_tflite(content: bytes, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Session:
    """A session whose inputs and outputs are in the order given; empty means the file's own."""
    from edgesdk.backends import get_backend

    file = ModelFile(
        content=content,
        format="tflite",
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=inputs,
        outputs=outputs,
    )
    return get_backend("tflite").open(file, SessionOptions(threads=1))
