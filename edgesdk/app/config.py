"""Contract 4: what `app.yaml` says, as types, and the checks that need several of its parts at once."""

from __future__ import annotations

import difflib
import os
import re
import socket
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import msgspec

from edgesdk import registry
from edgesdk.errors import ConfigError, EdgeSdkWarning, PluginError
from edgesdk.schema import Document, Seconds, json_schema, parse_document, read_document
from edgesdk.sources import source_class
from edgesdk.telemetry.settings import TelemetrySettings
from edgesdk.telemetry.settings import check as check_telemetry

SCHEMA = "edgesdk.app/1"
SCHEMA_FILE = "app.schema.json"
"""Name of the exported JSON Schema: in docs/, and beside every app.yaml that `edgesdk init` writes."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Names end up in MQTT topics, which have 256 bytes in all."""

Policy = Literal["latest", "block", "drop_oldest"]
"""latest: one place, the newest sample wins (live video); block: the source waits, nothing is lost (files);
drop_oldest: ``queue`` places, the oldest goes (live sound)."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model. One that several streams run is loaded once per stream, since each stream has its own state."""

    bundle: Path | None = None
    """The bundle (.edge, or unpacked folder); relative to the app.yaml's folder."""
    bundles: tuple[Path, ...] = ()
    """Several bundles that make one result together (a cascade), instead of ``bundle``."""
    backend: str = "auto"
    """An inference runtime by name; auto walks the device profile's order."""
    variant: str = "auto"
    """A variant of the bundle by id; auto takes the one that is fastest on this board."""
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    """Threads of the inference; 0 follows from the board and the model's size."""

    def __post_init__(self) -> None:
        if (self.bundle is None) == (not self.bundles):
            raise ValueError("needs either `bundle: FILE` or, for a cascade, `bundles: [FILE, FILE]`")

    @property
    def files(self) -> tuple[Path, ...]:
        """The bundle, or the bundles of the cascade."""
        return self.bundles if self.bundle is None else (self.bundle,)


class PublishConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which results are published."""

    when: Literal["always", "change"] = "always"
    """change: only a result that says something else than the one before (see ``edgesdk/app/change.py``)."""
    every_s: Seconds | None = msgspec.field(name="every", default=None)
    """With ``when: change``: publish at least this often, changed or not."""
    durable: bool = False
    """Wait for the disk with every result; the window of loss at a power cut is then zero, and the stream slower."""


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source, the models that run on it, and what happens to their results."""

    source: str
    """A name below ``sources``. One source may feed several streams; it is opened once."""
    run: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names below ``models``; each runs on every sample, in this order."""
    policy: Policy | None = None
    """What happens when the models are slower than the source. Default: latest for cameras, drop_oldest for
    microphones, block for files. Where two streams share a source, one that blocks holds up the other."""
    queue: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    """Places of the queue with block (8) and drop_oldest (50); latest has one."""
    deadline_s: Seconds | None = msgspec.field(name="deadline", default=None)
    """From capture to result; a later result is counted as a miss, and published. Sound is captured at the first
    sample of its block, so that a deadline shorter than the block is always missed."""
    publish: PublishConfig = PublishConfig()


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health reports."""

    every_s: Seconds = msgspec.field(name="every", default=30.0)
    """Time between two reports."""


class AppConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`app.yaml`: sources -> models -> telemetry."""

    schema: Literal["edgesdk.app/1"]
    name: str
    """Name of the app in topics: letters, digits, - and _."""
    device: str | None = None
    """Name of this board in topics. Default: the variable EDGESDK_DEVICE, else the host name."""
    models: dict[str, ModelConfig]
    """Models by name."""
    sources: dict[str, Any]
    """Sources by name; ``kind`` says which, its other keys are that kind's options."""
    streams: dict[str, StreamConfig]
    """Streams by name; each has its own results topic."""
    telemetry: TelemetrySettings = TelemetrySettings()
    health: HealthConfig = HealthConfig()


