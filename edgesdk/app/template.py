"""A commented app.yaml to start from, for `edgesdk init`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgesdk import registry
from edgesdk.app.config import SCHEMA, SCHEMA_FILE, sanitised
from edgesdk.bundle import Bundle
from edgesdk.bundle.manifest import AudioInput, ImageInput, Manifest
from edgesdk.errors import ConfigError
from edgesdk.sources.images import SUFFIXES
from edgesdk.telemetry.settings import MqttSettings

Medium = Literal["picture", "audio", "arrays"]

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of the app: a bundle, or the bundles of a cascade."""

    name: str
    bundles: tuple[Path, ...]
    medium: Medium
    sample_rate_hz: int
    """Of a model that hears; else 0."""
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """One source of the app."""

    name: str
    medium: Medium
    yaml: str
    about: str


def render(
    bundles: Sequence[Path],
    sources: Sequence[str],
    *,
    folder: Path,
    name: str | None = None,
    broker: MqttSettings | None = None,
) -> str:
    """The text of an app.yaml.

    Args:
        bundles: At least one; bundles that make a cascade together become one model.
        sources: What the user named: a kind (``v4l2``, ``microphone``), a device (``/dev/video0``), or a file or folder.
            A medium without one gets the camera, or the microphone.
        folder: Where the file will lie; paths in it are relative to it.
        name: Of the app; default: the first bundle's.
        broker: Where results go, its files relative to the working directory; None leaves a commented line to fill in.

    Raises:
        BundleError: A bundle cannot be read.
        ConfigError: A source is of no known kind, or nothing hears or sees it.
    """
    manifests = [(path, _manifest(path)) for path in bundles]
    entries = _entries(manifests)
    media = list(dict.fromkeys(entry.medium for entry in entries))
    named = [source_line(text, folder, _rate(entries)) for text in sources]
    for line, text in zip(named, sources, strict=True):
        if line.medium not in media:
            raise ConfigError(
                [
                    f"--source {text}: delivers {line.medium}, which none of the bundles takes. Leave it out, or name another."
                ]
            )
    chosen = {medium: next((line for line in named if line.medium == medium), None) for medium in media}
    lines = {medium: line or _default(medium, _rate(entries)) for medium, line in chosen.items()}
    return _text(sanitised(name or manifests[0][1].name), entries, lines, folder, broker)


def source_line(text: str, folder: Path, rate_hz: int) -> SourceLine:
    """What ``text`` names, as a line below ``sources:``.

    Raises:
        ConfigError: Nothing that a source reads.
    """
    path = Path(text)
    if text in ("v4l2", "camera") or text.startswith("/dev/"):
        device = text if text.startswith("/dev/") else "/dev/video0"
        yaml = f"{{kind: v4l2, device: {json.dumps(device)}, size_wh: [640, 480], rate: 15Hz}}"
        return SourceLine(
            name="camera", medium="picture", yaml=yaml, about="`v4l2-ctl --list-devices` lists the cameras"
        )
    if text == "microphone":
        return _default("audio", rate_hz)
    if text == "fake":
        yaml = "{kind: fake, samples: 100, rate: 10Hz, pace: real-time}"
        return SourceLine(name="fake", medium="picture", yaml=yaml, about="made-up pictures, to try the rest")
    where = json.dumps(_relative(path, folder), ensure_ascii=False)
    suffix = path.suffix.lower()
    if suffix == ".wav":
        yaml = f"{{kind: wav, path: {where}, rate: {_hertz(rate_hz)}, block: 100ms, pace: real-time}}"
        return SourceLine(
            name="recording", medium="audio", yaml=yaml, about="pace: fast plays it as fast as it is heard"
        )
    if suffix in VIDEO_SUFFIXES:
        yaml = f"{{kind: video, path: {where}, pace: real-time}}"
        return SourceLine(name="video", medium="picture", yaml=yaml, about="loop: true plays it for ever")
    if (path / "recording.jsonl").is_file():
        yaml = f"{{kind: replay, path: {where}, pace: real-time}}"
        return SourceLine(name="replay", medium="picture", yaml=yaml, about="a recorded run")
    if path.is_dir() or suffix in SUFFIXES or "*" in text:
        yaml = f"{{kind: images, path: {where}, rate: 1Hz, pace: real-time}}"
        return SourceLine(name="photos", medium="picture", yaml=yaml, about="pace: fast shows them as fast as possible")
    raise ConfigError(
        [
            (
                f"--source {text}: is no source. Expected camera, microphone or fake, a device such as /dev/video0, "
                "a .wav file, a video file, a picture, or a folder of pictures."
            )
        ]
    )


def _default(medium: Medium, rate_hz: int) -> SourceLine:
    if medium == "audio":
        yaml = f"{{kind: microphone, rate: {_hertz(rate_hz)}, block: 100ms}}"
        return SourceLine(name="mic", medium="audio", yaml=yaml, about="`python -m sounddevice` lists the devices")
    if medium == "picture":
        return source_line("camera", Path(), rate_hz)
    yaml = "{kind: replay, path: recording, pace: real-time}"
    return SourceLine(
        name="arrays", medium="arrays", yaml=yaml, about="a folder that edgesdk.sources.recording.Recorder wrote"
    )


