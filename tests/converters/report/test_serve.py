from __future__ import annotations

import http.client
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import onnx
import pytest

from edgesdk.errors import MissingExtraError
from edgesdk_converters.report.serve import NetronViewer, ReportServer, links

HAS_NETRON = importlib.util.find_spec("netron") is not None


class Recorded:
    """A viewer that needs no Netron."""

    variants = ("onnx-int8", "a/b c")

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed = False

    def open(self, variant: str) -> str:
        self.opened.append(variant)
        return "http://127.0.0.1:1/"

    def close(self) -> None:
        self.closed = True


@contextmanager
def serving(document: str, viewer: Any) -> Iterator[ReportServer]:
    server = ReportServer(document, viewer)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def get(server: ReportServer, path: str, *, host: str | None = None) -> http.client.HTTPResponse:
    where = urlsplit(server.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request("GET", path, headers={"Host": host or where.netloc})
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]  # kept for the test, the connection closes
    connection.close()
    return response


def test_report_server__page_and_links() -> None:
    viewer = Recorded()
    with serving("<p>Größe</p>", viewer) as server:
        assert server.address.startswith("http://127.0.0.1:")
        page = get(server, "/")
        assert page.body.decode("utf-8") == "<p>Größe</p>"  # type: ignore[attr-defined]  # see get
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        for path in links(viewer).values():  # type: ignore[arg-type]  # has what is asked for
            answer = get(server, path)
            assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:1/")
        assert viewer.opened == ["onnx-int8", "a/b c"]
        assert get(server, "/netron/other").status == 404
        assert get(server, "/../etc/passwd").status == 404
        # What a page of a stranger could do that points its own name at 127.0.0.1.
        assert get(server, "/", host="evil.test:80").status == 403
    assert viewer.closed


def test_report_server__without_a_viewer_has_no_links() -> None:
    with serving("", None) as server:
        assert get(server, "/netron/onnx-int8").status == 404


def test_viewer__without_netron__names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netron", None)
    with pytest.raises(MissingExtraError, match="Install it: pip install netron"):
        NetronViewer({})


@pytest.mark.skipif(not HAS_NETRON, reason="needs Netron: pip install netron")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # Netron's own
def test_viewer__real_netron_shows_the_model(small: onnx.ModelProto) -> None:
    viewer = NetronViewer({"onnx-fp32": ("model.fp32.onnx", small.SerializeToString())})
    with serving("", viewer) as server:
        first = get(server, "/netron/onnx-fp32")
        again = get(server, "/netron/onnx-fp32")
        where = urlsplit(first.headers["Location"])
        assert first.headers["Location"] == again.headers["Location"]
        assert where.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
        connection.request("GET", "/")
        assert b"model.fp32.onnx" in connection.getresponse().read()
        connection.close()