@cache
def config_type() -> type[AppConfig]:
    """:class:`AppConfig` with the options of every registered source below ``sources``, told apart by ``kind``."""
    kinds: list[type[msgspec.Struct]] = []
    for kind in sorted(registry.plugins(registry.SOURCES)):
        try:
            options = source_class(kind).Options
        except PluginError as error:
            warnings.warn(f"{error} Apps cannot use this source.", EdgeSdkWarning, stacklevel=2)
            continue
        name = "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", kind)) + "Source"
        kinds.append(
            msgspec.defstruct(
                name,
                [],
                bases=(options,),
                namespace={"__doc__": options.__doc__},
                tag_field="kind",
                tag=kind,
                frozen=True,
                kw_only=True,
                forbid_unknown_fields=True,
            )
        )
    union: Any = Union[tuple(kinds)]  # noqa: UP007 - the members are known only here
    made: Any = msgspec.defstruct(
        "App",
        [("sources", dict[str, union])],
        bases=(AppConfig,),
        namespace={"__doc__": AppConfig.__doc__},
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    found: type[AppConfig] = made
    return found


def load_config(path: Path, *, check_files: bool = True) -> AppConfig:
    """Read and check an app.yaml; every relative path in it is taken from its own folder.

    Args:
        path: The file.
        check_files: Also look whether the bundles are there.

    Raises:
        ConfigError: All problems at once, ``file:line: what, expected, fix``.
    """
    document = read_document(path, config_type())
    return _checked(document, base=path.absolute().parent, check_files=check_files)


def parse_config(text: str, *, base: Path, file: str = "<string>", check_files: bool = False) -> AppConfig:
    """Like :func:`load_config`, from a text."""
    return _checked(parse_document(text, config_type(), file=file), base=base, check_files=check_files)


def source_kind(options: Any) -> str:
    """The kind of an entry below ``sources``."""
    return str(options.__struct_config__.tag)


def app_json_schema() -> dict[str, Any]:
    """JSON Schema of app.yaml, with the options of every registered source; `docs/app.schema.json` is its export."""
    return json_schema(config_type(), schema_id=SCHEMA_FILE, title="edgesdk app.yaml")


def device_id(configured: str | None) -> str:
    """Name of this board: as configured, else EDGESDK_DEVICE, else the host name; other characters become ``-``."""
    name = configured or os.environ.get("EDGESDK_DEVICE") or socket.gethostname()
    return sanitised(name) or "device"


def sanitised(name: str) -> str:
    """``name`` with only letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64]


def _checked(document: Document[AppConfig], *, base: Path, check_files: bool) -> AppConfig:
    config = document.value
    _check_names(document)
    _check_streams(document)
    _check_models(document, base=base, check_files=check_files)
    resolved: AppConfig = _resolve(config, base)
    if check_files:
        _check_telemetry(document, resolved.telemetry)
    document.check()
    return resolved


def _check_names(document: Document[AppConfig]) -> None:
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


def _check_streams(document: Document[AppConfig]) -> None:
    config = document.value
    for name, stream in config.streams.items():
        where = ("streams", name)
        if stream.source not in config.sources:
            document.add((*where, "source"), _unknown("source", stream.source, config.sources))
        for index, model in enumerate(stream.run):
            if model not in config.models:
                document.add((*where, "run", index), _unknown("model", model, config.models))
            elif model in stream.run[:index]:
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


def _check_models(document: Document[AppConfig], *, base: Path, check_files: bool) -> None:
    backends = ["auto", *registry.plugins(registry.BACKENDS)]
    for name, model in document.value.models.items():
        if model.backend not in backends:
            document.add(("models", name, "backend"), _unknown("backend", model.backend, backends))
        for index, file in enumerate(model.files):
            path = base / file.expanduser()
            if check_files and not path.exists():
                keys = ("models", name, "bundle") if model.bundle else ("models", name, "bundles", index)
                document.add(keys, f"there is no bundle {path}. Check the path, or make one with `edgesdk convert`.")


def _check_telemetry(document: Document[AppConfig], telemetry: TelemetrySettings) -> None:
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


def _resolve(value: Any, base: Path, key: str = "") -> Any:
    """``value`` with every relative path in it made absolute: Path values, and texts called ``path`` or ``..._file``."""
    if isinstance(value, Path):
        return base / value.expanduser()
    if isinstance(value, str) and (key == "path" or key.endswith("_file")):
        return str(base / Path(value).expanduser())
    if isinstance(value, tuple):
        return tuple(_resolve(item, base) for item in value)
    if isinstance(value, dict):
        return {name: _resolve(item, base) for name, item in value.items()}
    if isinstance(value, msgspec.Struct):
        changed = {field: _resolve(getattr(value, field), base, field) for field in value.__struct_fields__}
        return msgspec.structs.replace(value, **changed)
    return value


__all__ = [
    "AppConfig",
    "ConfigError",
    "HealthConfig",
    "ModelConfig",
    "Policy",
    "PublishConfig",
    "StreamConfig",
    "app_json_schema",
    "config_type",
    "device_id",
    "load_config",
    "parse_config",
    "sanitised",
    "source_kind",
]
