"""From what a frontend read to a family: which formats to write, and by which road."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from edgesdk.bundle.manifest import Format, Precision
from edgesdk.errors import ConversionError
from edgesdk.profiles import DeviceProfile
from edgesdk_converters.frontends.api import SourceModel
from edgesdk_converters.progress import Progress
from edgesdk_converters.quantize.recipes import suitable
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.variants.api import Family


def formats_for(model: SourceModel, profile: DeviceProfile, asked: Sequence[Format] | None) -> tuple[Format, ...]:
    """What to write: what was asked for, else what the board's backends take; that of the source first.

    Raises:
        ConversionError: The board takes none of it.
    """
    known: dict[str, tuple[str, ...]] = {"onnxruntime": ("onnx",), "tflite": ("tflite",)}
    every: tuple[Format, ...] = ("onnx", "tflite")
    taken = {fmt for entry in profile.backends for fmt in (entry.formats or known.get(entry.name, every))}
    wanted = [one for one in every if one in taken and (asked is None or one in asked)]
    if not wanted:
        raise ConversionError(
            f"{profile.id} runs {', '.join(sorted(taken))}, not {', '.join(asked or every)}. "
            f"Say --format {min(taken)}, or choose another device."
        )
    return tuple(sorted(wanted, key=lambda one: one != model.format))


def demand_recipes(profile: DeviceProfile, formats: Sequence[Format], optimize: Literal["speed", "size"]) -> None:
    """Refuse a board that nothing can be quantized for, before any work is done.

    Raises:
        ConversionError: With the reason of each recipe.
    """
    found = [suitable(profile, kind, optimize=optimize) for kind in formats]
    if not any(one.recipes for one in found):
        found[0].demand(profile)


def unfit_recipes(
    profile: DeviceProfile, formats: Sequence[Format], optimize: Literal["speed", "size"], asked: Sequence[str]
) -> list[str]:
    """What speaks against recipes that were asked for by name: they are tried all the same, but not silently."""
    found = []
    for kind in formats:
        reasons = suitable(profile, kind, optimize=optimize).reasons
        found += [f"recipe {name} in {kind} for {profile.id}: {reasons[name]}" for name in asked if name in reasons]
    return found


def open_family(
    model: SourceModel, spec: ModelSpec, profile: DeviceProfile, formats: tuple[Format, ...], progress: Progress
) -> Family:
    """The model, ready to be written in ``formats``."""
    from edgesdk_converters.variants.graph import GraphFamily

    reduce_range = profile.cpu.architecture == "x86_64" and not any(
        {"avx512_vnni", "avx_vnni"} & set(cluster.features) for cluster in profile.cpu.clusters
    )
    if model.format == "onnx":
        return GraphFamily(model, spec, progress, formats=formats, reduce_range=reduce_range)
    lifted = _lifted(model)
    if isinstance(lifted, SourceModel):
        return GraphFamily(lifted, spec, progress, formats=formats, reduce_range=reduce_range, flatbuffer=model.content)
    from edgesdk_converters.variants.flatbuffer import FlatbufferFamily

    precision, note = lifted
    if "tflite" not in formats:
        raise ConversionError(
            f"{note}\n{profile.id} or --format asks for {', '.join(formats)}: export the model as that, or choose another."
        )
    return FlatbufferFamily(model, spec, precision=precision, note=note)


def _lifted(model: SourceModel) -> SourceModel | tuple[Precision, str]:
    """A TFLite model as ONNX, or what it is in and why it is left as it is."""
    from edgesdk_converters.tflite import describe, normalize
    from edgesdk_converters.tflite.lift import lift

    if describe(model.content, name=model.file).integer_share > 0.5:
        return "int8", f"{model.file}: is quantized already, so it stays TFLite, as it is"
    try:
        content = normalize(model.content, name=model.file)
        graph = lift(content, name=model.file)
    except ConversionError as error:
        return "fp32", f"{model.file} stays TFLite and float, as it is: {error}"
    return dataclasses.replace(model, content=graph.SerializeToString(deterministic=True), format="onnx")