def _text(
    name: str,
    entries: list[Entry],
    sources: dict[Medium, SourceLine],
    folder: Path,
    broker: MqttSettings | None,
) -> str:
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# Run it:      edgesdk run app.yaml --preview",
        "# Check it:    edgesdk run app.yaml --check",
        "# Paths are relative to this file's folder. Values with a unit are written with it: 100ms, 15Hz, 256MiB.",
        f"schema: {SCHEMA}",
        f"# Results go to the topics edgesdk/DEVICE/{name}/STREAM/results.",
        f"name: {name}",
        "# DEVICE is the variable EDGESDK_DEVICE, else the host name, unless it is set here:",
        "# device: gate-7",
        "",
        "models:",
    ]
    for entry in entries:
        files = [json.dumps(_relative(path, folder), ensure_ascii=False) for path in entry.bundles]
        value = f"bundle: {files[0]}" if len(files) == 1 else f"bundles: [{', '.join(files)}]"
        lines += [f"  # {entry.about}", f"  {entry.name}: {{{value}}}"]
    lines += ["  # more keys: backend (auto, onnxruntime, tflite), variant, threads", "", "sources:"]
    for source in sources.values():
        lines += [f"  # {source.about}", f"  {source.name}: {source.yaml}"]
    lines += [
        "",
        "# A stream runs models on a source. `publish: {when: change, every: 10s}` publishes changes only, and one result",
        "# every 10 s; `deadline: 100ms` counts the results that came later than that after the capture.",
        "streams:",
    ]
    for medium, source in sources.items():
        run = ", ".join(entry.name for entry in entries if entry.medium == medium)
        live = source.name in ("camera", "mic")
        policy = ("drop_oldest" if medium == "audio" else "latest") if live else "block"
        lines += [
            f"  # policy {_POLICIES[policy]}",
            f"  {_stream_name(source)}: {{source: {source.name}, run: [{run}], policy: {policy}, publish: {{when: always}}}}",
        ]
    lines += [
        "",
        "telemetry:",
        *_mqtt(broker, folder),
        f"  outbox: {{path: {name}.outbox, max_size: 256MiB, when_full: drop_oldest}}",
        "",
    ]
    return "\n".join(lines)


def _mqtt(broker: MqttSettings | None, folder: Path) -> list[str]:
    if broker is None:
        return [
            "  # Without mqtt, results wait in the outbox. Name your broker here; user name and password file where it asks.",
            "  # mqtt: {url: mqtts://broker.example:8883, username: gate-7, password_file: mqtt.pass, ca_file: ca.pem}",
        ]
    lines = ["  mqtt:", f"    url: {json.dumps(broker.url)}"]
    if broker.username is not None:
        lines.append(f"    username: {json.dumps(broker.username, ensure_ascii=False)}")
    for key, file in (("password_file", broker.password_file), ("ca_file", broker.ca_file)):
        if file is not None:
            lines.append(f"    {key}: {json.dumps(_relative(Path(file), folder), ensure_ascii=False)}")
    return lines


_POLICIES = {
    "latest": "latest: the newest picture wins, older ones are dropped and counted",
    "drop_oldest": "drop_oldest: 5 s of sound are held, then the oldest is dropped and counted",
    "block": "block: the source waits for the models, nothing is dropped",
}


def _stream_name(source: SourceLine) -> str:
    return {"camera": "view", "video": "view", "photos": "view", "mic": "sound", "recording": "sound"}.get(
        source.name, "stream"
    )


def _entries(manifests: list[tuple[Path, Manifest]]) -> list[Entry]:
    cascade = _cascade([manifest for _, manifest in manifests])
    if cascade is not None:
        names = ", ".join(manifest.name for _, manifest in manifests)
        paths = tuple(path for path, _ in manifests)
        medium, rate_hz = _takes(manifests[0][1])
        return [
            Entry(name=cascade, bundles=paths, medium=medium, sample_rate_hz=rate_hz, about=f"a cascade of {names}")
        ]
    entries: list[Entry] = []
    for path, manifest in manifests:
        name, number = manifest.name, 2
        while name in {entry.name for entry in entries}:
            name, number = f"{manifest.name}-{number}", number + 1
        medium, rate_hz = _takes(manifest)
        about = f"{manifest.contract.task}; variants: {', '.join(variant.id for variant in manifest.variants)}"
        entries.append(Entry(name=name, bundles=(path,), medium=medium, sample_rate_hz=rate_hz, about=about))
    return entries


def _cascade(manifests: list[Manifest]) -> str | None:
    """The cascade that takes exactly these bundles."""
    tasks = [manifest.contract.task for manifest in manifests]
    if len(tasks) < 2 or len(set(tasks)) < len(tasks):
        return None
    for name in sorted(registry.plugins(registry.CASCADES)):
        kind = registry.load_plugin(registry.CASCADES, name)
        if set(kind.tasks) - kind.optional <= set(tasks) <= set(kind.tasks):
            return name
    return None


def _takes(manifest: Manifest) -> tuple[Medium, int]:
    for one in manifest.contract.inputs:
        if isinstance(one.source, ImageInput):
            return "picture", 0
        if isinstance(one.source, AudioInput):
            return "audio", one.source.sample_rate_hz
    return "arrays", 0


def _rate(entries: list[Entry]) -> int:
    rates = sorted({entry.sample_rate_hz for entry in entries if entry.sample_rate_hz})
    if len(rates) > 1:
        raise ConfigError(
            [
                f"the bundles hear at different sample rates ({', '.join(map(_hertz, rates))}). Write one app.yaml for each."
            ]
        )
    return rates[0] if rates else 16000


def _manifest(path: Path) -> Manifest:
    with Bundle.open(path) as bundle:
        return bundle.manifest


def _hertz(rate_hz: int) -> str:
    return f"{rate_hz // 1000}kHz" if rate_hz % 1000 == 0 else f"{rate_hz}Hz"


def _relative(path: Path, folder: Path) -> str:
    # Plain text, no resolve(): a link that the user made stays what the file says.
    return os.path.relpath(path.absolute(), folder.absolute())
