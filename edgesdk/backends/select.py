"""Which variant of a bundle runs on which backend, by the order of the device profile, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgesdk import registry
from edgesdk.backends.api import Backend, ChoosyBackend, SessionOptions
from edgesdk.backends.checks import nearest
from edgesdk.backends.threads import choose_threads, usable_cores
from edgesdk.bundle.manifest import Manifest, Variant
from edgesdk.errors import BackendError, NoBackendError, PluginError

AUTO = "auto"


class Preference(Protocol):
    """What selection reads of an entry of a profile's ``backends``.

    Where an entry also has ``formats`` that are not empty, only those are taken. Its ``precisions`` are those that are
    fast: a CPU takes the others after them, an ``accelerator`` does not take them at all.
    """

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> dict[str, Any]: ...


class Cluster(Protocol):
    """What selection reads of a CPU cluster."""

    @property
    def count(self) -> int: ...


class Cpu(Protocol):
    """What selection reads of a profile's ``cpu``."""

    @property
    def clusters(self) -> Sequence[Any]: ...


class Board(Protocol):
    """What selection reads of a device profile; `edgesdk.profiles.DeviceProfile` is one."""

    @property
    def id(self) -> str: ...
    @property
    def backends(self) -> Sequence[Preference]: ...
    @property
    def cpu(self) -> Cpu: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variant that can run here."""

    variant: Variant
    backend: Backend
    options: dict[str, Any] = field(default_factory=dict)
    """The backend's own options, from the profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What can run, best first, and what cannot."""

    choices: tuple[Choice, ...]
    """By the profile's order of backends, then the precisions that it calls fast, then the manifest's order of variants;
    never empty."""
    rejected: tuple[str, ...]
    """One reason for each candidate that fell away, in the order in which they were considered."""
    downgrades: tuple[str, ...] = ()
    """Those of ``rejected`` that the profile puts before the first choice, and that concern this bundle (not a format that
    it never had): what a loader warns of. The rest is for `edgesdk doctor` and the log."""


def get_backend(name: str) -> Backend:
    """The backend registered as ``name``; its runtime is not imported yet.

    Raises:
        PluginError: The name is unknown (with the nearest one), or its module does not import.
    """
    backend: Backend = registry.load_plugin(registry.BACKENDS, name)()
    return backend


def candidates(bundle_manifest: Manifest, profile: Board, *, backend: str = AUTO, variant: str = AUTO) -> Selection:
    """Walk the profile's backends in its order, and find the variants that each can run here.

    Args:
        bundle_manifest: Says which variants there are, best first.
        profile: Says which backends this board prefers, and with which options.
        backend: ``auto``, or the only one to consider, in the profile's list or not.
        variant: ``auto``, or the id of the only one to consider.

    Raises:
        NoBackendError: The variant is unknown, or nothing can run; with the reason of each candidate.
        PluginError: The backend that was asked for is not registered; with the nearest name.
    """
    variants = _variants(bundle_manifest, variant)
    choices: list[Choice] = []
    rejected: list[str] = []
    downgrades: list[str] = []
    for name, options, limits in _preferences(profile, backend):
        found = _usable(name, options, limits, asked_for=backend != AUTO)
        if isinstance(found, str):
            rejected.append(found)
            if not choices and _concerns(name, limits, variants):
                downgrades.append(found)
            continue
        fast = getattr(limits, "precisions", None) or ()
        for candidate in sorted(variants, key=lambda one: bool(fast) and one.precision not in fast):
            reason = _unfit(candidate, found, limits, profile.id)
            if reason:
                rejected.append(f"{candidate.id} on {name}: {reason}")
                if not choices and candidate.format in found.formats:
                    downgrades.append(rejected[-1])
            else:
                choices.append(Choice(variant=candidate, backend=found, options=dict(options)))
    if not choices:
        asked = [f"backend {backend!r}" if backend != AUTO else "", f"variant {variant!r}" if variant != AUTO else ""]
        what = " and ".join(filter(None, asked)) or f"none of the backends of profile {profile.id!r}"
        raise NoBackendError(
            f"{bundle_manifest.name}: {what} cannot run this bundle here. Follow one of the lines below, or convert the "
            f"model for this board: edgesdk convert MODEL --device {profile.id}",
            tuple(rejected) or (f"profile {profile.id!r} names no backends: add them, or name one with backend=...",),
        )
    return Selection(choices=tuple(choices), rejected=tuple(rejected), downgrades=tuple(downgrades))


