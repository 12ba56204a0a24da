"""The preview: a page on the loopback address with each stream's picture, what was found drawn in, and its results.

It hears the app's events and looks into nothing else. A picture is drawn and encoded only while somebody watches.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from edgesdk.app.events import Event, ResultEvent, SourceEnded, SourceLost, SourceRecovered
from edgesdk.errors import EdgeSdkError, TaskError
from edgesdk.extras import import_extra
from edgesdk.samples import Picture
from edgesdk.tasks.words import in_words

if TYPE_CHECKING:
    from typing_extensions import Self  # typing.Self needs Python 3.11; the board has 3.10

    from edgesdk.app.stats import AppStats

HOST = "127.0.0.1"
LONGEST_RATE_HZ = 15.0
"""Pictures per second and viewer: more costs a small board more than inference does."""
HISTORY = 120
"""Points of the curve of a stream of sound."""
_WRITE_TIMEOUT_S = 5.0
_BOUNDARY = "edgesdk-frame"


@dataclass(slots=True)
class _View:
    """What is known of one stream."""

    picture: Picture | None = None
    results: dict[str, ResultEvent] = field(default_factory=dict)
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))
    version: int = 0
    drawn_version: int = -1
    drawn: bytes = b""


class Preview:
    """Serves the page.

    Args:
        title: Name of the app.
        port: 0 takes a free one.

    Raises:
        EdgeSdkError: The port is taken.
    """

    def __init__(self, title: str, port: int = 0) -> None:
        self.title = title
        self.stats: Callable[[], AppStats] | None = None
        """Set by whoever runs the app; the page shows its counts."""
        self._views: dict[str, _View] = {}
        self._notes: dict[str, str] = {}
        self._changed = threading.Condition()
        self._draw_lock = threading.Lock()
        self._closed = False
        try:
            self._server = _Server((HOST, port), self)
        except OSError as error:
            raise EdgeSdkError(
                f"preview: port {port} of {HOST} cannot be used: {error.strerror}. Leave the port out to get a free one."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="preview", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def on_event(self, event: Event) -> None:
        """Take an event of the app."""
        with self._changed:
            if isinstance(event, ResultEvent):
                self._on_result(event)
            elif isinstance(event, SourceLost):
                self._notes[event.source] = event.reason
            elif isinstance(event, SourceRecovered):
                self._notes.pop(event.source, None)
            elif isinstance(event, SourceEnded):
                self._notes[event.source] = f"ended after {event.delivered} samples"
            self._changed.notify_all()

    def _on_result(self, event: ResultEvent) -> None:
        view = self._views.setdefault(event.stream, _View())
        view.version += 1
        view.results[event.model] = event
        if isinstance(event.sample, Picture):
            view.picture = event.sample
        fraction = getattr(event.result, "speech_fraction", None)
        if isinstance(fraction, float):
            view.history.append(round(fraction, 3))

    def close(self) -> None:
        """Stop serving; idempotent. No thread is left."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what the handler asks for -----------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything on the page but the pictures, as plain data."""
        with self._changed:
            streams = {
                name: {
                    "picture": view.picture is not None,
                    "history": list(view.history),
                    "models": {model: _shown(event) for model, event in view.results.items()},
                }
                for name, view in self._views.items()
            }
            notes = dict(self._notes)
        counts = self.stats().to_json() if self.stats is not None else {}
        return {"title": self.title, "streams": streams, "notes": notes, "counts": counts}

    def jpeg(self, stream: str, after: int = -1, timeout_s: float = 1.0) -> tuple[int, bytes] | None:
        """The newest picture of a stream, drawn and encoded.

        Args:
            stream: Its name.
            after: Wait for a newer version than this.
            timeout_s: For that long.

        Returns:
            Version and JPEG; None where there is no (newer) picture.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version(stream) > after, timeout_s)
            view = self._views.get(stream)
            if self._closed or view is None or view.picture is None or view.version <= after:
                return None
            picture, version = view.picture, view.version
            results = [event.result for event in view.results.values() if event.sample is picture]
        with self._draw_lock:
            if view.drawn_version < version:
                view.drawn, view.drawn_version = encode(picture, results), version
            return view.drawn_version, view.drawn

    def _version(self, stream: str) -> int:
        view = self._views.get(stream)
        return -1 if view is None else view.version

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed


def encode(picture: Picture, results: list[Any]) -> bytes:
    """Draw results into a picture, and encode it as JPEG."""
    from edgesdk.tasks.vision.draw import annotate

    cv2 = import_extra("cv2", extra="vision", purpose="the preview")
    for result in results:
        try:
            picture = annotate(picture, result)
        except TaskError:
            continue  # a kind of result with nothing to draw: the page shows its words
    pixels = picture.pixels[:, :, ::-1] if picture.colour == "RGB" else picture.pixels
    done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise EdgeSdkError(f"preview: a picture of {picture.size_wh} cannot be encoded as JPEG.")
    return bytes(encoded)


def _shown(event: ResultEvent) -> dict[str, Any]:
    payload = {"kind": event.result.kind, **event.result.to_json()}
    return {"words": in_words(payload), "outcome": event.outcome, "latency_ms": event.latency_ms, "result": payload}


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() joins them: a stopped preview leaves no thread
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], preview: Preview) -> None:
        self.preview = preview
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a viewer who closes the page is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _WRITE_TIMEOUT_S

    def do_GET(self) -> None:  # http.server asks for this name
        """Answer one request."""
        host = self.headers.get("Host", "")
        if host.rsplit(":", 1)[0] not in (HOST, "localhost"):
            # A page elsewhere whose name was made to resolve to 127.0.0.1 (DNS rebinding) must not see the camera.
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return
        path = unquote(self.path.partition("?")[0])
        if path == "/":
            self._send("text/html; charset=utf-8", _page())
        elif path == "/state.json":
            self._send("application/json", json.dumps(self.server.preview.state(), allow_nan=False).encode())
        elif path.startswith("/streams/") and path.endswith(".mjpeg"):
            self._mjpeg(path.removeprefix("/streams/").removesuffix(".mjpeg"))
        elif path.startswith("/streams/") and path.endswith(".jpg"):
            found = self.server.preview.jpeg(path.removeprefix("/streams/").removesuffix(".jpg"))
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND, "no picture yet")
            else:
                self._send("image/jpeg", found[1])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self._headers()
        self.wfile.write(body)

    def _headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        )
        self.end_headers()

    def _mjpeg(self, stream: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self._headers()
        preview, version = self.server.preview, -1
        try:
            while not preview.closed:
                found = preview.jpeg(stream, version)
                if found is None:
                    if _hung_up(self.connection):
                        return
                    continue
                version, body = found
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write(head.encode() + body + b"\r\n")
                time.sleep(1 / LONGEST_RATE_HZ)
        except (OSError, ValueError):
            return  # the viewer has gone

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
        """Nothing: requests of the page are no news."""


def _hung_up(connection: socket.socket) -> bool:
    """Whether the other side has closed; a stream without news would never find out by writing."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _page() -> bytes:
    return Path(__file__).with_name("preview.html").read_bytes()
