"""Plans as files: what was done to every node of one graph, to be done again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx

from edgesdk.errors import ConfigError
from edgesdk_converters.quantize.calibrators import make_calibrator
from edgesdk_converters.quantize.qdq import quantizable
from edgesdk_converters.quantize.recipe import PLAN_SCHEMA, Plan
from edgesdk_converters.quantize.recipes import BLOCK_SIZES, nearest
from edgesdk_converters.quantize.units import Quantizable

_LISTED = 12


def model_sha256(model: onnx.ModelProto) -> str:
    """Identity of a prepared float graph: sha256 of its bytes."""
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def plan_bytes(plan: Plan) -> bytes:
    """A plan as JSON; equal plans make equal bytes."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"


def write_plan(plan: Plan, path: Path) -> Path:
    """Write a plan as JSON; equal plans make equal bytes. The file is there at once or not at all."""
    text = plan_bytes(plan)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_plan(path: Path, model: onnx.ModelProto) -> Plan:
    """Read a plan and check that it belongs to a graph.

    Args:
        path: JSON, as :func:`write_plan` writes it.
        model: The prepared float graph that it shall be applied to.

    Raises:
        ConfigError: It is no plan, is of another graph (the text says what differs), names nodes that are not there (with the nearest)
            or gives one a scheme that it cannot have; all problems at once.
    """
    path = Path(path)
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror}). Give the plan.json of a bundle."]) from error
    except msgspec.MsgspecError as error:
        raise ConfigError(
            [f"{path}: is no plan: {error}. Correct it, or make a new one with --recipe auto."]
        ) from error
    if plan.schema != PLAN_SCHEMA:
        raise ConfigError(
            [f"{path}: schema {plan.schema!r} is not read by this version, expected {PLAN_SCHEMA!r}. Make a new plan."]
        )
    nodes = quantizable(model)
    problems = [f"{path}: {problem}" for problem in _problems(plan, nodes)]
    found = model_sha256(model)
    if plan.model_sha256 != found:
        same = (
            ""
            if problems
            else (
                ": it has the same quantizable nodes, so its weights, its shapes or the versions of the tools that prepared it differ"
            )
        )
        problems.insert(
            0,
            f"{path}: belongs to another graph (sha256 {plan.model_sha256[:12]}..., this model's is {found[:12]}...){same}. "
            "Convert the model that it was made from, or make a new plan with --recipe auto.",
        )
    if problems:
        raise ConfigError(problems)
    return plan


def _problems(plan: Plan, nodes: Sequence[Quantizable]) -> list[str]:
    known = {node.name: node for node in nodes}
    problems = []
    for name, scheme in plan.schemes.items():
        node = known.get(name)
        if node is None:
            problems.append(
                f"node {name!r} does not exist or cannot be quantized."
                + (nearest(name, list(known)) or f" Quantizable: {_some(list(known))}.")
            )
        elif scheme not in node.schemes:
            problems.append(
                f"node {name!r} ({node.op_type}) cannot be {scheme}. Write one of: {', '.join(node.schemes)}."
            )
    try:
        make_calibrator(plan.calibrator)
    except ConfigError as error:
        problems.append(f"calibrator: {error}")
    if plan.block_size not in BLOCK_SIZES:
        problems.append(f"block_size: {plan.block_size} is none of {', '.join(map(str, BLOCK_SIZES))}.")
    if not 0 <= plan.smooth <= 1:
        problems.append(f"smooth: {plan.smooth:g} is no share, expected 0 to 1.")
    missing = [name for name in known if name not in plan.schemes]
    if missing:
        problems.append(
            f"says nothing of {len(missing)} nodes: {_some(missing)}. Add them with their scheme, or 'float'."
        )
    return problems


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
