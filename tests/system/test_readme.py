"""The README says what is true: its commands run, its example runs, its tables are what the commands print."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgesdk.registry import COMMANDS, plugins

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
EDGESDK = str(Path(sys.executable).parent / "edgesdk")


def console(word: str) -> str:
    (text,) = [str(text) for kind, text in BLOCKS if kind == "console" and word in text]
    return text


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command, comments=True)
    done = subprocess.run([EDGESDK, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, square_detector: Path, square_pictures: Path) -> Path:
    """A folder as the README's reader has it: an export, pictures, and what the commands before have made."""
    pytest.importorskip("edgesdk_converters", reason="pip install -e ./converters")
    folder = tmp_path_factory.mktemp("desk")
    shutil.copyfile(square_detector, folder / "yolo11n.onnx")
    shutil.copytree(square_pictures, folder / "pictures")
    shutil.copyfile(square_pictures / "0001.jpg", folder / "street.jpg")
    for line in console("edgesdk convert yolo11n.onnx").splitlines():
        if line.startswith("edgesdk ") and " run " not in line:
            run(line, folder)
    return folder


def test_readme__commands_of_your_model_leave_what_they_say(desk: Path) -> None:
    for name in ("detector.edge", "seen.jpg", "app.yaml"):
        assert (desk / name).stat().st_size > 100, name


def test_readme__run_with_preview_works_without_a_camera_and_says_so(desk: Path) -> None:
    (line,) = [line for line in console("edgesdk run").splitlines() if line.startswith("edgesdk run")]
    done = run(f"{line} --preview-port 0 --duration 3s", desk)
    if not list(Path("/dev").glob("video*")):
        assert "/dev/video0" in done.stderr


def test_readme__python_example_prints_what_it_sees(desk: Path) -> None:
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=desk, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^(red|green|blue) 0\.\d\d \[", done.stdout, re.MULTILINE), done.stdout


def test_readme__board_table_is_what_the_command_prints() -> None:
    printed = subprocess.run([EDGESDK, "profile", "list"], capture_output=True, text=True, check=True).stdout
    assert [line.rstrip() for line in printed.splitlines() if line.rstrip() not in README] == []


def test_readme__every_command_it_names_exists() -> None:
    named = set(re.findall(r"\bedgesdk ([a-z]+)\b", " ".join(re.findall(r"`(edgesdk [^`]+)`", README))))
    assert named <= set(plugins(COMMANDS)) | {"convert", "models"}


def test_readme__every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


def test_readme__make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets


def test_readme__measurements_name_commands_that_exist() -> None:
    for path in re.findall(r"\bpython (tests/\S+\.py)", README):
        assert (CHECKOUT / path).is_file(), path
