"""Finds device profiles, merges what they extend, and checks them."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from edgesdk import registry
from edgesdk.errors import ProfileError, ProfileNotFoundError
from edgesdk.profiles import facts
from edgesdk.profiles.model import OLDEST_PYTHON, DeviceProfile
from edgesdk.schema.reading import Document, decode_document, raise_problems, read_tree
from edgesdk.schema.tree import Entry, Mapping, Node, Problem, Scalar

ENVIRONMENT = "EDGESDK_PROFILES"
"""Folders with a user's own profiles, separated like PATH; they come before the shipped ones."""
LATER_BACKENDS = ("edgetpu", "ethos-u", "hailo", "ncnn", "openvino", "qnn", "rknn", "tensorrt")
"""Backends that profiles may list although no plug-in for them is shipped yet; the selection says why they fall away."""
_NOT_INHERITED = ("id", "name", "extends", "recognise", "description")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedProfile:
    """A profile and where its numbers come from."""

    profile: DeviceProfile
    files: tuple[Path, ...]
    """The profile's own file first, then those that it extends."""
    sources: dict[str, str]
    """Source id by the path of each number, ``cpu.clusters[0].clock``."""


def profiles_folder() -> Path:
    """The shipped profiles: inside the installed package, else in the checkout.

    Raises:
        ProfileNotFoundError: Neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package / "_device_profiles", package.parent / "device_profiles")
    for place in places:
        if place.is_dir():
            return place
    raise ProfileNotFoundError(
        f"the shipped device profiles are missing: neither {places[0]} nor {places[1]} is a folder. "
        f"Reinstall: pip install --force-reinstall edgesdk"
    )


def folders() -> tuple[Path, ...]:
    """Where profiles are looked for, the user's own first.

    Raises:
        ProfileError: EDGESDK_PROFILES names something that is no folder.
    """
    own = [Path(text) for text in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if text]
    missing = [
        f"{ENVIRONMENT}: {folder} is no folder. Create it, or correct the variable."
        for folder in own
        if not folder.is_dir()
    ]
    if missing:
        raise ProfileError(missing)
    return (*own, profiles_folder())


def profile_files() -> dict[str, Path]:
    """Every profile's file by its id, sorted; a user's own profile hides a shipped one of the same id."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in sorted(folder.glob("*.yaml")):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def profile_ids() -> tuple[str, ...]:
    """Ids of all profiles, sorted."""
    return tuple(profile_files())


def load_profile(id_or_path: str | Path) -> DeviceProfile:
    """Load a device profile.

    Args:
        id_or_path: An id such as ``raspberry-pi-4``, or a YAML file (a Path, or text with a slash or ``.yaml``).

    Raises:
        ProfileNotFoundError: No profile has this id; the text has the nearest one.
        ProfileError: The file is wrong; every problem at once.
    """
    return read_profile(id_or_path).profile


def read_profile(id_or_path: str | Path) -> LoadedProfile:
    """Like :func:`load_profile`, with the files and the source of each number."""
    path = _file(id_or_path)
    chain = _chain(path)
    _check_facts([node for _, node in chain])
    merged = chain[-1][1]
    for _, child in reversed(chain[:-1]):
        merged = _merge(merged, child, top=True)
    document = decode_document(merged, DeviceProfile, error=ProfileError)
    _check(document, path)
    profile = document.check()
    by_file = {str(file): {number.path: number.sources[0] for number in facts.numbers(node)} for file, node in chain}
    sources = {number.path: by_file[number.node.file][number.path] for number in facts.numbers(merged)}
    return LoadedProfile(profile=profile, files=tuple(file for file, _ in chain), sources=sources)


