"""Commands that consumers send: at present ``replay``. A malformed one is answered, never ignored."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import msgspec

from edgesdk.telemetry.clock import ClockState, rfc3339
from edgesdk.telemetry.codecs.api import Message
from edgesdk.telemetry.lanes import Lanes, Replay
from edgesdk.telemetry.outbox import Outbox
from edgesdk.telemetry.payloads import RESPONSE, ReplayRequest, Response
from edgesdk.telemetry.topics import Topics
from edgesdk.telemetry.transport import Arrived

MAX_COMMAND_BYTES = 16 << 10
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_EXAMPLE = '{"stream": "door", "from": 17, "to": 20}'


class Commands:
    """Answers commands of one app.

    Args:
        topics: Where answers go.
        outbox: Whose epoch requests are checked against.
        answer: Sends a message; called on the session thread.
    """

    def __init__(self, topics: Topics, outbox: Outbox, answer: Callable[[Message], None]) -> None:
        self._topics = topics
        self._outbox = outbox
        self._answer = answer
        self._clock = ClockState()
        self._decoder = msgspec.json.Decoder(ReplayRequest)

    def handle(self, arrived: Arrived, lanes: Lanes) -> None:
        """Start what the command asks for, or answer why not."""
        name = arrived.topic.rpartition("/")[2]
        if not _NAME.match(name):
            return  # there is no topic that could carry an answer
        if arrived.retain:
            self._refuse(
                name, arrived, "a command must not be retained: it would run at every connect. Send it without."
            )
        elif name != "replay":
            self._refuse(name, arrived, f"command {name!r} is unknown. Known: replay.")
        elif len(arrived.payload) > MAX_COMMAND_BYTES:
            self._refuse(name, arrived, f"{len(arrived.payload)} bytes, at most {MAX_COMMAND_BYTES}.")
        else:
            self._replay(arrived, lanes)

    def _replay(self, arrived: Arrived, lanes: Lanes) -> None:
        try:
            request = self._decoder.decode(arrived.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._refuse("replay", arrived, f"not a replay request: {error}. Send for example {_EXAMPLE}.")
            return
        if request.to < request.from_:
            self._refuse(
                "replay", arrived, f"'to' ({request.to}) lies before 'from' ({request.from_}). Exchange them.", request
            )
            return
        replay = Replay(
            request.stream,
            request.from_,
            request.to,
            lambda replay: self._finished(arrived, request, replay),
        )
        if request.epoch is not None and request.epoch != self._outbox.epoch:
            # Records of an earlier epoch lie in a file that was set aside.
            replay.lost(request.from_, request.to)
            self._finished(arrived, request, replay)
        elif not lanes.replay(replay):
            self._refuse(
                "replay", arrived, "four replays are waiting already. Ask again when they are answered.", request
            )

    def _finished(self, arrived: Arrived, request: ReplayRequest, replay: Replay) -> None:
        self._send("replay", arrived, request, error=None, replay=replay)

    def _refuse(self, name: str, arrived: Arrived, error: str, request: ReplayRequest | None = None) -> None:
        self._send(name, arrived, request, error=error, replay=None)

    def _send(
        self, name: str, arrived: Arrived, request: ReplayRequest | None, *, error: str | None, replay: Replay | None
    ) -> None:
        response = Response(
            schema=RESPONSE,
            device=self._topics.device,
            app=self._topics.app,
            stream=request.stream if request else None,
            time=rfc3339(time.time_ns()),
            clock_synced=self._clock.synced(),
            command=name,
            ok=error is None,
            error=error,
            correlation=request.correlation if request else None,
            epoch=self._outbox.epoch,
            sent=replay.sent if replay else 0,
            pending=replay.pending if replay else 0,
            missing=replay.missing if replay else 0,
            missing_ranges=replay.ranges if replay else [],
        )
        self._answer(
            Message(
                topic=self._topics.response(name),
                payload=msgspec.json.encode(response),
                correlation=arrived.correlation,
            )
        )
