"""Contract 4: what `app.yaml` says, as types."""

from __future__ import annotations

import os
import re
import socket
import warnings
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import msgspec

from edgesdk import registry
from edgesdk.errors import EdgeSdkWarning, PluginError
from edgesdk.schema import Seconds, json_schema
from edgesdk.sources import source_class
from edgesdk.telemetry.settings import TelemetrySettings

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
