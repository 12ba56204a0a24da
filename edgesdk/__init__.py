"""Runs converted models on edge boards, and gets every result to an IoT backend over MQTT.

``load`` opens a bundle for this board; ``App`` runs an `app.yaml`. Importing this package imports no inference
runtime, no OpenCV and no MQTT client: each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesdk.app import App
    from edgesdk.model import Model, load

__version__ = "0.1.0"
__all__ = ["App", "Model", "__version__", "load"]

_LAZY = {"App": "edgesdk.app", "Model": "edgesdk.model", "load": "edgesdk.model"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'edgesdk' has no attribute {name!r}")
