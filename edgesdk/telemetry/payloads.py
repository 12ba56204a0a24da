"""Payloads of contract 3 as types. The JSON Schemas in docs/telemetry are exported from here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

MAX_PAYLOAD_BYTES = 128_000
"""Largest payload: 128 KB, what AWS IoT Core takes."""

RESULT: Final = "edgesdk.result/1"
GAP: Final = "edgesdk.gap/1"
STATUS: Final = "edgesdk.status/1"
HEALTH: Final = "edgesdk.health/1"
REPLAY: Final = "edgesdk.replay/1"
RESPONSE: Final = "edgesdk.response/1"

Rule = Literal["drop_oldest", "drop_newest"]
Count = Annotated[int, msgspec.Meta(ge=0)]
Sequence = Annotated[int, msgspec.Meta(ge=1)]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", description="UTC, RFC 3339")]
Synced = Annotated[
    bool | None,
    msgspec.Meta(description="Whether the clock was set from a time source; null when the board cannot tell"),
]


class ResultHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox adds to a result when it accepts it."""

    schema: Literal["edgesdk.result/1"] = RESULT
    device: str
    app: str
    stream: str
    time: Time
    clock_synced: Synced
    id: Annotated[str, msgspec.Meta(description="UUIDv7; equal in every copy of this result")]
    epoch: Annotated[str, msgspec.Meta(description="Changes when the outbox had to be started anew")]
    sequence: Annotated[int, msgspec.Meta(ge=1, description="Counts the records of this stream in this epoch from 1")]
    boot_id: str
    monotonic_ns: Annotated[int, msgspec.Meta(ge=0, description="Monotonic clock at the capture, ns since boot")]


class ResultBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller publishes."""

    result: dict[str, Any]
    model: dict[str, Any] | None = None
    latency: dict[str, float] | None = None


class Result(ResultHeader, frozen=True, kw_only=True, omit_defaults=True):
    """One result, on ``{root}/{device}/{app}/{stream}/results``; QoS 1, never retained."""

    schema: Literal["edgesdk.result/1"]
    result: dict[str, Any]
    model: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Model name, version and bundle that made the result")
    ] = None
    latency: Annotated[dict[str, float] | None, msgspec.Meta(description="Latency split in milliseconds")] = None
    backfill: Annotated[bool, msgspec.Meta(description="True when it comes from the backlog or a replay")] = False


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many results of a stream were dropped and by which rule; on the stream's results topic."""

    schema: Literal["edgesdk.gap/1"]
    device: str
    app: str
    stream: str
    time: Time
    clock_synced: Synced
    id: str
    epoch: str
    sequence: Sequence
    boot_id: str
    rule: Rule
    dropped: Annotated[int, msgspec.Meta(ge=1, description="How many results are gone")]
    first_sequence: Annotated[
        Sequence | None, msgspec.Meta(description="First dropped; null when they were dropped before they got one")
    ]
    last_sequence: Sequence | None
    backfill: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Birth (``online``) and will (``offline``), on ``{root}/{device}/{app}/status``; QoS 1, retained."""

    schema: Literal["edgesdk.status/1"]
    device: str
    app: str
    stream: None
    time: Annotated[Time, msgspec.Meta(description="UTC, RFC 3339; in the will: when the connection was made")]
    clock_synced: Synced
    state: Literal["online", "offline"]
    boot_id: str
    epoch: str
    outbox: Annotated[
        str | None, msgspec.Meta(description="Why this epoch began, when an earlier outbox had to be set aside")
    ]
    capability: dict[str, Any]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The newest health report, on ``{root}/{device}/{app}/health``; QoS 1, never retained, never stored."""

    schema: Literal["edgesdk.health/1"]
    device: str
    app: str
    stream: None
    time: Time
    clock_synced: Synced
    boot_id: str
    health: dict[str, Any]


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for delivered records again, on ``{root}/{device}/{app}/command/replay``."""

    stream: str
    from_: Annotated[int, msgspec.Meta(ge=1, description="First sequence wanted")] = msgspec.field(name="from")
    to: Annotated[int, msgspec.Meta(ge=1, description="Last sequence wanted, inclusive")]
    epoch: Annotated[str | None, msgspec.Meta(description="Of the wanted records; default the present one")] = None
    correlation: Annotated[
        Annotated[str, msgspec.Meta(max_length=128)] | None,
        msgspec.Meta(description="Comes back in the answer; over MQTT 5 the correlation data does as well"),
    ] = None
    schema: Literal["edgesdk.replay/1"] = REPLAY


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a command, on ``{root}/{device}/{app}/response/{name}``; after the last record of a replay."""

    schema: Literal["edgesdk.response/1"]
    device: str
    app: str
    stream: str | None
    time: Time
    clock_synced: Synced
    command: str
    ok: bool
    error: Annotated[str | None, msgspec.Meta(description="What was wrong with the command, and the fix")]
    correlation: str | None
    epoch: str
    sent: Annotated[Count, msgspec.Meta(description="Records sent again")]
    pending: Annotated[Count, msgspec.Meta(description="Records of the range that are still on their first way")]
    missing: Annotated[Count, msgspec.Meta(description="Sequences of the range that the outbox has no longer")]
    missing_ranges: Annotated[
        list[tuple[int, int]], msgspec.Meta(description="The missing ones, inclusive; at most 100 ranges")
    ]


PAYLOADS: dict[str, type[msgspec.Struct]] = {
    "result": Result,
    "gap": Gap,
    "status": Status,
    "health": Health,
    "replay-request": ReplayRequest,
    "response": Response,
}
"""Every payload by the name of its schema file."""
