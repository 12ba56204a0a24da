"""The conversion from end to end: read, prepare, calibrate, quantize, judge, write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgesdk.bundle.manifest import Format, Licence, Manifest, Measurement, Measurements, Provenance, Variant
from edgesdk.bundle.write import write_bundle
from edgesdk.errors import ConversionError
from edgesdk.profiles import load_profile
from edgesdk.tasks import make_task
from edgesdk_converters.calibration import media_of
from edgesdk_converters.choosing import FLOAT, choose
from edgesdk_converters.contract import build_contract
from edgesdk_converters.frontends import SourceModel, read_source
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.samples import gather
from edgesdk_converters.spec import ModelSpec, read_spec
from edgesdk_converters.variants import Form
from edgesdk_converters.variants.opening import formats_for, open_family


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a conversion made."""

    bundle: Path
    manifest: Manifest
    measurements: Measurements
    device: str
    refused: tuple[Measurement, ...]
    """What the guard did not let through, with the reasons."""
    failures: tuple[str, ...] = ()
    """Precisions that could not be made at all, with the reason."""
    allowed: str | None = None

    @property
    def ok(self) -> bool:
        """Whether more than float is in the bundle, or the engineer said why not."""
        return self.allowed is not None or any(v.precision not in FLOAT for v in self.manifest.variants)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was not stated and therefore assumed."""
        return self.manifest.assumptions


def convert(
    source: str | Path,
    *,
    device: str,
    calibration: Path | None,
    output: Path,
    spec: Path | None = None,
    evaluation: Path | None = None,
    optimize: Literal["speed", "size"] = "speed",
    formats: Sequence[Format] | None = None,
    allow: str | None = None,
    fallback: bool = True,
    name: str | None = None,
    version: int = 1,
    state_dict: Path | None = None,
    licence: Licence | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a model for a board into a bundle that was judged by the guard.

    Args:
        source: `.onnx` or `.tflite` file, or ``package.module:factory`` of a PyTorch module. Never written to.
        device: Id of a device profile, or the path of one.
        calibration: Folder of typical inputs; None makes float variants only.
        output: The bundle, ``NAME.edge``; written at once at the end or not at all.
        spec: `model.yaml`: what the file does not say.
        evaluation: Folder to judge on; otherwise 20 % of the calibration samples are held out.
        optimize: ``speed`` also demands that int8 is not slower than float; ``size`` does not.
        formats: ``onnx`` and / or ``tflite``; None writes what the board's backends take.
        allow: A reason to keep what the guard refused; goes into the manifest.
        fallback: Keep the float variants beside an int8 one that passed or was allowed; without one they stay in any case.
        name: Of the bundle; by default from ``output``.
        version: Monotonic number of the bundle.
        state_dict: Weights of a PyTorch module.
        licence: Of the weights; by default from the spec, else from the file's metadata, else unknown.
        progress: Where to say what is being done.

    Raises:
        ConfigError: The spec or the device profile is wrong.
        ConversionError: The model or the calibration samples cannot be used (`ModelFormatError`, `CalibrationError`).
    """
    progress = progress or Quiet()
    output = Path(output)
    _check_output(output, name, version)
    profile = load_profile(device)
    stated = read_spec(Path(spec)) if spec is not None else ModelSpec()
    model = read_source(source, stated, state_dict=state_dict)
    progress.say(f"{model.file}: {model.format}, {len(model.content):,} bytes")
    family = open_family(model, stated, profile, formats_for(model, profile, formats), progress)
    contract, notes = build_contract(
        model,
        stated,
        shapes=family.shapes,
        outputs=family.outputs,
        branches=family.branches,
        media=media_of(calibration),
    )
    contract = family.settle(contract)
    make_task(contract)  # a contract that the board's task refuses is refused here, before the long work
    runner = family.source()
    samples = gather(contract, runner.run, calibration, evaluation, progress)
    judge = Judge(contract, runner, samples.held_out, source_size_bytes=len(model.content), optimize=optimize)
    feeds = samples.calibration.feeds if samples.calibration is not None else None
    choice = choose(family, feeds, contract.outputs, judge, optimize=optimize, allow=allow, progress=progress)
    kept = choice.kept
    if not fallback and any(form.precision not in FLOAT for form in kept):
        kept = tuple(form for form in kept if form.precision not in FLOAT)
    ids = {form.id for form in kept}
    overruled = any(one.kept and one.reasons and one.variant in ids for one in choice.measured)
    quantized = [form for form in kept if form.precision not in FLOAT]
    manifest = Manifest(
        name=name or _slug(output.stem),
        version=version,
        contract=contract,
        variants=tuple(_variant(form) for form in kept),
        files={},
        provenance=Provenance(
            source_file=model.file,
            source_sha256=model.sha256,
            tools={"edgesdk-converters": installed("edgesdk-converters"), **dict(sorted(family.tools.items()))},
            recipe=next((form.recipe for form in quantized), None),
            calibration_sha256=samples.sha256,
            calibration_samples=samples.count,
            device=profile.id,
        ),
        licence=licence or _licence(stated, model),
        assumptions=(*family.notes, *notes, *samples.notes),
        # Only what was overruled: a reason for nothing would make every later reader suspect a good bundle.
        allowed=allow if overruled or not quantized else None,
    )
    measurements = Measurements(variants=choice.measured)
    write_bundle(output, manifest, {form.file: form.content for form in kept}, measurements)
    return Conversion(
        bundle=output,
        manifest=manifest,
        measurements=measurements,
        device=profile.id,
        refused=tuple(measurement for measurement in choice.measured if not measurement.kept),
        failures=choice.failures,
        allowed=allow,
    )


def _variant(form: Form) -> Variant:
    return Variant(
        id=form.id,
        file=form.file,
        format=form.format,
        precision=form.precision,
        inputs=form.inputs,
        outputs=form.outputs,
        float_nodes=form.float_nodes,
    )


def _check_output(output: Path, name: str | None, version: int) -> None:
    """What would make the bundle unwritable is said before the work, not after it."""
    if name is not None and name != _slug(name):
        raise ConversionError(
            f"--name {name!r}: expected lower-case letters, digits and '-', at most 64. Say --name {_slug(name)}"
        )
    if version < 1:
        raise ConversionError(f"--version {version}: expected 1 or more, counting up. Say --version 1")
    if output.suffix != ".edge":
        raise ConversionError(f"{output}: a bundle is called NAME.edge. Say --output {output.stem or 'model'}.edge")
    if not output.parent.is_dir():
        raise ConversionError(f"{output}: there is no folder {output.parent}. Create it: mkdir -p {output.parent}")


def _licence(stated: ModelSpec, model: SourceModel) -> Licence:
    """The spec's word, else what the file says of itself: Ultralytics' exports name theirs (AGPL-3.0)."""
    if stated.licence is None and model.metadata.get("license"):
        return Licence(name=model.metadata["license"], source=f"metadata of {model.file}")
    return Licence(name=stated.licence or "unknown", source=stated.licence_source)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "model"


def as_rows(conversion: Conversion) -> list[dict[str, Any]]:
    """The measurements as plain data, one row per variant, for `--json` and for the demo."""
    rows: list[dict[str, Any]] = msgspec.to_builtins(conversion.measurements)["variants"]
    for row, measurement in zip(rows, conversion.measurements.variants, strict=True):
        row["size_ratio"] = round(measurement.size_bytes / max(measurement.source_size_bytes, 1), 4)
        row["kept"] = measurement.kept
    return rows
