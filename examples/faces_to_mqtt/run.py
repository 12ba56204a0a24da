"""Faces in photographs, as they arrive at a subscriber of an MQTT broker. Model and pictures come from the zoo."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import edgesdk
from edgesdk.telemetry.broker import EmbeddedBroker
from edgesdk.telemetry.collector import Collector, Received
from edgesdk_converters.pipeline import convert  # noqa: TID251 - this half runs on the developer's machine
from edgesdk_converters.zoo import fetch, media  # noqa: TID251 - as above
from edgesdk_converters.zoo.catalog import spec_path  # noqa: TID251 - as above
from edgesdk_converters.zoo.samples import calibration_folder  # noqa: TID251 - as above

HERE = Path(__file__).parent
BUILD = HERE / "build"
NAME = "blazeface-short"


def show(message: Received) -> None:
    payload = message.json()
    faces = payload["result"]["faces"]
    print(f"{message.topic} #{payload['sequence']}: {len(faces)} faces", *(face["xyxy"] for face in faces))


bundle = BUILD / f"{NAME}.edge"
if not bundle.exists():
    print("the first time: fetching and converting, about a minute")
    calibration = calibration_folder(NAME, BUILD / "calibration")
    convert(fetch(NAME), device="raspberry-pi-4", calibration=calibration, spec=spec_path(NAME), output=bundle)
(BUILD / "photographs").mkdir(exist_ok=True)
for name in ("astronaut", "coffee"):
    shutil.copy(media(name), BUILD / "photographs")

# On a board the broker is somebody else's, and the app is started by: edgesdk run app.yaml
with EmbeddedBroker() as broker, Collector(broker.url, "edgesdk/gate-7/faces/+/results", on_message=show) as seen:
    config = BUILD / "app.yaml"
    config.write_text((HERE / "app.yaml").read_text("utf-8").replace("mqtt://127.0.0.1:1883", broker.url), "utf-8")
    app = edgesdk.App.from_yaml(config)
    code = app.run()
    published = app.stats().published
    seen.wait_for(lambda collector: len(collector.ids) >= published, timeout_s=10)
print(f"published {published}, received {len(seen.ids)}")
sys.exit(1 if code or len(seen.ids) < published else 0)
