"""The conversion from end to end: read, prepare, calibrate, quantize, judge, write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgesdk.bundle.manifest import Format, Licence, Manifest, Measurement, Measurements, Provenance, Variant
from edgesdk.bundle.write import write_bundle
from edgesdk.errors import ConfigError, ConversionError
from edgesdk.profiles import load_profile
from edgesdk.tasks import make_task
from edgesdk_converters.auto.plans import plan_bytes
from edgesdk_converters.calibration import media_of
from edgesdk_converters.choosing import FLOAT, Choice, choose
from edgesdk_converters.contract import build_contract
from edgesdk_converters.examining import calibration_findings, check_report_path, examined, recorded
from edgesdk_converters.frontends import SourceModel, read_source
from edgesdk_converters.guard.budget import Budget
from edgesdk_converters.guard.judge import Judge
from edgesdk_converters.progress import Progress, Quiet
from edgesdk_converters.quantize.recipe import Recipe
from edgesdk_converters.quantize.recipes import load_recipe
from edgesdk_converters.report import write_report
from edgesdk_converters.report.record import CalibrationFindings
from edgesdk_converters.samples import gather
from edgesdk_converters.spec import ModelSpec, read_spec
from edgesdk_converters.variants import Form, Wish
from edgesdk_converters.variants.opening import demand_recipes, formats_for, open_family, unfit_recipes


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
    budget: Budget = field(default_factory=Budget)
    """The guard's limits."""
    findings: CalibrationFindings | None = None
    """About the calibration samples."""

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
    recipe: str | Path | Sequence[str | Path] = "auto",
    plan: Path | None = None,
    evaluation: Path | None = None,
    optimize: Literal["speed", "size"] = "speed",
    budget: Budget | None = None,
    formats: Sequence[Format] | None = None,
    allow: str | None = None,
    fallback: bool = True,
    name: str | None = None,
    version: int = 1,
    state_dict: Path | None = None,
    trust_pickle: bool = False,
    licence: Licence | None = None,
    report: Path | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a model for a board into a bundle that was judged by the guard.

    Args:
        source: Model file, SavedModel folder, or ``package.module:factory``. Never written to.
        device: Id of a device profile, or the path of one.
        calibration: Folder of typical inputs; None makes only what needs none.
        output: The bundle, ``NAME.edge``; written at once at the end or not at all.
        spec: `model.yaml`: what the file does not say.
        recipe: Name of a shipped recipe or path of one; several make a variant each. ``auto`` searches.
        plan: A saved plan (``plan.json`` of a bundle), done again instead of a recipe.
        evaluation: Folder to judge on; otherwise 20 % of the calibration samples are held out.
        optimize: ``speed`` also demands that int8 is not slower than float; ``size`` does not.
        budget: Limits of the guard.
        formats: ``onnx`` and / or ``tflite``; None writes what the board's backends take.
        allow: A reason to keep what the guard refused; goes into the manifest.
        fallback: Keep the float variants beside a quantized one that passed or was allowed; without one they stay in any case.
        name: Of the bundle; by default from ``output``.
        version: Monotonic number of the bundle.
        state_dict: Weights of a PyTorch module.
        trust_pickle: Load sources that can run any code when they are opened.
        licence: Of the weights; by default from the spec, else from the file's metadata, else unknown.
        report: File to write the report to: ``.html`` or ``.json``.
        progress: Where to say what is being done.

    Raises:
        ConfigError: The spec, the recipe, the plan or the device profile is wrong.
        ConversionError: The model or the calibration samples cannot be used (`ModelFormatError`, `CalibrationError`).
    """
    progress, budget = progress or Quiet(), budget or Budget()
    output = Path(output)
    check_output(output, name, version)
    if report is not None:
        check_report_path(report)
    profile = load_profile(device)
    stated = read_spec(Path(spec)) if spec is not None else ModelSpec()
    wishes = [Wish(recipe=one, budget=budget, plan=plan) for one in _recipes(recipe, plan)]
    model = read_source(source, stated, state_dict=state_dict, trust_pickle=trust_pickle)
    progress.say(f"{model.file}: {model.format}, {len(model.content):,} bytes")
    formats = formats_for(model, profile, formats)
    demand_recipes(profile, formats, optimize)
    unfit = unfit_recipes(profile, formats, optimize, [wish.recipe.name for wish in wishes])
    family = open_family(model, stated, profile, formats, progress)
    media = media_of(calibration)
    contract, notes = build_contract(
        model, stated, shapes=family.shapes, outputs=family.outputs, branches=family.branches, media=media
    )
    if media != "arrays" and stated.fold_input:
        contract = family.settle(contract)
    make_task(contract)  # a contract that the board's task refuses is refused here, before the long work
    runner = family.source()
    samples = gather(contract, runner.run, calibration, evaluation, progress)
    judge = Judge(
        contract,
        runner,
        samples.held_out,
        source_size_bytes=len(model.content),
        optimize=optimize,
        budget=budget,
        labels=samples.evaluation.labels if samples.evaluation is not None else None,
        explain=family.explain,
    )
    feeds = samples.calibration.feeds if samples.calibration is not None else ()
    choice = choose(family, wishes, contract, feeds, judge, allow=allow, memory=report is not None, progress=progress)
    findings = calibration_findings(choice, samples, contract, runner, progress)
    kept = choice.kept
    quantized = tuple(form for form in kept if form.precision not in FLOAT)
    if not fallback and quantized:
        kept = quantized
    ids = {form.id for form in kept}
    overruled = any(one.kept and one.reasons and one.variant in ids for one in choice.measured)
    plans = _plans(choice, ids)
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
        assumptions=(*family.notes, *notes, *samples.notes, *unfit),
        # Only what was overruled: a reason for nothing would make every later reader suspect a good bundle.
        allowed=allow if overruled or not quantized else None,
    )
    measurements = Measurements(variants=choice.measured)
    conversion = Conversion(
        bundle=output,
        manifest=manifest,
        measurements=measurements,
        device=profile.id,
        refused=tuple(measurement for measurement in choice.measured if not measurement.kept),
        failures=choice.failures,
        allowed=allow,
        budget=budget,
        findings=findings,
    )
    examination = None
    if report is not None:
        examination = examined(contract, choice, family, samples, runner, progress)
    # The long work is over: what is interrupted before leaves neither a bundle nor a report.
    write_bundle(output, manifest, {form.file: form.content for form in kept} | plans, measurements)
    if report is not None and examination is not None:
        write_report(recorded(conversion, choice, examination, budget, optimize=optimize), report)
    return conversion


def _recipes(asked: str | Path | Sequence[str | Path], plan: Path | None) -> list[Recipe]:
    """The recipes; a variant is named by its precision, so that two of one precision cannot go into one bundle.

    Raises:
        ConfigError: Unknown, wrong, or asked for twice.
    """
    names = [asked] if isinstance(asked, str | Path) else list(asked)
    recipes = [load_recipe(one) for one in names]
    made = [("w8a8" if one.scheme == "auto" else one.scheme, one.name) for one in recipes if one.scheme != "float16"]
    for index, (scheme, word) in enumerate(made):
        twin = next((other for kind, other in made[:index] if kind == scheme), None)
        if twin is not None:
            raise ConfigError(
                [f"recipes {twin!r} and {word!r} both make {scheme} variants. Give one of them, or make two bundles."]
            )
    # The float forms, float16 among them, are made in any case.
    wanted = [one for one in recipes if one.scheme != "float16"]
    return wanted[:1] if plan is not None and wanted else wanted or ([load_recipe("auto")] if plan is not None else [])


def _plans(choice: Choice, kept: set[str]) -> dict[str, bytes]:
    """`plan.json`, and one per further precision: what was done to every node, to be done again with --plan."""
    found: dict[str, bytes] = {}
    for attempt in choice.attempts:
        if attempt.plan is not None and any(form.id in kept for form in attempt.forms):
            file = "plan.json" if not found else f"plan.{attempt.forms[0].precision}.json"
            found[file] = plan_bytes(attempt.plan)
    return found


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


def check_output(output: Path, name: str | None, version: int) -> None:
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
