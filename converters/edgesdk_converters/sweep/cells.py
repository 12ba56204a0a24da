"""The cells of a sweep: one conversion each, with a key that changes when anything that goes in changes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import msgspec

from edgesdk.errors import ConversionError
from edgesdk_converters.sweep.file import DEFAULT, ModelEntry, SweepFile, is_file, label_of, located

_FILE_ROLES = ("source", "calibration", "evaluation", "spec", "state_dict")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One conversion."""

    model: str
    recipe: str
    """Its name, or :data:`~edgesdk_converters.sweep.file.DEFAULT`."""
    board: str
    """Profile id."""
    key: str
    """sha256 over everything that goes in, and the version of the converters."""
    arguments: dict[str, str]
    """Of the conversion; paths are absolute."""
    files: dict[str, str]
    """Path inside a parcel -> file here: what another machine needs."""
    moved: dict[str, str]
    """Argument -> its path inside the parcel."""

    @property
    def slug(self) -> str:
        """Name of its files in the results."""
        return f"{self.model}.{self.recipe}.{self.board}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.model}, {self.recipe}, {self.board}"


def cells_of(sweep: SweepFile, base: Path) -> list[Cell]:
    """All of them, model by model.

    Args:
        sweep: As read.
        base: Folder of the sweep file.

    Raises:
        ConversionError: A file that goes in cannot be read.
    """
    hashes = _Hashes()
    return [
        _cell(name, entry, recipe, board, base, hashes)
        for name, entry in sweep.models.items()
        for recipe in (sweep.recipes or (None,))
        for board in sweep.boards
    ]


def _cell(name: str, entry: ModelEntry, recipe: str | None, board: str, base: Path, hashes: _Hashes) -> Cell:
    from edgesdk.profiles import load_profile

    profile = load_profile(located(board, base))
    arguments = {"device": str(located(board, base)), "optimize": entry.optimize, "name": name}
    moved: dict[str, str] = {}
    files: dict[str, str] = {}
    digests: dict[str, str] = {
        "device": hashlib.sha256(msgspec.json.encode(profile, order="deterministic")).hexdigest()
    }
    for role in _FILE_ROLES:
        given = getattr(entry, role)
        if given is None:
            continue
        path = (base / given).resolve()
        if role == "source" and not path.exists():
            arguments[role] = given
            digests[role] = _factory_digest(given)
            continue
        arguments[role], moved[role] = str(path), f"{role}/{path.name}"
        with_it = {f"{role}/{inside}": file for inside, file in _files(role, path)}
        files |= {inside: str(file) for inside, file in with_it.items()}
        digests[role] = _digest({inside: hashes.of(file) for inside, file in with_it.items()})
    if is_file(board):
        path = Path(arguments["device"])
        moved["device"] = f"device/{path.name}"
        # What it extends lies beside it.
        files |= {f"device/{other.name}": str(other) for other in sorted(path.parent.glob("*.y*ml"))}
    label = DEFAULT
    if recipe is not None:
        label = label_of("recipes", recipe, base)
        arguments["recipe"] = str(located(recipe, base))
        digests["recipe"] = label
        if is_file(recipe):
            path = Path(arguments["recipe"])
            moved["recipe"], files[f"recipe/{path.name}"] = f"recipe/{path.name}", str(path)
            digests["recipe"] = hashes.of(path)
    # Where the files lie does not matter, what they hold and how they are called does.
    values = {role: moved.get(role, value) for role, value in arguments.items()}
    key = _digest({**{f"={k}": v for k, v in values.items()}, **digests, "": version("edgesdk-converters")})
    return Cell(model=name, recipe=label, board=profile.id, key=key, arguments=arguments, files=files, moved=moved)


def _digest(parts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Hashes:
    """Hashes every file once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, file: Path) -> str:
        if file not in self._known:
            digest = hashlib.sha256()
            try:
                with file.open("rb") as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
            except OSError as error:
                raise ConversionError(f"{file}: cannot be read: {error.strerror}. Check the file.") from error
            self._known[file] = digest.hexdigest()
        return self._known[file]


def _files(role: str, path: Path) -> Iterator[tuple[str, Path]]:
    """What belongs to an argument, by its path from the argument's own folder."""
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.is_file())
        yield from ((f"{path.name}/{one.relative_to(path).as_posix()}", one) for one in found)
        return
    yield path.name, path
    if role == "source" and path.suffix == ".onnx":
        for location in _external(path):
            beside = path.parent / location
            if beside.resolve().is_relative_to(path.parent.resolve()) and beside.is_file():
                yield location, beside
    if role == "spec":
        # A labels file lies beside its spec; which one is the spec's business.
        yield from ((one.name, one) for one in sorted(path.parent.glob("*.txt")) if one.is_file())


def _external(path: Path) -> list[str]:
    """Files in which an ONNX model keeps its weights."""
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - the conversion itself says what is wrong with the file
        return []
    tensors = model.graph.initializer
    found = {entry.value for t in tensors for entry in t.external_data if entry.key == "location"}
    return sorted(found)


def _factory_digest(factory: str) -> str:
    """Of the module's source, as far as it can be found without importing it."""
    module = factory.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    except (ImportError, ValueError, OSError):
        pass  # it is the conversion that says that the module is not there
    return "unknown"
