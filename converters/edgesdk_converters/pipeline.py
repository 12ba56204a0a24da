"""The conversion from end to end: read, prepare, calibrate, quantize, judge, write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract, Licence, Manifest, Measurement, Measurements, Provenance, Variant
from edgesdk.bundle.write import write_bundle
from edgesdk.errors import CalibrationError, ConversionError
from edgesdk.profiles import DeviceProfile, load_profile
from edgesdk.tasks import make_task
from edgesdk_converters.calibration import CalibrationSet, media_of
from edgesdk_converters.contract import build_contract
from edgesdk_converters.frontends import SourceModel, read_source
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.guard.fidelity import worst_margin
from edgesdk_converters.guard.judge import Judge, Optimize, too_slow
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.spec import ModelSpec, read_spec
from edgesdk_converters.variants import Family, Form

Array = NDArray[Any]


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
        return self.allowed is not None or any(variant.precision == "int8" for variant in self.manifest.variants)

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
    _check_formats(model, profile)
    family = open_family(model, stated, profile, progress)
    contract, notes = build_contract(
        model,
        stated,
        shapes=family.shapes,
        outputs=family.outputs,
        branches=family.branches,
        media=media_of(calibration),
    )
    make_task(contract)  # a contract that the board's task refuses is refused here, before the long work
    notes = [*family.notes, *notes]
    runner = family.source()
    feeds, held_out, samples, digest = _samples(contract, runner.run, calibration, evaluation, notes, progress)
    judge = Judge(contract, runner, held_out, source_size_bytes=len(model.content), optimize=optimize)
    kept, measured, failures = _variants(family, contract, feeds, judge, optimize, allow, progress)
    if not fallback and any(form.precision == "int8" for form in kept):
        kept = [form for form in kept if form.precision == "int8"]
    overruled = any(
        one.kept and one.reasons and one.variant in {_id(family, form) for form in kept} for one in measured
    )
    manifest = Manifest(
        name=name or _slug(output.stem),
        version=version,
        contract=contract,
        variants=tuple(_variant(family, form) for form in kept),
        files={},
        provenance=Provenance(
            source_file=model.file,
            source_sha256=model.sha256,
            tools={"edgesdk-converters": installed("edgesdk-converters"), **dict(sorted(family.tools.items()))},
            recipe=next((form.recipe for form in kept if form.precision == "int8"), None),
            calibration_sha256=digest,
            calibration_samples=samples,
            device=profile.id,
        ),
        licence=licence or _licence(stated, model),
        assumptions=tuple(notes),
        # Only what was overruled: a reason for nothing would make every later reader suspect a good bundle.
        allowed=allow if overruled or not any(form.precision == "int8" for form in kept) else None,
    )
    measurements = Measurements(variants=tuple(measured))
    files = {_file(family, form): form.content for form in kept}
    write_bundle(output, manifest, files, measurements)
    return Conversion(
        bundle=output,
        manifest=manifest,
        measurements=measurements,
        device=profile.id,
        refused=tuple(measurement for measurement in measured if not measurement.kept),
        failures=tuple(failures),
        allowed=allow,
    )


def open_family(model: SourceModel, spec: ModelSpec, profile: DeviceProfile, progress: Progress) -> Family:
    """The model in its format, ready to make variants."""
    reduce_range = profile.cpu.architecture == "x86_64" and not any(
        {"avx512_vnni", "avx_vnni"} & set(cluster.features) for cluster in profile.cpu.clusters
    )
    if model.format == "tflite":
        from edgesdk_converters.variants.tflite import TfliteFamily

        return TfliteFamily(model, spec, progress)
    from edgesdk_converters.variants.onnx import OnnxFamily

    return OnnxFamily(model, spec, progress, reduce_range=reduce_range)


def _samples(
    contract: Contract,
    run: Any,
    calibration: Path | None,
    evaluation: Path | None,
    notes: list[str],
    progress: Progress,
) -> tuple[list[list[Array]], Sequence[Sequence[list[Array]]], int | None, str | None]:
    """Calibration inferences, held-out samples as their inferences, number of calibration samples, their hash."""
    if calibration is None:
        if evaluation is None:
            notes.append("no calibration samples: no int8; the float variants were compared on noise")
            noise = random_feed([(spec.shape, spec.dtype, spec.source) for spec in contract.inputs])
            return [], [[noise]], None, None
        return [], _read(Path(evaluation), contract, run, progress).units, None, None
    whole = _read(Path(calibration), contract, run, progress)
    notes += [f"calibration folder: {problem}" for problem in whole.problems[:20]]
    if evaluation is not None:
        return (
            whole.thinned().feeds,
            _read(Path(evaluation), contract, run, progress).units,
            len(whole.units),
            whole.sha256,
        )
    used, held_out = whole.split()
    if held_out.shared:
        notes.append(
            f"judged on the calibration samples themselves: {len(whole.units)} are too few to hold any out (give 20 or more)"
        )
    return used.thinned().feeds, held_out.units, len(used.units), whole.sha256


def _read(folder: Path, contract: Contract, run: Any, progress: Progress) -> CalibrationSet:
    data = CalibrationSet.from_folder(folder, contract, progress=progress).rolled(contract, run)
    if not data.feeds:
        raise CalibrationError(f"{folder}: its files hold no samples. Put 20 or more typical inputs there.")
    return data


def _variants(
    family: Family,
    contract: Contract,
    feeds: Sequence[Sequence[Array]],
    judge: Judge,
    optimize: Optimize,
    allow: str | None,
    progress: Progress,
) -> tuple[list[Form], list[Measurement], list[str]]:
    """Forms that go into the bundle in order of preference, all measurements, and what could not be made."""
    floats = family.floats()
    reference = family.open(floats[0])
    measured = []
    kept: list[tuple[Form, Measurement]] = []
    for form in floats:
        runner = reference if form is floats[0] else family.open(form)
        measurement = judge.judge(_id(family, form), form, runner, family.source() if form is floats[0] else reference)
        measured.append(measurement)
        # The first float form is the source itself, simplified: it is the bundle's fallback whatever the clock says.
        if measurement.kept or form is floats[0]:
            kept.append((form, measurement))
    failures: list[str] = []
    if feeds and floats[0].precision != "int8":
        try:
            best = _best_int8(
                family, family.int8(feeds, contract.outputs, progress), judge, reference, optimize, progress
            )
        except ConversionError as error:
            if isinstance(error, CalibrationError):
                raise
            failures.append(f"int8: {error}")
            best = None
        if best is not None:
            form, measurement = best
            if not measurement.kept and allow:
                measurement = msgspec.structs.replace(measurement, kept=True)
            measured.append(measurement)
            if measurement.kept:
                kept.append((form, measurement))
    kept.sort(key=lambda pair: _preference(*pair))
    return [form for form, _ in kept], measured, failures


def _best_int8(
    family: Family, proposals: Iterator[Form], judge: Judge, reference: Any, optimize: Optimize, progress: Progress
) -> tuple[Form, Measurement] | None:
    """The first proposal that passes, else the one that came closest."""
    best: tuple[float, Form, Measurement] | None = None
    for form in proposals:
        runner = family.open(form)
        measurement = judge.judge(_id(family, form), form, runner, reference, always_time=best is None)
        progress.say(f"  {form.recipe}: {'passes' if measurement.kept else '; '.join(measurement.reasons)}")
        if measurement.kept:
            return form, measurement
        margin = worst_margin(measurement.fidelity)
        if best is None or margin > best[0]:
            best = (margin, form, measurement)
        if optimize == "speed" and too_slow(measurement):
            break  # all help keeps more nodes in float, which makes it no faster
    return None if best is None else best[1:]


def _preference(form: Form, measurement: Measurement) -> tuple[bool, int]:
    """The smallest first; what was refused and allowed all the same, last.

    No measured time decides: what is kept is fast enough, the board times the variants itself, and two equal conversions
    must make the same manifest.
    """
    return form.precision == "int8" and bool(measurement.reasons), measurement.size_bytes


def _variant(family: Family, form: Form) -> Variant:
    return Variant(
        id=_id(family, form),
        file=_file(family, form),
        format=family.format,
        precision=form.precision,
        inputs=form.inputs,
        outputs=form.outputs,
        float_nodes=form.float_nodes,
    )


def _id(family: Family, form: Form) -> str:
    return f"{family.format}-{form.precision}"


def _file(family: Family, form: Form) -> str:
    return f"model.{form.precision}.{family.format}"


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


def _check_formats(model: SourceModel, profile: DeviceProfile) -> None:
    """Refuse a format that no backend of the board takes, before any work is done."""
    known = {"onnxruntime": ("onnx",), "tflite": ("tflite",)}
    taken = {fmt for entry in profile.backends for fmt in (entry.formats or known.get(entry.name, (model.format,)))}
    if model.format not in taken:
        raise ConversionError(
            f"{model.file}: is {model.format}, but {profile.id} runs {', '.join(sorted(taken))}. "
            f"Export the model as {' or '.join(sorted(taken))}, or choose another device."
        )


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
        row["kept"] = bool(np.bool_(measurement.kept))
    return rows
