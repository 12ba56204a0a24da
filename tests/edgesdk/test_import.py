"""The board's packages stay light: what nobody asked for is not imported. Each case is a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
HEAVY = ("onnxruntime", "cv2", "ai_edge_litert", "tflite_runtime", "paho", "sqlite3", "sounddevice", "iotcore")
DEVELOPER = ("onnx", "torch", "tensorflow", "edgesdk_converters", "onnxslim", "litert_quantizer")


def imported_by(code: str) -> set[str]:
    """Top-level modules that are loaded after ``code``."""
    program = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import edgesdk",
        "import edgesdk.cli.main",
        "import edgesdk.model, edgesdk.bundle, edgesdk.backends, edgesdk.tasks, edgesdk.profiles",
        "import edgesdk; edgesdk.load",
        "from edgesdk import registry; [registry.load_plugin(registry.BACKENDS, n)() for n in registry.plugins(registry.BACKENDS)]",
    ],
)
def test_import__pulls_in_nothing_heavy(code: str) -> None:
    assert not imported_by(code) & {*HEAVY, *DEVELOPER}


def test_import__edgesdk_alone_needs_not_even_numpy() -> None:
    assert not imported_by("import edgesdk, edgesdk.cli.main") & {"numpy", "msgspec", "yaml"}


@pytest.mark.parametrize("command", ["inspect", "verify", "predict", "doctor"])
def test_command__module_is_light(command: str) -> None:
    loaded = imported_by(f"import edgesdk.cli.{command}")
    assert not loaded & {*HEAVY, *DEVELOPER, "numpy", "yaml"}


def board_modules() -> list[Path]:
    return sorted((CHECKOUT / "edgesdk").rglob("*.py"))


def test_board_code__never_imports_the_developer_side() -> None:
    guilty = []
    for path in board_modules():
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            guilty += [f"{path}: {name}" for name in names if name.partition(".")[0] in DEVELOPER]
    assert not guilty


def test_board_code__every_module_imports_without_the_extras() -> None:
    # A finder that refuses the extras stands for a board on which they are not installed.
    names = [
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__") for path in board_modules()
    ]
    refused = {*HEAVY, *DEVELOPER} - {"sqlite3", "paho"}
    code = f"""
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
for name in {names!r}:
    importlib.import_module(name)
"""
    assert "edgesdk" in imported_by(code)
