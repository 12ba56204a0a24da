"""The one way to find plug-ins: entry-point groups, where built-ins register like everybody else's."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edgesdk.errors import PluginError

BACKENDS = "edgesdk.backends"
TASKS = "edgesdk.tasks"
CASCADES = "edgesdk.cascades"
SOURCES = "edgesdk.sources"
CODECS = "edgesdk.codecs"
COMMANDS = "edgesdk.commands"
DEMO = "edgesdk.demo"


@cache
def plugins(group: str) -> dict[str, EntryPoint]:
    """Entry points of ``group`` by name, unloaded.

    Raises:
        PluginError: Two different registrations share a name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(
                f"entry-point group {group}: {point.name!r} is registered twice, as {other.value} and as "
                f"{point.value}. Uninstall one of the two distributions."
            )
    return found


def load_plugin(group: str, name: str) -> Any:
    """Import and return the object registered as ``name``.

    Raises:
        PluginError: The name is unknown (with the nearest one), or its module does not import.
    """
    known = plugins(group)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PluginError(f"{group}: {name!r} is unknown.{hint} Known: {', '.join(sorted(known)) or 'none'}.")
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{group}: {name!r} ({known[name].value}) does not load: {error}") from error
