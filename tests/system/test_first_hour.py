"""Runs every command of docs/first-hour.md, with stand-ins for what is not here: three machines, ssh, sudo, systemctl.

A block's info string says where it is typed and how: ``sh board`` runs to its end, ``sh board running`` stays while the page
goes on, ``install`` blocks need a network and are only checked. ``yaml app.yaml PART`` replaces that part of the board's app.yaml.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "first-hour.md"
MACHINES = {"workstation": "pi@workstation", "board": "pi@gate-7", "broker": "pi@broker.example"}
FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
WAIT_S = 60.0

# Stand-ins of programs that would reach out of this machine, or into it.
STAND_INS = {
    "sudo": 'exec "$@"',
    "scp": """recursive=
[ "$1" = -r ] && { recursive=-r; shift; }
local_name() { case $1 in pi@*:*) h=${1%%:*}; f=${1#*:}; echo "$MACHINES/${h#pi@}/$f";; *) echo "$1";; esac; }
for last; do :; done
for name; do [ "$name" = "$last" ] && [ "$name" != . ] && break; [ "$name" = . ] || cp $recursive "$(local_name "$name")" "$(local_name "$last")"; done""",
    # Both machines share one loopback address here: there is nothing to forward.
    "ssh": 'case "$*" in "-N -L $PREVIEW:127.0.0.1:$PREVIEW pi@gate-7") exec sleep 3600;; *) echo "ssh $*" >&2; exit 1;; esac',
    "systemctl": """case "$*" in
"restart mosquitto"|"start mosquitto") mosquitto -c "$ETC/mosquitto/mosquitto.conf" >>"$ETC/log" 2>&1 & echo $! >"$ETC/pid";;
"stop mosquitto") kill "$(cat "$ETC/pid")"; while kill -0 "$(cat "$ETC/pid")" 2>/dev/null; do sleep 0.05; done;;
daemon-reload|"enable --now edgesdk") ;;
*) echo "systemctl $*" >&2; exit 1;;
esac""",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int


def read_blocks() -> list[Block]:
    page = PAGE.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(page):
        language, *words = match["info"].split()
        found.append(Block(language, tuple(words), match["body"], page.count("\n", 0, match.start()) + 1))
    return found


BLOCKS = read_blocks()


def shell_blocks(*words: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == "sh" and set(words) <= set(block.words)]


class Stage:
    """Three folders that stand for three machines, and the shells in them."""

    def __init__(self, root: Path) -> None:
        self.root, self.etc, self.stand_ins = root, root / "etc", root / "bin"
        self.running: list[tuple[Block, subprocess.Popen[bytes], Path]] = []
        self.mqtt_port, self.preview_port = free_port(), free_port()
        for folder in ("mosquitto/certs", "mosquitto/conf.d", "systemd/system"):
            (self.etc / folder).mkdir(parents=True)
        # As Debian's, but for the user: in CI it starts as root and could not read the test's folder as another one.
        (self.etc / "mosquitto/mosquitto.conf").write_text(
            f"user root\npersistence true\npersistence_location {self.etc}/mosquitto/\n"
            f"include_dir {self.etc}/mosquitto/conf.d\n"
        )
        self.stand_ins.mkdir()
        for name, script in STAND_INS.items():
            file = self.stand_ins / name
            file.write_text(f"#!/bin/bash\nset -e\n{script}\n")
            file.chmod(0o755)
        for machine in MACHINES:
            self.folder(machine).mkdir(parents=True)

    def folder(self, machine: str) -> Path:
        host = MACHINES[machine].partition("@")[2]
        return self.root / "machines" / self.here(host)

    def here(self, text: str) -> str:
        """The page's text with its addresses and system folders replaced by ours."""
        text = text.replace("broker.example", "localhost").replace("8883", str(self.mqtt_port))
        text = re.sub(r"(?<![0-9.])8000\b", str(self.preview_port), text)
        text = text.replace("/etc/mosquitto", f"{self.etc}/mosquitto").replace("/etc/systemd", f"{self.etc}/systemd")
        return text.replace("install -o mosquitto", "install").replace("sudo chown mosquitto", "true")

    def environment(self, machine: str) -> dict[str, str]:
        path = [str(self.stand_ins), str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
        home = self.folder(machine)
        return {
            **os.environ,
            "PATH": ":".join(path),
            "HOME": str(home),
            "EDGESDK_CACHE": str(home / "cache"),
            "EDGESDK_DEVICE": "gate-7",  # on the board this is the host name
            "XDG_STATE_HOME": str(home / "state"),
            "MACHINES": str(self.root / "machines"),
            "ETC": str(self.etc),
            "PREVIEW": str(self.preview_port),
        }

    def run(self, block: Block) -> str:
        """Type a block, all of it; what it prints."""
        machine, script = block.words[0], self.here(block.text)
        options: Any = {"cwd": self.folder(machine), "env": self.environment(machine), "stdin": subprocess.DEVNULL}
        if "running" in block.words:
            output = self.root / f"line-{block.line}.txt"
            with output.open("wb") as file:
                process = subprocess.Popen(
                    ["bash", "-ec", f"exec {script}"], stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
                )  # fmt: skip
            self.running.append((block, process, output))
            return ""
        # Into a file, not a pipe: the broker that systemctl starts inherits it and would hold a pipe open.
        output = self.root / f"line-{block.line}.txt"
        with output.open("wb") as file:
            done = subprocess.run(
                ["bash", "-ec", script], stdout=file, stderr=subprocess.STDOUT, timeout=240, check=False, **options
            )
        printed = output.read_text(encoding="utf-8")
        assert done.returncode == 0, f"{PAGE.name}:{block.line}: exit code {done.returncode}\n{script}\n{printed}"
        return printed

    def output(self, word: str) -> str:
        """What the running command that contains ``word`` has printed so far."""
        return next(output for block, _, output in self.running if word in block.text).read_text(encoding="utf-8")

    def process(self, word: str) -> subprocess.Popen[bytes]:
        return next(process for block, process, _ in self.running if word in block.text)

    def edit(self, block: Block) -> None:
        """Do to app.yaml what the page asks for."""
        file, (_, part) = self.folder("board") / "app.yaml", block.words
        text, new = file.read_text(encoding="utf-8"), self.here(block.text)
        if part == "mqtt":
            text, count = re.subn(r"^  # mqtt:.*\n", lambda _: new, text, flags=re.MULTILINE)
            assert count == 1, "the page speaks of the line that begins with `# mqtt:`"
            file.write_text(text, encoding="utf-8")
            return
        sources, rest = text.split("\nsources:\n"), "\ntelemetry:\n"
        camera = f"{sources[0]}\n{new}{rest}{sources[1].partition(rest)[2]}"
        (self.folder("board") / "camera.yaml").write_text(camera, encoding="utf-8")

    def close(self) -> None:
        for _, process, _ in reversed(self.running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(20)
        pid = self.etc / "pid"
        if pid.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid.read_text()), signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"within {WAIT_S:g} s: {what}"
        time.sleep(0.05)
    return value


def messages(transcript: str) -> list[tuple[str, dict[str, Any]]]:
    """The complete lines of `mosquitto_sub -v`: topic and payload."""
    found = []
    for line in transcript.splitlines():
        topic, _, payload = line.partition(" ")
        if topic.startswith("edgesdk/") and payload.startswith("{") and payload.endswith("}") and "..." not in payload:
            found.append((topic, json.loads(payload)))
    return found


def results(transcript: str) -> list[dict[str, Any]]:
    return [payload for topic, payload in messages(transcript) if topic.endswith("/results")]


def states(transcript: str) -> list[str]:
    return [payload["state"] for topic, payload in messages(transcript) if topic.endswith("/status")]


def check_shown(stage: Stage, block: Block, printed: str) -> None:
    """The output that the page shows below a block says in the same words what was printed now; figures may differ."""
    following = BLOCKS[min(BLOCKS.index(block) + 1, len(BLOCKS) - 1)]
    if following.language != "text" or following.words:
        return
    said = {" ".join(line.split()) for line in printed.splitlines()}
    for line in stage.here(following.text).splitlines():
        own = re.search(r"[0-9]|ball|box|cone|\.\.\.", line) and "WARNING" not in line
        assert own or " ".join(line.split()) in said, (
            f"{PAGE.name}:{following.line} shows what is not printed: {line}\n{printed}"
        )


def came_back(transcript: str) -> bool:
    """Whether a second birth, and a result from the backlog after it, have arrived."""
    births = [at.start() for at in re.finditer('"state":"online"', transcript)]
    return len(births) > 1 and any(one.get("backfill") for one in results(transcript[births[1] :]))


def check_schema(payload: dict[str, Any]) -> None:
    kind = payload.get("schema", "edgesdk.replay-request/1")  # commands are the only ones that need not say it
    name = kind.removeprefix("edgesdk.").partition("/")[0]
    schema = json.loads((CHECKOUT / "docs" / "telemetry" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(payload, schema)


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


def test_page__install_lines_name_what_there_is() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    facts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "".join(block.text for block in shell_blocks("install"))
    wheels = set(re.findall(r"edgesdk-[^-\s']*-py3-none-any\.whl", text))
    assert wheels == {f"edgesdk-{facts['version']}-py3-none-any.whl"}
    extras = {extra for group in re.findall(r"\[([a-z,-]+)\]", text) for extra in group.split(",")}
    assert extras
    assert extras <= set(facts["optional-dependencies"])
    for path in re.findall(r"-e (\./\w+)", text):
        assert (CHECKOUT / path / "pyproject.toml").is_file()


def test_page__transcripts_are_valid_payloads() -> None:
    shown = [found for block in BLOCKS if "transcript" in block.words for found in messages(block.text)]
    assert (PAGE.parent / "images" / "first-hour.jpg").stat().st_size < 300_000
    assert {payload.get("schema") for _, payload in shown} >= {"edgesdk.result/1", "edgesdk.response/1"}
    for topic, payload in shown:
        check_schema(payload)
        if "device" in payload:
            assert topic.startswith(f"edgesdk/{payload['device']}/{payload['app']}/")


def test_page__every_shell_block_names_a_machine() -> None:
    for block in BLOCKS:
        assert block.language in ("sh", "yaml", "text"), (
            f"{PAGE.name}:{block.line}: the test knows no {block.language!r}"
        )
        if block.language == "sh":
            assert block.words[0] in MACHINES
            assert set(block.words[1:]) <= {"install", "running"}, f"{PAGE.name}:{block.line}"


@pytest.mark.mosquitto
@pytest.mark.slow
@pytest.mark.skipif(
    any(shutil.which(program) is None for program in ("openssl", "mosquitto_sub", "mosquitto_passwd")),
    reason="needs the clients of mosquitto and openssl: apt-get install mosquitto mosquitto-clients openssl",
)
def test_page__every_command_works(stage: Stage, square_detector: Path, square_pictures: Path) -> None:
    workstation, board = stage.folder("workstation"), stage.folder("board")
    shutil.copy(square_detector, workstation)
    shutil.copytree(square_pictures, workstation / "pictures")
    shutil.copy(workstation / "pictures" / "0003.jpg", workstation / "0003.jpg")
    truth = json.loads((square_pictures.parent / f"{square_pictures.name}.json").read_text())

    printed: dict[int, str] = {}
    for block in BLOCKS:
        if block.language == "yaml":
            stage.edit(block)
        if block.language != "sh" or "install" in block.words:
            continue
        if "mosquitto_pub" in block.text or "stop mosquitto" in block.text:
            wait_for(lambda: len(results(stage.output("mosquitto_sub"))) >= 4, "results at the subscriber")
        printed[block.line] = stage.run(block)
        if "running" not in block.words and "stop mosquitto" not in block.text:
            check_shown(stage, block, printed[block.line])
        if "edgesdk convert" in block.text:
            assert "onnx-int8" in printed[block.line]
        if "--preview" in block.text:
            wait_for(lambda: "preview: http://127.0.0.1" in stage.output("--preview"), "the preview's address")
        if "stop mosquitto" in block.text:
            wait_for(lambda: came_back(stage.output("mosquitto_sub")), "the board to come back with its backlog")
            check_shown(stage, block, stage.output("edgesdk run"))

    assert (workstation / "seen.jpg").stat().st_size > 1000
    answered = wait_for(
        lambda: [m for m in messages(stage.output("mosquitto_sub")) if "/response/" in m[0]], "the answer"
    )
    assert answered[0][1]["ok"]
    assert answered[0][1]["sent"] == 3
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.preview_port}/state.json", timeout=10) as state:
        assert "view" in json.load(state)["streams"]

    app = stage.process("edgesdk run")
    app.send_signal(signal.SIGINT)
    assert app.wait(20) == 0, stage.output("edgesdk run")
    wait_for(lambda: states(stage.output("mosquitto_sub"))[-1] == "offline", "the goodbye")

    transcript = stage.output("mosquitto_sub")
    for _, payload in messages(transcript):
        check_schema(payload)
    seen = {one["sequence"]: one for one in results(transcript)}
    assert sorted(seen) == list(range(1, max(seen) + 1)), "nothing is lost, whatever the broker did"
    for sequence, one in seen.items():
        expected = truth[f"{sequence - 1:04d}.jpg"]
        objects = one["result"]["objects"]
        assert len(objects) == len(expected)
        for label, *box in expected:
            assert any(label == found["label"] and overlap(box, found["xyxy"]) > 0.8 for found in objects)

    camera = ["edgesdk", "run", "camera.yaml", "--check"]
    subprocess.run(camera, cwd=board, env=stage.environment("board"), check=True, timeout=60)
    check_service(stage)


def check_service(stage: Stage) -> None:
    service = configparser.ConfigParser()
    service.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep upper case
    service.read(stage.etc / "systemd/system/edgesdk.service")
    program, *arguments = service["Service"]["ExecStart"].split()
    assert program == "/home/pi/edge/bin/edgesdk"
    assert arguments[0] == "run"
    assert Path(arguments[1]).name == "app.yaml"
    assert "python3 -m venv edge\n" in shell_blocks("board", "install")[0].text
