"""Contract 1: what a device profile says. Data only; ``load.py`` reads it, ``facts.py`` demands a source for each number.

The names in YAML carry no unit, their values do (``size: 4GiB``); the attributes here carry it (``size_bytes``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from edgesdk.schema import ByteCount, BytesPerSecond, Celsius, Hertz, Tops, Watts

SCHEMA = "edgesdk.profile/1"
"""Name and major version of this schema."""

OLDEST_PYTHON = (3, 10)
"""Oldest Python that edgesdk runs on."""

Precision = Literal["fp32", "fp16", "bf16", "int16", "int8", "int4"]
Architecture = Literal["aarch64", "x86_64", "armv7l"]
Feature = Literal[
    "neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2",
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8",
]  # fmt: skip
Id = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)*$")]
Count = Annotated[int, msgspec.Meta(ge=1)]


class _Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the profile that may hold numbers."""

    source: str | dict[str, str] | None = None
    """Where the numbers of this group come from: an id of `sources`, or a mapping of this group's keys to ids."""


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a number comes from."""

    title: str
    """Document, table or measurement, so that a reader finds it again when the address has moved."""
    status: Literal["published", "measured", "derived", "unverified"]
    """published: we have read it there; measured: on such a board, by us; derived: computed from other numbers here
    or from an instruction set; unverified: general knowledge or second hand, to be measured."""
    url: str | None = None
    """Address."""
    note: str | None = None
    """How it was derived, or what to be careful with."""


class Recognise(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `edgesdk profile detect` knows the board."""

    compatible: tuple[str, ...] = ()
    """Entries of /proc/device-tree/compatible, any of them."""
    models: tuple[str, ...] = ()
    """Beginnings of /proc/device-tree/model, any of them."""
    pci: tuple[str, ...] = ()
    """PCI `vendor:device` numbers in hex; all of them have to be there."""


class Soc(_Group, frozen=True, kw_only=True):
    """System on chip."""

    name: str
    """As its vendor writes it."""
    vendor: str | None = None
    """Company."""


class Cluster(_Group, frozen=True, kw_only=True):
    """Equal cores."""

    core: str
    """Core design, for example Cortex-A72."""
    count: Count
    """Cores of this kind."""
    clock_hz: Hertz | None = msgspec.field(name="clock", default=None)
    """Highest sustained clock with cooling, at stock settings."""
    features: tuple[Feature, ...] = ()
    """Instruction set extensions that matter to kernels, as /proc/cpuinfo implies them."""
    fp32_macs_per_cycle: Count | None = None
    """Peak fp32 multiply-accumulates per cycle and core."""
    int8_macs_per_cycle: Count | None = None
    """Peak int8 multiply-accumulates per cycle and core."""
    l2_bytes: ByteCount | None = msgspec.field(name="l2", default=None)
    """Level 2 cache; see the note for whether each core has it."""
    note: str | None = None
    """What else matters."""


class Cpu(_Group, frozen=True, kw_only=True):
    """Processor cores, the fastest cluster first."""

    architecture: Architecture
    """Instruction set of the system's programs (not only of the cores)."""
    clusters: tuple[Cluster, ...] = ()
    """Empty where the board is not known."""

    @property
    def cores(self) -> int:
        """All cores; 0 where the board is not known."""
        return sum(cluster.count for cluster in self.clusters)


class Memory(_Group, frozen=True, kw_only=True):
    """Main memory, shared with GPU and NPU where they have none of their own."""

    size_bytes: ByteCount | None = msgspec.field(name="size", default=None)
    """Installed; the system sees a little less."""
    kind: str | None = None
    """For example LPDDR4X."""
    copy_bandwidth_bytes_per_s: BytesPerSecond | None = msgspec.field(name="copy_bandwidth", default=None)
    """Sustained memcpy, bytes copied per second: what kernels reach."""
    peak_bandwidth_bytes_per_s: BytesPerSecond | None = msgspec.field(name="peak_bandwidth", default=None)
    """Of the interface, in theory."""
    note: str | None = None
    """What else matters."""


class Operator(_Group, frozen=True, kw_only=True):
    """An operator that an accelerator runs, with its limits."""

    name: str
    """In the words of the accelerator's model format: CONV_2D for TFLite, Conv for ONNX."""
    precisions: tuple[Precision, ...] = ()
    """Empty is all of the accelerator's."""
    constraints: tuple[str, ...] = ()
    """What has to hold, in words; where it does not, the operator runs on the CPU or is refused."""
    fix: str | None = None
    """What to change in a model that breaks a constraint."""


class Tool(_Group, frozen=True, kw_only=True):
    """A compiler or a runtime."""

    name: str
    """Its name."""
    version: Version | None = None
    """The version that the facts were taken from."""
    url: str | None = None
    """Where to get it."""
    note: str | None = None
    """Licence, where it runs, what it takes and gives."""


