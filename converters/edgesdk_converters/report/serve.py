"""Shows a report on this machine, with each model file one click away from Netron, the graph viewer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from edgesdk.errors import MissingExtraError

HOST = "127.0.0.1"
PIP_LINE = "pip install netron"


def load_netron() -> Any:
    """The viewer's Python package.

    Raises:
        MissingExtraError: It is not installed; the text has the pip line.
    """
    try:
        return importlib.import_module("netron")
    except ImportError as error:
        raise MissingExtraError(f"opening models in Netron needs netron ({error}). Install it: {PIP_LINE}") from error


class NetronViewer:
    """Starts Netron for a file when it is first asked for; each file has a server of its own on a free port of this machine."""

    def __init__(self, models: Mapping[str, tuple[str, bytes]]) -> None:
        """Get ready.

        Args:
            models: Variant id -> file name and content.

        Raises:
            MissingExtraError: Netron is not installed.
        """
        self._netron = load_netron()
        self._models = dict(models)
        self._lock = Lock()
        self._addresses: dict[str, tuple[str, int]] = {}

    @property
    def variants(self) -> tuple[str, ...]:
        """What can be opened."""
        return tuple(self._models)

    def open(self, variant: str) -> str:
        """The address at which Netron shows a variant."""
        with self._lock:
            if variant not in self._addresses:
                name, content = self._models[variant]
                # A bytearray: Netron tries to interpret bytes by itself.
                self._addresses[variant] = self._netron.serve(name, bytearray(content), address=(HOST, 0))
            host, port = self._addresses[variant]
        return f"http://{host}:{port}"

    def close(self) -> None:
        """Stop what was started; idempotent."""
        with self._lock:
            for address in self._addresses.values():
                self._netron.stop(address)
            self._addresses.clear()


class ReportServer:
    """Serves one page, and redirects its links to the viewer. Only this machine reaches it."""

    def __init__(self, document: str, viewer: NetronViewer | None, *, port: int = 0) -> None:
        """Listen.

        Args:
            document: The page.
            viewer: What its links open; None without links.
            port: 0 takes a free one.

        Raises:
            OSError: The port is taken.
        """

        class Handler(_Handler):
            body = document.encode("utf-8")
            netron = viewer

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self._viewer = viewer

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def run(self) -> None:
        """Serve until somebody calls :meth:`close` or presses Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop serving, and the viewers; call it from another thread than :meth:`run`'s, or after it."""
        self._server.shutdown()
        self.release()

    def release(self) -> None:
        """Free the port and stop the viewers."""
        self._server.server_close()
        if self._viewer is not None:
            self._viewer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def links(viewer: NetronViewer) -> dict[str, str]:
    """Variant id -> address within the server."""
    return {variant: f"/netron/{quote(variant, safe='')}" for variant in viewer.variants}


class _Handler(BaseHTTPRequestHandler):
    body: bytes
    netron: NetronViewer | None
    server_version = "edgesdk"
    sys_version = ""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            # A page of a stranger may have pointed a name of its own at this machine (DNS rebinding).
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
        elif self.path == "/":
            self._answer(self.body)
        elif self.path.startswith("/netron/") and self.netron is not None:
            variant = unquote(self.path.removeprefix("/netron/"))
            if variant not in self.netron.variants:
                self.send_error(HTTPStatus.NOT_FOUND, "no such variant")
                return
            try:
                address = self.netron.open(variant)
            except Exception as error:  # noqa: BLE001 - somebody else's server; the page should say why
                self.send_error(HTTPStatus.BAD_GATEWAY, "Netron does not start", str(error))
                return
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", address)
            self.end_headers()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _answer(self, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Nothing: stderr is for problems."""
