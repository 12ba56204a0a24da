"""The process of one cell: ``python -m edgesdk_converters.sweep.work``, told on stdin what to do."""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import EdgeSdkError
from edgesdk_converters.sweep.results import Outcome

_GRACE_S = 10.0
_PATHS = ("calibration", "evaluation", "spec", "state_dict")


def main() -> int:
    """Read the request, convert, leave the outcome in the folder."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_watch, daemon=True, name="watch").start()
    if request["cores"] and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # a core that is not ours (any more): then all of them
            os.sched_setaffinity(0, request["cores"])
    folder = Path(request["folder"])
    outcome = work(request["arguments"], folder, request["title"])
    unfinished = folder / "outcome.part"
    unfinished.write_bytes(msgspec.msgpack.encode(outcome))
    unfinished.replace(folder / "outcome.msgpack")
    return 0


def _watch() -> None:
    """End when whoever started us is gone: nobody waits for the result."""
    # os.read, not sys.stdin: a reader that holds the stream's lock at exit makes the interpreter abort.
    while os.read(0, 4096):
        pass
    _thread.interrupt_main()
    time.sleep(_GRACE_S)
    os._exit(1)


def work(arguments: dict[str, Any], folder: Path, title: str = "model") -> Outcome:
    """Convert; every error is an outcome. ``title`` is what the bundle will be called."""
    from edgesdk_converters.pipeline import convert
    from edgesdk_converters.report.page import page
    from edgesdk_converters.report.write import read_record

    begin = time.monotonic()
    given: dict[str, Any] = {name: Path(value) if name in _PATHS else value for name, value in arguments.items()}
    given.setdefault("calibration", None)
    try:
        conversion = convert(given.pop("source"), output=folder / "cell.edge", report=folder / "cell.json", **given)
        record = msgspec.structs.replace(read_record(folder / "cell.json"), bundle=f"{title}.edge")
        return Outcome(
            status="ok" if conversion.ok else "float-only",
            seconds=time.monotonic() - begin,
            record=record,
            bundle=conversion.bundle.read_bytes(),
            report=page(record).encode("utf-8"),
        )
    except EdgeSdkError as error:
        return Outcome(status="failed", error=str(error), seconds=time.monotonic() - begin)
    except Exception as error:  # noqa: BLE001 - one bad cell must not stop the rest, whatever its error
        import traceback

        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome(
            status="failed", error=f"{type(error).__name__} at {where}: {error}", seconds=time.monotonic() - begin
        )


if __name__ == "__main__":
    sys.exit(main())