class Accelerator(_Group, frozen=True, kw_only=True):
    """An NPU, GPU, TPU or DSP."""

    id: Id
    """Name for `backends`."""
    name: str
    """As its vendor writes it."""
    kind: Literal["npu", "gpu", "tpu", "dsp"]
    """What it is."""
    precisions: tuple[Precision, ...]
    """What it computes in."""
    peak_tops: Tops | None = msgspec.field(name="peak", default=None)
    """Peak of the fastest precision, dense, two operations per multiply-accumulate."""
    sparse_peak_tops: Tops | None = msgspec.field(name="sparse_peak", default=None)
    """Peak with structured sparsity, where the vendor advertises that."""
    on_chip_memory_bytes: ByteCount | None = msgspec.field(name="on_chip_memory", default=None)
    """Models whose weights fit into it run much faster."""
    host_link: str | None = None
    """How data gets there: PCIe 2.0 x1, shared memory ..."""
    operator_rules: tuple[str, ...] = ()
    """Constraints of all operators."""
    operators: tuple[Operator, ...] = ()
    """Empty is not known; otherwise what is not listed does not run there."""
    toolchain: Tool | None = None
    """What compiles a model for it, on the developer's machine."""
    runtime: Tool | None = None
    """What runs it on the board."""
    note: str | None = None
    """What else matters."""


class Storage(_Group, frozen=True, kw_only=True):
    """Where the system and the outbox live."""

    kind: Literal["sd", "emmc", "nvme", "ufs", "usb", "ssd"]
    """What it is."""
    size_bytes: ByteCount | None = msgspec.field(name="size", default=None)
    """Where it is soldered on."""
    note: str | None = None
    """Wear, bandwidth, what to prefer."""


class Thermal(_Group, frozen=True, kw_only=True):
    """Temperature limits."""

    sensor: str | None = None
    """`type` of the zone under /sys/class/thermal that the limits are about."""
    soft_limit_c: Celsius | None = msgspec.field(name="soft_limit", default=None)
    """The board begins to throttle here."""
    hard_limit_c: Celsius | None = msgspec.field(name="hard_limit", default=None)
    """The board throttles as far as it can here, or switches off."""
    note: str | None = None
    """What happens, and which cooling helps."""

    def __post_init__(self) -> None:
        if self.soft_limit_c is not None and self.hard_limit_c is not None and self.soft_limit_c > self.hard_limit_c:
            raise ValueError(
                f"soft_limit {self.soft_limit_c:g}C is above hard_limit {self.hard_limit_c:g}C. Exchange them."
            )


class Power(_Group, frozen=True, kw_only=True):
    """Electric power of the whole board."""

    idle_w: Watts | None = msgspec.field(name="idle", default=None)
    """At rest, nothing attached."""
    load_w: Watts | None = msgspec.field(name="load", default=None)
    """All cores busy."""
    supply_w: Watts | None = msgspec.field(name="supply", default=None)
    """Recommended power supply."""
    meter: str | None = None
    """How the board measures its own power; where it cannot, say so."""
    note: str | None = None
    """Power modes, how it was measured."""


class Software(_Group, frozen=True, kw_only=True):
    """The system that the vendor ships."""

    os: str
    """Distribution and release."""
    python: Version | None = None
    """The system's Python; in quotes, because 3.10 is no number."""
    glibc: Version | None = None
    """Decides which wheels install."""
    wheel_tags: tuple[Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]+$")], ...] = ()
    """For `pip download --platform`, the best first."""
    advice: str | None = None
    """What to do first on this system; required where its Python is too old."""


class BackendPreference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One candidate of the selection."""

    name: str
    """Entry point of group edgesdk.backends; one that is not shipped yet says so in `note`."""
    formats: tuple[str, ...] = ()
    """Model formats, the best first; empty is all that the backend reads."""
    precisions: tuple[Precision, ...] = ()
    """Precisions that are fast here, the best first; empty is no preference."""
    accelerator: Id | None = None
    """Which of `accelerators` it uses; none is the CPU."""
    options: dict[str, Any] = {}
    """The backend's own options. Settings, not facts: they need no source."""
    note: str | None = None
    """Why it stands here, or what it needs."""


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a board can do, as data with sources."""

    schema: Literal["edgesdk.profile/1"]
    """Name and major version of this schema."""
    id: Id
    """Lower-case with dashes, the name of the file; never renamed."""
    name: str
    """For people."""
    vendor: str | None = None
    """Who makes the board."""
    extends: Id | None = None
    """Id of a profile whose parts are taken where this one says nothing. Mappings are merged, lists are replaced,
    `null` removes."""
    description: str | None = None
    """What it is good for, what to watch."""
    recognise: Recognise = Recognise()
    """How `edgesdk profile detect` knows the board. Not inherited."""
    soc: Soc | None = None
    """System on chip."""
    cpu: Cpu
    """Processor cores."""
    memory: Memory
    """Main memory."""
    accelerators: tuple[Accelerator, ...] = ()
    """NPU, GPU, TPU, DSP."""
    storage: tuple[Storage, ...] = ()
    """Where the system and the outbox live."""
    thermal: Thermal = Thermal()
    """Temperature limits."""
    power: Power = Power()
    """Electric power."""
    software: Software
    """The system that the vendor ships."""
    backends: Annotated[tuple[BackendPreference, ...], msgspec.Meta(min_length=1)]
    """Inference runtimes in order of preference."""
    sources: dict[Id, Source]
    """Where the numbers come from."""
