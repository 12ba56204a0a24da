"""From bundles to a :class:`Model`: the profile, the candidates, the quickest of them, the cascade."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk import registry
from edgesdk.backends.api import SessionOptions
from edgesdk.backends.cache import cache_dir
from edgesdk.backends.select import Choice, candidates, session_options
from edgesdk.bundle import Bundle
from edgesdk.errors import BundleError, TaskError
from edgesdk.model.choosing import Chooser
from edgesdk.model.model import Model, Part
from edgesdk.tasks import make_task
from edgesdk.tasks.api import Cascade

if TYPE_CHECKING:
    from edgesdk.profiles import DeviceProfile

FLOAT_BYTES = {"fp32": 1, "fp16": 2, "int8": 4, "w8a16": 4, "dynamic": 4, "w8": 4, "w4a8": 8, "w4": 8}
"""Bytes of a float32 file per byte of a file in this precision."""


def load(
    *bundles: str | Path | Bundle,
    backend: str = "auto",
    variant: str = "auto",
    profile: str | Path | DeviceProfile | None = None,
    threads: int = 0,
) -> Model:
    """Open a bundle for this board.

    The variants that can run here are timed at the first load; the winner is kept in the cache (`EDGESDK_CACHE`, else
    `~/.cache/edgesdk`), so that later loads open it at once.

    Args:
        *bundles: Paths of `.edge` files or unpacked folders, or open bundles (which stay open). Several make a cascade.
        backend: ``auto`` follows the profile; else the only backend to use, for example ``onnxruntime``.
        variant: ``auto`` takes the quickest; else the id of the only variant to use.
        profile: Id or file of a device profile, or one that is loaded; None detects this board.
        threads: Threads of one inference; 0 chooses by cores and model size.

    Returns:
        The model, warmed up by one inference. Close it, or use it as a context manager.

    Raises:
        BundleError: A bundle cannot be read; its subclasses say why.
        NoBackendError: Nothing here can run it, with the reason of each candidate.
        TaskError: The contract does not fit its task, or the bundles make no cascade.
        MissingExtraError: The task needs an optional dependency; the text has the pip line.

    Warns:
        BackendFallbackWarning: A candidate that this board prefers fell away.
        PromiseWarning: A variant that was to be quicker than float is not, on this board.
    """
    if not bundles:
        raise BundleError("load() got no bundle, expected at least one path of an .edge file.")
    board = _board(profile)
    with ExitStack() as opened, ExitStack() as sessions:
        parts = []
        for item in bundles:
            bundle = item if isinstance(item, Bundle) else opened.enter_context(Bundle.open(item))
            part = _part(bundle, board, backend=backend, variant=variant, threads=threads)
            sessions.callback(part.session.close)
            parts.append(part)
        if len(parts) == 1:
            model = Model(parts[0].manifest.name, tuple(parts))
        else:
            name, cascade = _cascade(parts)
            model = Model(name, tuple(parts), cascade)
        sessions.pop_all()
    return model


def _board(profile: str | Path | DeviceProfile | None) -> DeviceProfile:
    from edgesdk.profiles import load_profile, this_board

    if profile is None:
        return this_board()
    return load_profile(profile) if isinstance(profile, str | Path) else profile


def _part(bundle: Bundle, board: DeviceProfile, *, backend: str, variant: str, threads: int) -> Part:
    manifest = bundle.manifest
    task = make_task(manifest.contract)
    selection = candidates(manifest, board, backend=backend, variant=variant)

    # Every variant does the same work: threads follow from the float size, or int8 files would look small and get one.
    work_bytes = max(manifest.files[v.file].size_bytes * FLOAT_BYTES[v.precision] for v in manifest.variants)

    def options(choice: Choice) -> SessionOptions:
        graphs = cache_dir() / "graphs"
        return session_options(board, work_bytes, threads=threads, graph_cache=graphs, extra=choice.options)

    running = Chooser(
        bundle=bundle,
        selection=selection,
        options=options,
        memory_bytes=board.memory.size_bytes,
        accelerated=frozenset(entry.name for entry in board.backends if entry.accelerator is not None),
    ).choose()
    for notice in running.notices:
        warnings.warn(notice, stacklevel=3)
    return Part(
        manifest=manifest,
        identity=bundle.identity,
        variant=running.choice.variant,
        backend=running.choice.backend.name,
        session=running.session,
        task=task,
    )


def _cascade(parts: list[Part]) -> tuple[str, Cascade]:
    """The cascade that takes exactly these tasks."""
    tasks = {part.manifest.contract.task: part.task for part in parts}
    names = [part.manifest.contract.task for part in parts]
    if len(tasks) < len(parts):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise TaskError(
            f"two bundles have the task {', '.join(twice)}; a cascade takes one each. Load them one by one."
        )
    known = []
    for name in sorted(registry.plugins(registry.CASCADES)):
        kind: type[Cascade] = registry.load_plugin(registry.CASCADES, name)
        needed = set(kind.tasks) - kind.optional
        if needed <= set(tasks) <= set(kind.tasks):
            return name, kind({task: tasks[task] for task in kind.tasks if task in tasks})
        steps = (f"[{task}]" if task in kind.optional else task for task in kind.tasks)
        known.append(f"{name} ({' + '.join(steps)})")
    raise TaskError(
        f"bundles of the tasks {', '.join(names)} make no cascade. Known: {'; '.join(known) or 'none'}. "
        "Load them one by one, or add the missing bundle."
    )
