"""The kept models are what the script writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_models__are_what_make_models_writes() -> None:
    for module in ("onnx", "ai_edge_litert", "flatbuffers"):
        pytest.importorskip(module, reason="pip install -e ./converters", exc_type=ImportError)
    spec = importlib.util.spec_from_file_location("make_models", HERE / "make_models.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["make_models"] = script
    try:
        spec.loader.exec_module(script)
        made = script.models()
    finally:
        del sys.modules["make_models"]
    kept = {file.name: file.read_bytes() for file in (HERE / "models").iterdir()}
    assert kept == made, "run: python tests/contract/make_models.py"