def session_options(
    profile: Board,
    model_size_bytes: int,
    *,
    threads: int = 0,
    graph_cache: Path | None = None,
    extra: dict[str, Any] | None = None,
) -> SessionOptions:
    """Options that suit a shared small board.

    Args:
        profile: Its quickest cluster bounds the threads: one slow core in a parallel section slows all of them.
        model_size_bytes: Size of the model's file; small ones get one thread.
        threads: Overrules both; 0 chooses.
        graph_cache: Folder for optimised graphs; None keeps none.
        extra: The backend's own options (``Choice.options``).
    """
    cores = min(_fast_cores(profile), usable_cores())
    return SessionOptions(
        threads=threads or choose_threads(model_size_bytes, cores),
        cores=cores,
        graph_cache=graph_cache,
        extra=dict(extra or {}),
    )


def _fast_cores(profile: Board) -> int:
    clusters = profile.cpu.clusters
    if not clusters:
        return usable_cores()
    quickest = max(clusters, key=lambda cluster: (getattr(cluster, "clock_hz", 0) or 0, cluster.count))
    return int(quickest.count) or usable_cores()


def _variants(manifest: Manifest, variant: str) -> tuple[Variant, ...]:
    if variant == AUTO:
        return manifest.variants
    found = tuple(candidate for candidate in manifest.variants if candidate.id == variant)
    if not found:
        known = [candidate.id for candidate in manifest.variants]
        raise NoBackendError(
            f"{manifest.name}: no variant {variant!r} in this bundle.{nearest(variant, known)} It has: {', '.join(known)}."
        )
    return found


def _preferences(profile: Board, backend: str) -> list[tuple[str, dict[str, Any], Any]]:
    """Name, options and limits of the backends to consider."""
    listed = [(entry.name, entry.options, entry) for entry in profile.backends]
    if backend == AUTO:
        return listed
    # A backend that the profile does not list runs on the user's word, with no options.
    return [entry for entry in listed if entry[0] == backend] or [(backend, {}, None)]


def _usable(name: str, options: dict[str, Any], limits: Any, *, asked_for: bool) -> Backend | str:
    """The backend, or why it cannot be used at all."""
    known = registry.plugins(registry.BACKENDS)
    if name not in known and not asked_for:
        said = getattr(limits, "note", None)
        return (
            f"{name}: no such backend is registered here (known: {', '.join(sorted(known))}). "
            f"{f'The profile says: {said}' if said else 'Install the distribution that brings it.'}"
        )
    try:
        backend = get_backend(name)
    except PluginError as error:
        if asked_for:
            raise
        return f"{name}: {error}"
    there = backend.availability()
    if not there.available:
        return f"{name}: {there.reason}. Fix: {there.fix}"
    if isinstance(backend, ChoosyBackend):
        try:
            objection = backend.objection(options)
        except BackendError as error:
            objection = str(error)
        if objection:
            return f"{name}: {objection}"
    return backend


def _concerns(name: str, limits: Any, variants: Sequence[Variant]) -> bool:
    """Whether a backend that cannot be used could have run one of these variants, as far as is known."""
    formats = getattr(limits, "formats", None)
    if not formats and name in registry.plugins(registry.BACKENDS):
        try:
            formats = get_backend(name).formats
        except PluginError:
            formats = None
    return not formats or any(variant.format in formats for variant in variants)


def _unfit(variant: Variant, backend: Backend, limits: Any, profile_id: str) -> str:
    """Why this variant does not run on this backend here, or an empty text."""
    formats = backend.formats & frozenset(getattr(limits, "formats", None) or backend.formats)
    if variant.format not in formats:
        return f"it is {variant.format}, this backend takes {', '.join(sorted(formats)) or 'nothing of the profile'}"
    if variant.target is not None and variant.target != profile_id:
        return (
            f"it was compiled for {variant.target}, this board is {profile_id}. Convert it again: edgesdk convert MODEL "
            f"--device {profile_id}"
        )
    precisions = getattr(limits, "precisions", None)
    accelerator = getattr(limits, "accelerator", None)
    if accelerator and precisions and variant.precision not in precisions:
        return (
            f"it is {variant.precision}, the accelerator {accelerator} takes {', '.join(precisions)}. Convert it again"
        )
    return ""
