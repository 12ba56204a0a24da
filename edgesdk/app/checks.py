"""Checks of an app.yaml that need several of its parts at once; each problem goes to its place in the file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from edgesdk import registry
from edgesdk.app.config import NAME, AppConfig, sanitised
from edgesdk.errors import ConfigError
from edgesdk.schema import Document
from edgesdk.schema.tree import to_python
from edgesdk.telemetry.settings import TelemetrySettings
from edgesdk.telemetry.settings import check as check_telemetry

_PARTS = ("sources", "models", "streams")


def check_references(document: Document[None]) -> None:
    """Names in streams; on the plain tree, whose other parts may be wrong."""
    plain = to_python(document.root)
    parts = plain if isinstance(plain, dict) else {}
    sources, models, streams = ({} if not isinstance(parts.get(one), dict) else parts[one] for one in _PARTS)
    for name, stream in streams.items():
        if not isinstance(stream, dict):
            continue
        source, run = stream.get("source"), stream.get("run")
        if isinstance(source, str) and source not in sources:
            document.add(("streams", name, "source"), _unknown("source", source, sources))
        for index, model in enumerate(run if isinstance(run, list) else []):
            if isinstance(model, str) and model not in models:
                document.add(("streams", name, "run", index), _unknown("model", model, models))


def check_names(document: Document[AppConfig]) -> None:
    """Names that become topics, and parts that are empty."""
    config = document.value
    named: list[tuple[tuple[str, ...], str | None]] = [(("name",), config.name), (("device",), config.device)]
    for part in ("models", "sources", "streams"):
        named += [((part, name), name) for name in getattr(config, part)]
        if not getattr(config, part):
            document.add((part,), f"is empty. An app needs at least one entry below `{part}:`.")
    for keys, name in named:
        if name is not None and not NAME.fullmatch(name):
            fix = f" Write {sanitised(name)!r}." if sanitised(name) else ""
            document.add(keys, f"{name!r} is no name: expected 1 to 64 letters, digits, - and _ (topics use it).{fix}")


def check_streams(document: Document[AppConfig]) -> None:
    """Settings that contradict each other."""
    config = document.value
    for name, stream in config.streams.items():
        where = ("streams", name)
        for index, model in enumerate(stream.run):
            if model in stream.run[:index]:
                document.add((*where, "run", index), f"model {model!r} stands here twice. Delete one of them.")
        if stream.deadline_s is not None and stream.deadline_s <= 0:
            document.add((*where, "deadline"), "is not longer than 0s. Leave it out where no deadline matters.")
        if stream.policy == "latest" and stream.queue not in (None, 1):
            document.add((*where, "queue"), "policy latest has one place. Delete `queue`, or use policy: drop_oldest.")
        if stream.publish.every_s is not None and stream.publish.when == "always":
            document.add(
                (*where, "publish", "every"), "means something only with `when: change`. Add it, or delete this."
            )
    if config.health.every_s < 1:
        document.add(("health", "every"), f"is {config.health.every_s:g} s, expected at least 1s.")


def check_models(document: Document[AppConfig], *, base: Path, check_files: bool) -> None:
    """Backends that nobody registered, and bundles that are not there."""
    backends = ["auto", *registry.plugins(registry.BACKENDS)]
    for name, model in document.value.models.items():
        if model.backend not in backends:
            document.add(("models", name, "backend"), _unknown("backend", model.backend, backends))
        for index, file in enumerate(model.files):
            path = base / file.expanduser()
            if check_files and not path.exists():
                keys = ("models", name, "bundle") if model.bundle else ("models", name, "bundles", index)
                document.add(keys, f"there is no bundle {path}. Check the path, or make one with `edgesdk convert`.")


def check_settings(document: Document[AppConfig], telemetry: TelemetrySettings) -> None:
    """What telemetry itself says about its settings, with every path in them absolute."""
    try:
        check_telemetry(telemetry)
    except ConfigError as error:
        for problem in error.problems:  # "telemetry.mqtt.url: text"
            where, _, text = problem.partition(": ")
            document.add(where.split("."), text)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{what} {name!r} is unknown.{hint} Known: {', '.join(names) or 'none'}."
