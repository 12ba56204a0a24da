from __future__ import annotations

import dataclasses
import http.client
import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesdk.app.events import ResultEvent, SourceLost, SourceRecovered
from edgesdk.app.preview import Preview
from edgesdk.errors import EdgeSdkError
from edgesdk.samples import Audio, Picture
from edgesdk.tasks.results import Detections

cv2 = pytest.importorskip("cv2", reason="pip install 'edgesdk[vision]'")


def _event(stream: str = "door", *, colour: Any = "RGB", boxes: int = 1) -> ResultEvent:
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:, :, 0 if colour == "RGB" else 2] = 200
    found = Detections(
        xyxy=np.tile(np.array([[8, 8, 40, 40]], dtype=np.float32), (boxes, 1)),
        scores=np.full(boxes, 0.9, dtype=np.float32),
        class_ids=np.zeros(boxes, dtype=np.int64),
        labels=("cat",) * boxes,
        picture_size_wh=(64, 48),
    )
    latency_ms = {"queue": 0.1, "pre": 1.0, "inference": 2.0, "post": 0.5, "total": 3.6}
    picture = Picture(pixels=pixels, colour=colour)
    return ResultEvent(
        stream=stream, model="m", sample=picture, result=found, latency_ms=latency_ms, outcome="published", id="1"
    )


def _get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


@pytest.fixture
def preview() -> Any:
    before = set(threading.enumerate())
    with Preview("doorway") as made:
        yield made
    assert set(threading.enumerate()) <= before, "a closed preview leaves no thread"


def test_preview__page_and_state(preview: Preview) -> None:
    preview.on_event(_event(boxes=2))
    status, page = _get(preview.url)
    assert status == 200
    assert b"<!doctype html>" in page
    state = json.loads(_get(f"{preview.url}state.json")[1])
    assert state["title"] == "doorway"
    assert state["streams"]["door"]["picture"] is True
    assert state["streams"]["door"]["models"]["m"]["words"] == "2 cat"


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
def test_preview__picture_has_its_colours_and_the_boxes(preview: Preview, colour: str) -> None:
    preview.on_event(_event(colour=colour))
    status, body = _get(f"{preview.url}streams/door.jpg")
    assert status == 200
    picture = cv2.imdecode(np.frombuffer(body, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    assert picture[46, 60, 2] > 150  # red stays red
    assert picture[46, 60, 0] < 60
    plain = picture[45:, 45:].reshape(-1, 3).mean(axis=0)
    assert np.abs(picture[8:41, 8].astype(float) - plain).max() > 60, "no box is drawn"


def test_preview__mjpeg__delivers_each_new_picture(preview: Preview) -> None:
    preview.on_event(_event())
    port = int(preview.url.rsplit(":", 1)[1].rstrip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/streams/door.mjpeg")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
    for _ in range(2):
        assert answer.fp.readline() == b"--edgesdk-frame\r\n"
        assert answer.fp.readline() == b"Content-Type: image/jpeg\r\n"
        size = int(answer.fp.readline().split(b":")[1])
        assert answer.fp.readline() == b"\r\n"
        assert answer.fp.read(size).startswith(b"\xff\xd8")
        assert answer.fp.readline() == b"\r\n"
        preview.on_event(_event())
    answer.close()
    connection.close()


def test_preview__other_host_name__is_refused(preview: Preview) -> None:
    assert _get(preview.url, Host="evil.example")[0] == 403


def test_preview__unknown_path__is_404(preview: Preview) -> None:
    assert _get(f"{preview.url}../../etc/passwd")[0] == 404
    assert _get(f"{preview.url}streams/nothing.jpg")[0] == 404


def test_preview__lost_source__is_noted_until_it_is_back(preview: Preview) -> None:
    preview.on_event(SourceLost(source="camera", reason="unplugged", retry_in_s=1.0, attempts=1))
    assert preview.state()["notes"] == {"camera": "unplugged"}
    preview.on_event(SourceRecovered(source="camera", after_s=1.0, attempts=1))
    assert preview.state()["notes"] == {}


def test_preview__port_taken__says_what_to_do(preview: Preview) -> None:
    port = int(preview.url.rsplit(":", 1)[1].rstrip("/"))
    with pytest.raises(EdgeSdkError, match=rf"port {port} of 127\.0\.0\.1 cannot be used.*Leave the port out"):
        Preview("other", port)


def test_preview__of_a_running_app__shows_its_counts(story: Any) -> None:
    with Preview("doorway") as preview:
        app = story.app(
            "sources: {s: {kind: fake, samples: 5}}\nstreams: {door: {source: s, run: [m]}}", on_event=preview.on_event
        )
        preview.stats = app.stats
        assert app.run() == 0
        state = json.loads(_get(f"{preview.url}state.json")[1])
        status, _ = _get(f"{preview.url}streams/door.jpg")
    assert status == 200, "a result of a kind that nobody draws shows the picture as it is"
    assert state["counts"]["outbox"]["accepted"] == 5
    assert state["notes"] == {"s": "ended after 5 samples"}


@pytest.mark.chromium
@pytest.mark.parametrize("picture", [True, False])
def test_page__in_a_browser__shows_results_and_losses(preview: Preview, tmp_path: Path, picture: bool) -> None:
    event = _event(boxes=2)
    if not picture:
        event = dataclasses.replace(event, sample=Audio(pcm=np.zeros(4, dtype=np.float32), sample_rate_hz=16000))
    preview.on_event(event)
    preview.on_event(SourceLost(source="camera", reason="<b>unplugged</b>", retry_in_s=1.0, attempts=1))
    browser = shutil.which("chromium")
    assert browser is not None
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path}",
        "--virtual-time-budget=3000",
    ]
    page = subprocess.run(
        [browser, *arguments, "--dump-dom", preview.url], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "2 cat" in page
    assert "camera: &lt;b&gt;unplugged&lt;/b&gt;" in page
    assert ("/streams/door.mjpeg" in page) is picture
