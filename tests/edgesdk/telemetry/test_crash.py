"""A publisher that is killed in the middle of its work; what was accepted is there afterwards."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SCRIPT = """
import sys, threading
from pathlib import Path
from edgesdk.samples import Stamp
from edgesdk.telemetry import OutboxSettings, Telemetry, TelemetrySettings
settings = TelemetrySettings(outbox=OutboxSettings(path=sys.argv[1], commit_window_s=0.002))
telemetry = Telemetry(settings, device="d", app="a", capability={})
telemetry.start()
lock = threading.Lock()
def work(stream):
    n = 0
    while True:
        id_ = telemetry.publish(stream, {"n": n, "pad": "x" * (n % 3000)}, captured=Stamp.now(), durable=True)
        with lock:
            sys.stdout.write(f"{stream} {n} {id_}\\n")
            sys.stdout.flush()
        n += 1
for stream in ("a", "b"):
    threading.Thread(target=work, args=(stream,), daemon=True).start()
while True:
    telemetry.publish("noise", {"pad": "y" * 100}, captured=Stamp.now())
    threading.Event().wait(0.0005)
"""


@pytest.mark.parametrize("seed", range(4))
def test_kill__every_accepted_result_is_there_afterwards(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "q.outbox"
    chance = random.Random(seed)
    told: list[str] = []
    for _ in range(2):  # the second life continues the file of the first
        with subprocess.Popen([sys.executable, "-c", _SCRIPT, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told.append(process.stdout.readline())  # it runs
            time.sleep(chance.uniform(0.0, 0.4))
            process.send_signal(signal.SIGKILL)
            told += process.stdout.read().splitlines(keepends=True)
    accepted = {line.split()[2] for line in told if line.endswith("\n")}
    assert accepted
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT stream, sequence, id FROM rows ORDER BY row").fetchall()
    finally:
        connection.close()
    assert accepted <= {id_ for _, _, id_ in rows}
    for stream in ("a", "b", "noise"):
        sequences = [sequence for name, sequence, _ in rows if name == stream]
        assert sequences == list(range(1, len(sequences) + 1))
