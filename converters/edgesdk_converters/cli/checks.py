"""What is wrong with the arguments of `edgesdk convert`: found before any work, and told at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from edgesdk.errors import ConfigError, EdgeSdkError

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_SHARE = re.compile(r"[01]?\.[0-9]+|[01]")
_FOLDERS = ("calibration", "evaluation")
_FILES = ("spec", "plan", "state_dict")


def convert_problems(options: argparse.Namespace) -> list[str]:
    """One line or more per problem: what, got, expected, fix."""
    problems = [*_places(options), *_combinations(options)]
    for check in _values(options):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
        except EdgeSdkError as error:
            problems.append(str(error))
    return problems


def _places(options: argparse.Namespace) -> Iterator[str]:
    """What is to be read has to be there."""
    factory = _FACTORY.fullmatch(options.model)
    if not factory and not Path(options.model).exists():
        yield (
            f"{options.model}: there is no such model. Give a model file, a SavedModel folder, or package.module:factory; "
            f"relative paths start at {Path.cwd()}."
        )
    for role in _FOLDERS:
        place = getattr(options, role)
        if place is not None and not place.exists():
            yield f"--{role} {place}: no such folder. Give --{role} a folder of typical inputs."
    for role in _FILES:
        place = getattr(options, role)
        option = role.replace("_", "-")
        if place is not None and not place.is_file():
            yield f"--{option} {place}: {'is a folder' if place.is_dir() else 'no such file'}. {_WHENCE[role]}"
    if options.state_dict is not None and not factory:
        yield (
            f"--state-dict {options.state_dict}: goes with package.module:factory, got the model {options.model}, which has its weights. "
            "Leave it out."
        )


_WHENCE = {
    "spec": "Give the model.yaml.",
    "plan": "Give the plan.json of a bundle: unzip -p NAME.edge plan.json > plan.json",
    "state_dict": "Give what torch.save(module.state_dict(), FILE) wrote.",
}


def _combinations(options: argparse.Namespace) -> Iterator[str]:
    """What cannot be meant together."""
    if options.plan is not None and options.recipe:
        yield (
            f"--plan {options.plan} and --recipe {' --recipe '.join(options.recipe)}: a plan says already what is done to every node. "
            "Leave one of them out."
        )
    repeated = sorted({one for one in options.recipe or () if options.recipe.count(one) > 1})
    if repeated:
        yield f"--recipe {repeated[0]}: is given {options.recipe.count(repeated[0])} times. Say it once."
    for unit, given in _by_unit(options.min_fidelity or ()).items():
        if len(given) > 1:
            yield (
                f"--min-fidelity {' --min-fidelity '.join(given)}: {len(given)} limits {unit}, expected one. Keep the one that is meant."
            )
    if options.allow is not None and not options.allow.strip():
        yield "--allow: the reason is empty. Write why it is acceptable; whoever opens the bundle reads it."
    if options.evaluation is not None and _same(options.evaluation, options.calibration):
        yield (
            f"--evaluation {options.evaluation}: is the calibration folder, so that the figures would be of samples that the ranges were "
            "fitted to. Leave it out, then a fifth is held out, or give other samples."
        )


def _by_unit(limits: list[str] | tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in limits:
        if one.strip().endswith("dB"):
            found.setdefault("in dB", []).append(one)
        elif _SHARE.fullmatch(one.strip()):  # anything else is wrong by itself
            found.setdefault("of agreement", []).append(one)
    return found


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _values(options: argparse.Namespace) -> Iterator[Callable[[], object]]:
    """Each option that has something to read in it, alone, so that one does not hide the next."""
    from edgesdk.profiles import load_profile
    from edgesdk_converters.examining import check_report_path
    from edgesdk_converters.guard.budget import Budget
    from edgesdk_converters.pipeline import check_output
    from edgesdk_converters.quantize.recipes import load_recipe

    yield partial(load_profile, options.device)
    yield partial(check_output, options.output, None, options.version)
    if options.name is not None:
        yield partial(check_output, Path("any.edge"), options.name, options.version)
    if options.report is not None:
        yield partial(check_report_path, options.report)
    yield from (partial(load_recipe, one) for one in dict.fromkeys(options.recipe or ()))
    yield partial(
        Budget.parse,
        max_drop=options.max_drop,
        min_fidelity=options.min_fidelity,
        min_speedup=options.min_speedup,
        max_size=options.max_size,
    )
