"""Zoo models as ONNX files, also where their wheel carries weights alone: the graph is then built here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from edgesdk.backends.cache import cache_dir
from edgesdk.errors import ZooError
from edgesdk_converters.zoo.catalog import catalog
from edgesdk_converters.zoo.fetch import Report, fetch
from edgesdk_converters.zoo.graphs import efficientnet_lite0, minilm
from edgesdk_converters.zoo.weights import read_safetensors, read_state_dict

BUILDERS: dict[str, Callable[[bytes], onnx.ModelProto]] = {
    "efficientnet-lite0": lambda content: efficientnet_lite0(read_state_dict(content)),
    "minilm": lambda content: minilm(read_safetensors(content)),
}
EDITION = 2
"""Of the graphs; a new one makes new files."""


def onnx_file(name: str, *, report: Report = lambda _: None) -> Path:
    """The zoo model ``name`` as an ONNX file in the cache.

    Raises:
        ZooError: Unknown name, no download, or a model that comes as TFLite alone.
    """
    entry = catalog().model(name)
    if entry.suffix == ".onnx":
        return fetch(name, report=report)
    if name not in BUILDERS:
        raise ZooError(f"the zoo holds {name!r} as {entry.suffix} alone. As ONNX there are: {', '.join(_as_onnx())}.")
    path = cache_dir() / "zoo" / "built" / f"{name}-{entry.sha256[:12]}-{EDITION}.onnx"
    weights = fetch(name, report=report)
    if not path.is_file():
        report(f"building the ONNX graph of {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = BUILDERS[name](weights.read_bytes()).SerializeToString(deterministic=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    return path


def _as_onnx() -> list[str]:
    return [name for name, entry in catalog().models.items() if entry.suffix == ".onnx" or name in BUILDERS]
