"""Every topic of contract 3, and the rules that ids, topics and topic filters keep."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgesdk.errors import TelemetryError

ROOT = "edgesdk"
MAX_BYTES = 256
"""Longest topic in bytes; AWS IoT Core refuses longer ones."""
MAX_SLASHES = 7
"""Most level separators in a topic; AWS IoT Core refuses more."""

_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it may be one level of a topic: letters, digits, ``_`` and ``-``.

    Raises:
        TelemetryError: It is empty or holds another character; the text offers a corrected one.
    """
    if _ID.match(value):
        return value
    fixed = re.sub(r"[^A-Za-z0-9_-]+", "-", value).strip("-") or "device"
    raise TelemetryError(
        f"{what}: got {value!r}, expected letters, digits, '_' and '-' only, because it becomes a level of an MQTT "
        f"topic. Use {fixed!r}."
    )


def check_topic(topic: str) -> str:
    """Return ``topic`` if one may publish to it.

    Raises:
        TelemetryError: It is empty, has a wildcard, a NUL, a leading ``/``, more than 7 slashes or 256 bytes.
    """
    _check_common(topic, "topic")
    if "+" in topic or "#" in topic:
        raise TelemetryError(
            f"topic {topic!r}: '+' and '#' are wildcards and only allowed when subscribing. Name one topic."
        )
    return topic


def check_filter(topic_filter: str) -> str:
    """Return ``topic_filter`` if one may subscribe to it.

    Raises:
        TelemetryError: A wildcard does not fill its whole level, ``#`` is not last, or the limits are exceeded.
    """
    _check_common(topic_filter, "topic filter")
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if ("+" in level or "#" in level) and len(level) > 1:
            raise TelemetryError(
                f"topic filter {topic_filter!r}: level {level!r} mixes a wildcard with other characters. "
                "A wildcard fills a whole level: 'a/+/b' or 'a/#'."
            )
        if level == "#" and index != len(levels) - 1:
            raise TelemetryError(f"topic filter {topic_filter!r}: '#' is only allowed as the last level.")
    return topic_filter


def _check_common(text: str, what: str) -> None:
    size = len(text.encode())
    if not text or "\0" in text:
        raise TelemetryError(f"{what} {text!r}: expected at least one character and no NUL.")
    if text.startswith("/"):
        raise TelemetryError(f"{what} {text!r}: starts with '/', which makes an empty first level. Leave it out.")
    if size > MAX_BYTES:
        raise TelemetryError(f"{what} {text[:60]!r}...: {size} bytes, at most {MAX_BYTES}. Shorten the names.")
    if text.count("/") > MAX_SLASHES:
        raise TelemetryError(f"{what} {text!r}: {text.count('/')} slashes, at most {MAX_SLASHES}. Use fewer levels.")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one app on one device.

    Raises:
        TelemetryError: An id does not fit, or the topics would be too long.
    """

    device: str
    app: str

    def __post_init__(self) -> None:
        check_id(self.device, "device")
        check_id(self.app, "app")
        check_topic(self.status)

    @property
    def base(self) -> str:
        """What all topics of this app start with."""
        return f"{ROOT}/{self.device}/{self.app}"

    @property
    def status(self) -> str:
        """Birth and will; the only retained topic."""
        return f"{self.base}/status"

    @property
    def health(self) -> str:
        """Temperature, memory, queues: the newest report, never stored."""
        return f"{self.base}/health"

    @property
    def commands(self) -> str:
        """Topic filter of every command."""
        return f"{self.base}/command/+"

    def results(self, stream: str) -> str:
        """Results and gap records of one stream."""
        return check_topic(f"{self.base}/{check_id(stream, 'stream')}/results")

    def command(self, name: str) -> str:
        """Where a consumer sends the command ``name``."""
        return f"{self.base}/command/{check_id(name, 'command')}"

    def response(self, name: str) -> str:
        """Where the answer to the command ``name`` goes."""
        return f"{self.base}/response/{check_id(name, 'command')}"
