"""Finds recipes, reads and checks them, and says which of them make sense for a board."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from edgesdk.errors import ConfigError, ConversionError
from edgesdk.profiles import DeviceProfile
from edgesdk.profiles.model import BackendPreference
from edgesdk.schema import Document, json_schema, read_document
from edgesdk_converters.quantize.calibrators import make_calibrator
from edgesdk_converters.quantize.coverage import coverage
from edgesdk_converters.quantize.recipe import RECIPE_SCHEMA, Recipe

Format = Literal["onnx", "tflite"]

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""That ONNX Runtime's MatMulNBits computes with."""
SCHEMA_FILE = "recipe.schema.json"
"""Lies beside the shipped recipes."""
_FOLDER = Path(__file__).resolve().parent / "recipes"
_RUNTIME: dict[Format, str] = {"onnx": "onnxruntime", "tflite": "tflite"}
_ORDER = ("auto", "w8a8", "w4a8", "dynamic", "float16", "w8", "w4", "w8a16")
"""The best guess first; recipes that are not named here come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suitable:
    """Recipes for a board, and why the others fell away."""

    recipes: tuple[Recipe, ...]
    """The best guess first."""
    reasons: dict[str, str]
    """Name of a recipe that is left out -> why, and what to do."""

    def demand(self, profile: DeviceProfile) -> tuple[Recipe, ...]:
        """The recipes.

        Raises:
            ConversionError: There are none.
        """
        if not self.recipes:
            lines = "".join(f"\n  {name}: {reason}" for name, reason in self.reasons.items())
            raise ConversionError(
                f"device {profile.id} supports none of the recipes:{lines}\n"
                f"Convert for another device, or let the profile name a backend that runs ONNX or TFLite on the CPU."
            )
        return self.recipes


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes, sorted."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.yaml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load a recipe.

    Args:
        name_or_path: A shipped one's name such as ``w8a8``, or a YAML file (a Path, or text with a slash or ``.yaml``).

    Raises:
        ConfigError: No recipe has this name (the text has the nearest one), or the file is wrong: every problem at once.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in text or text.endswith((".yaml", ".yml")):
        return _read(Path(name_or_path))
    if text not in recipe_names():
        known = recipe_names()
        hint = f"recipe '{text}' is unknown.{nearest(text.lower(), known)} Known: {', '.join(known)}."
        raise ConfigError([f"{hint} Your own: give the file's path, ./{text}.yaml."])
    return _shipped(text)


def suitable(profile: DeviceProfile, file_format: Format, *, optimize: Literal["speed", "size"] = "speed") -> Suitable:
    """Which of the shipped recipes make sense for a board.

    Args:
        profile: The board.
        file_format: Of the file to be written.
        optimize: ``speed`` leaves out what is smaller but slower than the float model.
    """
    backends = [one for one in profile.backends if _reads(one, file_format)]
    kept: list[Recipe] = []
    reasons: dict[str, str] = {}
    for name in sorted(recipe_names(), key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)):
        recipe = load_recipe(name)
        reason = _against(recipe, profile, backends, file_format, optimize)
        if reason is None:
            kept.append(recipe)
        else:
            reasons[name] = reason
    return Suitable(recipes=tuple(kept), reasons=reasons)


def recipe_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe file, for editors."""
    return json_schema(Recipe, schema_id=SCHEMA_FILE, title="edgesdk quantization recipe")


def nearest(word: str, known: Sequence[str]) -> str:
    """`` Did you mean 'known word'?``, or nothing when none is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


@cache
def _shipped(name: str) -> Recipe:
    return _read(_FOLDER / f"{name}.yaml")


def _read(path: Path) -> Recipe:
    document = read_document(path, Recipe)
    recipe = document.value
    if recipe.schema != RECIPE_SCHEMA:
        document.add(("schema",), f"'{recipe.schema}' is not read by this version. Write 'schema: {RECIPE_SCHEMA}'.")
    try:
        make_calibrator(recipe.calibrator)
    except ConfigError as error:
        document.add(("calibrator",), str(error))
    if recipe.block_size not in BLOCK_SIZES:
        closest = min(BLOCK_SIZES, key=lambda size: abs(size - recipe.block_size))
        document.add(
            ("block_size",),
            f"{recipe.block_size} is none of {', '.join(map(str, BLOCK_SIZES))}. Write 'block_size: {closest}'.",
        )
    if not 0 <= recipe.smooth <= 1:
        document.add(
            ("smooth",),
            f"{recipe.smooth:g} is no share, expected 0 to 1. Write 'smooth: {min(max(recipe.smooth, 0), 1):g}'.",
        )
    _check_rules(document)
    return document.check()


def _check_rules(document: Document[Recipe]) -> None:
    for index, rule in enumerate(document.value.rules):
        here = ("rules", index)
        if (rule.nodes is None) == (rule.op is None):
            both = "both 'nodes' and 'op'" if rule.op is not None else "neither 'nodes' nor 'op'"
            document.add(
                here,
                f"the rule says {both}. Give one of them: 'nodes: PATTERN' for names of nodes, 'op: TYPE' for an operator type.",
            )
        elif rule.op is not None and rule.op not in coverage().operators:
            known = sorted(coverage().operators)
            document.add(
                (*here, "op"),
                f"no node of type '{rule.op}' is ever quantized.{nearest(rule.op, known)} Known: {', '.join(known)}.",
            )
    if document.value.rules and document.value.scheme == "float16":
        document.add(
            ("rules",),
            "'scheme: float16' stores every constant alike, so rules change nothing. Remove them, or choose another scheme.",
        )


def _reads(backend: BackendPreference, file_format: Format) -> bool:
    return file_format in backend.formats if backend.formats else backend.name == _RUNTIME[file_format]


def _against(
    recipe: Recipe,
    profile: DeviceProfile,
    backends: Sequence[BackendPreference],
    file_format: Format,
    optimize: Literal["speed", "size"],
) -> str | None:
    """Why a recipe is left out; None where it makes sense."""
    if not backends:
        others = ", ".join(dict.fromkeys(one.name for one in profile.backends))
        return f"no backend of {profile.id} reads {file_format}; it has {others}"
    accelerators = [one for one in backends if one.accelerator is not None]
    if any(_computes(one, recipe, profile) for one in accelerators):
        return None
    if len(accelerators) == len(backends):
        can = "; ".join(f"{one.accelerator} computes in {', '.join(_precisions(one, profile))}" for one in accelerators)
        return f"its arithmetic is {recipe.computes}, but {can}, and no backend of {profile.id} runs {file_format} on the CPU"
    gain = getattr(recipe.gain, file_format)
    if gain is None:
        other = next(name for name in get_args(Format) if name != file_format)
        return f"{file_format} does not express it. Ask for {other}"
    if gain == "slow" and optimize == "speed":
        return f"CPUs have no fast kernel for it in {file_format}: smaller, but slower than float. Ask for it with optimize 'size'"
    return None


def _computes(backend: BackendPreference, recipe: Recipe, profile: DeviceProfile) -> bool:
    return recipe.computes in _precisions(backend, profile)


def _precisions(backend: BackendPreference, profile: DeviceProfile) -> tuple[str, ...]:
    if backend.precisions:
        return backend.precisions
    return next((one.precisions for one in profile.accelerators if one.id == backend.accelerator), ())