def _file(id_or_path: str | Path) -> Path:
    text = str(id_or_path)
    if isinstance(id_or_path, Path) or os.sep in text or text.endswith((".yaml", ".yml")):
        return Path(id_or_path)
    known = profile_files()
    if text not in known:
        near = difflib.get_close_matches(text, known, n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ProfileNotFoundError(
            f"device profile '{text}' is unknown.{hint} Known: {', '.join(known)}. "
            f"Your own: put {text}.yaml into a folder and name it in {ENVIRONMENT}, or give the file's path."
        )
    return known[text]


def _chain(path: Path) -> list[tuple[Path, Node]]:
    """The profile's tree and those of its ancestors, child first."""
    chain = [(path, read_tree(path, error=ProfileError))]
    while True:
        file, node = chain[-1]
        entry = node.entries.get("extends") if isinstance(node, Mapping) else None
        if entry is None or not isinstance(entry.node, Scalar) or not isinstance(entry.node.value, str):
            return chain
        parent = entry.node.value
        found = _parent_file(parent, file, entry)
        seen = [member.resolve() for member, _ in chain]
        if found.resolve() in seen:
            circle = " -> ".join([*(member.stem for member, _ in chain[seen.index(found.resolve()) :]), found.stem])
            text = f"extends: the profile extends itself: {circle}. Remove this line, or name another profile."
            raise ProfileError([f"{file}:{entry.line}: {text}"])
        chain.append((found, read_tree(found, error=ProfileError)))


def _parent_file(parent: str, child: Path, entry: Entry) -> Path:
    beside = {file.stem: file for file in sorted(child.parent.glob("*.yaml"))}
    known = {**profile_files(), **beside}
    if parent in known:
        return known[parent]
    near = difflib.get_close_matches(parent, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if parent.endswith((".yaml", ".yml")) and (name := Path(parent).stem) in known:
        hint = f" Write the id, without the suffix: {name}."
    raise ProfileError(
        [f"{child}:{entry.line}: extends: profile '{parent}' is unknown.{hint} Known: {', '.join(known)}."]
    )


def _check_facts(nodes: list[Node]) -> None:
    known: set[str] = set()
    problems: list[Problem] = []
    for node in reversed(nodes):
        described = node.entries.get("sources") if isinstance(node, Mapping) else None
        if described is not None and isinstance(described.node, Mapping):
            known |= set(described.node.entries)
        problems += facts.check(node, known)
    raise_problems(problems, ProfileError)


def _merge(parent: Node, child: Node, *, top: bool = False) -> Node:
    """The child's tree, with the parent's entries where the child has none; lists are replaced, ``null`` removes."""
    if not isinstance(parent, Mapping) or not isinstance(child, Mapping):
        return child
    entries = {key: entry for key, entry in parent.entries.items() if not (top and key in _NOT_INHERITED)}
    for key, entry in child.entries.items():
        if isinstance(entry.node, Scalar) and entry.node.value is None and entry.node.text:
            entries.pop(key, None)
        elif key in entries:
            entries[key] = Entry(file=entry.file, line=entry.line, node=_merge(entries[key].node, entry.node))
        else:
            entries[key] = entry
    return Mapping(file=child.file, line=child.line, entries=entries)


def _check(document: Document[DeviceProfile], path: Path) -> None:
    """What one part alone cannot know."""
    profile = document.value
    if profile.id != path.stem:
        document.add(
            ("id",),
            f"'{profile.id}' is not the file's name '{path.stem}'. Write 'id: {path.stem}', or rename the file to {profile.id}.yaml.",
        )
    known = sorted({*registry.plugins(registry.BACKENDS), *LATER_BACKENDS})
    accelerators = [one.id for one in profile.accelerators]
    for index, backend in enumerate(profile.backends):
        if backend.name not in known:
            near = difflib.get_close_matches(backend.name.lower(), known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            document.add(
                ("backends", index, "name"), f"backend '{backend.name}' is unknown.{hint} Known: {', '.join(known)}."
            )
        if backend.accelerator is not None and backend.accelerator not in accelerators:
            near = difflib.get_close_matches(backend.accelerator, accelerators, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            document.add(
                ("backends", index, "accelerator"),
                f"'{backend.accelerator}' is no id of 'accelerators'.{hint} Known: {', '.join(accelerators) or 'none'}.",
            )
    python = profile.software.python
    if python is not None and _version(python) < OLDEST_PYTHON and not profile.software.advice:
        needed = ".".join(map(str, OLDEST_PYTHON))
        document.add(
            ("software", "python"),
            f"Python {python} is older than {needed}, which edgesdk needs. Add 'advice:' that names the way round it.",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
