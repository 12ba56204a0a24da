"""The demo's fetch and convert steps: zoo models, their calibration sets, and one conversion each."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from edgesdk.demo.plan import STREAMS, DemoModel, Prepared, Report
from edgesdk_converters.pipeline import convert
from edgesdk_converters.progress import Bar, Quiet, for_stream
from edgesdk_converters.report import advice
from edgesdk_converters.zoo import catalog, fetch, media
from edgesdk_converters.zoo.catalog import spec_path
from edgesdk_converters.zoo.samples import calibration_folder, sample_folder

MODELS = tuple(name for _, _, names in STREAMS for name in names)
LONG = 40
"""A step of so many parts gets a line of its own where there is no terminal."""
PHOTOGRAPHS = ("coffee", "chelsea", "astronaut")


def prepare(folder: Path, *, device: str, report: Report) -> Prepared:
    """Fetch every model and medium of the demo, and convert the models for ``device``.

    Args:
        folder: Gets a bundle per model, and the media.
        device: Device profile id.
        report: Is told what happens, in words.

    Raises:
        ZooError: Something cannot be fetched.
        ConversionError: A model cannot be converted at all. A refusal by the guard is no error here: it is shown.
    """
    zoo = catalog()
    models = {name: _model(name, folder, device, report) for name in MODELS}
    pictures = folder / "media" / "photographs"
    pictures.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(PHOTOGRAPHS):
        source = media(name, report=report)
        (pictures / f"{number}-{source.name}").write_bytes(source.read_bytes())
    wheels = {zoo.models[name].wheel for name in MODELS}
    report(f"{len(models)} models out of {len(wheels)} wheels are ready")
    return Prepared(
        models=models,
        media={
            "photographs": pictures,
            "faces": sample_folder("face-landmark", folder / "media" / "faces", count=24),
            "eyes": sample_folder("iris", folder / "media" / "eyes", count=24),
            "page": media("page", report=report),
            "speech": media("beckett", report=report),
        },
    )


def _model(name: str, folder: Path, device: str, report: Report) -> DemoModel:
    zoo = catalog()
    entry = zoo.models[name]
    source = fetch(name, report=report)
    calibration = calibration_folder(name, folder / "calibration" / name, report=report)
    bundle = folder / f"{name}.edge"
    begin = time.monotonic()
    done = convert(
        source,
        device=device,
        calibration=calibration,
        spec=spec_path(name),
        output=bundle,
        name=name,
        progress=DemoProgress(name, report),
    )
    kept = ", ".join(m.variant for m in done.measurements.variants if m.kept)
    refused = ", ".join(m.variant for m in done.measurements.variants if not m.kept)
    report(
        f"converted {name} for {device} in {time.monotonic() - begin:.1f} s: kept {kept}"
        + (f"; the guard refused {refused}" if refused else "")
    )
    return DemoModel(
        name=name,
        wheel=f"{entry.wheel} {zoo.wheels[entry.wheel].version}",
        bundle=bundle,
        advice=tuple(advice(done)) if done.refused else (),
    )


class DemoProgress:
    """Bars on a terminal; elsewhere only the steps that take long say that they began."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report = name, report
        self._shown = for_stream(sys.stderr) if sys.stderr.isatty() else Quiet()

    def say(self, text: str) -> None:
        """Steps are not worth a line here: the demo says one per model."""

    def bar(self, text: str, total: int) -> AbstractContextManager[Bar]:
        """A step of ``total`` parts."""
        if isinstance(self._shown, Quiet) and total >= LONG:
            self._report(f"{self._name}: {text}")
        return self._shown.bar(f"{self._name}: {text}", total)
